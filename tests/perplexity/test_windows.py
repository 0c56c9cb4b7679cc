"""Every token is scored once, with the context that the stride promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.perplexity.windows import cut, encode


class Words:
    """A tokenizer with one token per character."""

    bos_token_id = None
    eos_token_id = 7

    def __call__(self, text, **options):
        assert options["add_special_tokens"] is False
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids):
        return "".join(map(chr, ids))


def test_windows_by_hand():
    assert list(cut(10, window=4, stride=2)) == [(0, 4, 1), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    assert list(cut(9, window=4, stride=3)) == [(0, 4, 1), (3, 7, 4), (6, 9, 7)]
    assert list(cut(3, window=4, stride=2)) == [(0, 3, 1)]
    assert list(cut(1, window=4, stride=2)) == list(cut(0, window=4, stride=2)) == []


@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_every_token_but_the_first_is_scored_once(length, window, data):
    stride = data.draw(st.integers(1, window - 1))
    scored = []
    for begin, end, first in cut(length, window=window, stride=stride):
        assert 0 <= begin < first < end <= length
        assert end - begin <= window
        assert first == 1 or first - begin >= window - stride
        scored += range(first, end)
    assert scored == list(range(1, length))


def encoded(documents, **changed):
    settings = {"window": 4, "stride": 2, "prefix": "auto", "max_tokens": None} | changed
    return encode(Words(), documents, **settings)


def test_a_prefix_lets_every_token_be_scored():
    got = encoded(["abc", "de"])
    assert got.sequences == ((7, 97, 98, 99), (7, 100, 101))
    assert (got.tokens, got.prefix_token_id) == (5, 7)
    assert [window.document for window in got.windows] == [0, 1]
    bare = encoded(["abc", "de"], prefix="none")
    assert (bare.tokens, bare.prefix_token_id) == (3, None)


def test_bytes_and_words_as_lm_eval_counts_them():
    got = encoded(["a b\nc", " é"])
    assert got.text_bytes == 5 + 3
    assert got.words == 3 + 2  # a leading space makes an empty first word there


def test_a_limit_cuts_text_and_counts():
    got = encoded(["abc", "defg", "hij"], max_tokens=5)
    assert got.sequences == ((7, 97, 98, 99), (7, 100, 101))
    assert (got.text_bytes, got.words, got.tokens) == (5, 2, 5)


def test_the_hash_stands_for_the_tokens():
    assert encoded(["ab"]).sha256 == encoded(["ab"], window=3).sha256
    assert encoded(["ab"]).sha256 != encoded(["a", "b"]).sha256
    assert encoded(["ab"]).sha256 != encoded(["ab"], prefix="none").sha256


def test_nothing_to_score():
    with pytest.raises(InputError, match="no token to score"):
        encoded(["a"], prefix="none")
    tokenizer = Words()
    tokenizer.eos_token_id = None
    with pytest.raises(InputError, match="neither a start nor an end token"):
        encode(tokenizer, ["a"], window=4, stride=2, prefix="auto", max_tokens=None)
