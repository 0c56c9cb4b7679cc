"""The batches with which work begins and ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.batches import first_and_last


@given(st.lists(st.integers(), max_size=40), st.integers(1, 12))
def test_they_are_the_ends_of_the_batches(waiting, size):
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    assert first_and_last(waiting, size) == ([batches[0], batches[-1]] if len(batches) > 1 else batches)


def test_no_size_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        first_and_last([1], 0)
