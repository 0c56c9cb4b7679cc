"""Pieces of a stream are never half of a letter, and together they are the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.serving.local.text import Pieces


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return bytes(ids).decode("utf-8", "replace")


def shown(text, stops=()):
    pieces = Pieces(Bytes(), stops)
    data = text.encode()
    return [pieces.add(byte, last=place == len(data) - 1) for place, byte in enumerate(data)], pieces


@given(st.text(min_size=1))
def test_pieces_make_the_text(text):
    found, pieces = shown(text)
    assert "".join(found) == pieces.text == text


def test_a_letter_comes_with_its_last_byte():
    assert shown("aé😀")[0] == ["a", "", "é", "", "", "", "😀"]


def test_what_is_incomplete_at_the_end_is_shown_as_it_is():
    pieces = Pieces(Bytes())
    assert pieces.add(0xC3) == ""
    assert pieces.rest() == "\ufffd"


@pytest.mark.parametrize("text", ["ab STOP cd", "ab STOP", "STOP", "ab STO", "ab SSTOP x"])
def test_nothing_of_a_stop_string_is_shown(text):
    pieces = Pieces(Bytes(), ("STOP",))
    found = ""
    for byte in text.encode():
        found += pieces.add(byte)
        if pieces.stopped:
            break
    found += pieces.rest()
    assert found == text.partition("STOP")[0]
    assert pieces.stopped == ("STOP" in text)
