"""Stop tokens come from the tokenizer and from common chat templates."""

from __future__ import annotations

import pytest

from gainwatt.engines.base import stop_token_ids


class Tokenizer:
    def __init__(self, vocabulary, eos):
        self.vocabulary = vocabulary
        self.eos_token_id = eos

    def get_vocab(self):
        return self.vocabulary


@pytest.mark.parametrize(
    ("vocabulary", "eos", "ids"),
    [
        ({"a": 0, "<|im_end|>": 5}, 5, [5]),
        ({"a": 0, "<|im_end|>": 5, "<|endoftext|>": 3}, 3, [3, 5]),
        ({"<|eot_id|>": 9, "</s>": 2}, 2, [2, 9]),
        ({"a": 0}, None, []),
    ],
)
def test_stop_token_ids(vocabulary, eos, ids):
    assert stop_token_ids(Tokenizer(vocabulary, eos)) == ids
