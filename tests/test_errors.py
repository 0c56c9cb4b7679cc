"""An error says what happened and what to do, and has an exit code of its own."""

from __future__ import annotations

import pytest

from gainwatt.errors import GainwattError, InputError, RecordError, UnavailableError


def test_two_lines_with_a_hint_one_without():
    assert str(InputError("x is broken", "mend x")) == "x is broken\n  what to do: mend x"
    assert str(InputError("x is broken")) == "x is broken"


@pytest.mark.parametrize(("kind", "code"), [(InputError, 2), (RecordError, 3), (UnavailableError, 4)])
def test_exit_codes(kind, code):
    assert issubclass(kind, GainwattError)
    assert kind("x").exit_code == code
