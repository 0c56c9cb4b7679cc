"""The one exception that scripts show to a person instead of a traceback."""

from __future__ import annotations


class GainwattError(Exception):
    """What happened, to which input, and what to do next.

    `what` says what happened and names the input; `hint` says what to do about it. A script that ends with this
    error prints both lines and exits with `exit_code`.
    """

    exit_code = 2

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  what to do: {self.hint}" if self.hint else self.what


class InputError(GainwattError):
    """An input file, option or setting cannot be used as it is."""


class RecordError(GainwattError):
    """A record is truncated, foreign, or of another schema version."""

    exit_code = 3


class UnavailableError(GainwattError):
    """The machine lacks what the work needs (a GPU, a package, a network)."""

    exit_code = 4
