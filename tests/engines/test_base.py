"""Stop tokens come from the tokenizer and from common chat templates; one rule cuts every engine's answers."""

from __future__ import annotations

import pytest

from gainwatt.engines.base import Request, longest_first, make_completion, stop_token_ids


class Tokenizer:
    def __init__(self, vocabulary, eos):
        self.vocabulary = vocabulary
        self.eos_token_id = eos

    def get_vocab(self):
        return self.vocabulary

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return " ".join(map(str, ids))


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


@pytest.mark.parametrize(
    ("tokens", "text", "count", "reason"),
    [
        ([7, 8, 2, 0, 0], "7 8", 3, "stop"),
        ([7, 8, 9], "7 8 9", 3, "length"),
        ([2], "", 1, "stop"),
        ([7, 3, 2], "7", 2, "stop"),
        ([], "", 0, "length"),
    ],
)
def test_a_completion_is_cut_at_the_first_stop_token_which_is_counted(tokens, text, count, reason):
    found = make_completion(Tokenizer({}, 2), [2, 3], Request(4, (1,)), tokens, latency_s=0.5, batch_size=3)
    assert (found.index, found.text, found.tokens, found.finish_reason) == (4, text, count, reason)
    assert (found.latency_s, found.batch_size) == (0.5, 3)


def test_longest_prompts_come_first_and_ties_keep_the_files_order():
    requests = [Request(0, (1,)), Request(1, (1, 2, 3)), Request(2, (1,)), Request(3, (1, 2, 3))]
    assert [request.index for request in longest_first(requests)] == [1, 3, 0, 2]
