"""From tokens to text piece by piece, so that a stream never shows half of a letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BROKEN = "\ufffd"


class Pieces:
    """The text of a growing list of tokens. A piece is held back while its last letter is incomplete.

    Only the tokens since the last complete piece are decoded again, with the piece before them, because tokenizers
    write a word differently at the start of a text.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        """A stop string was found; `text` ends before it."""
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._begin = 0
        self._read = 0
        self._shown = 0

    def add(self, token: int, *, last: bool = False) -> str:
        """The text that `token` completes, perhaps none; with `last` what was held back as well."""
        self._ids.append(token)
        before = self._decoded(self._ids[self._begin : self._read])
        now = self._decoded(self._ids[self._begin :])
        if len(now) > len(before) and (last or not now.endswith(BROKEN)):
            self.text += now[len(before) :]
            self._begin, self._read = self._read, len(self._ids)
        return self._show(last)

    def rest(self) -> str:
        """What was held back."""
        before = self._decoded(self._ids[self._begin : self._read])
        now = self._decoded(self._ids[self._begin :])
        self.text += now[len(before) :]
        self._read = len(self._ids)
        return self._show(True)

    def _show(self, last: bool) -> str:
        """What may be shown: not what could be the start of a stop string."""
        places = [place for stop in self._stops if (place := self.text.find(stop)) >= 0]
        if places:
            self.text, self.stopped = self.text[: min(places)], True
        held = 0 if last or self.stopped else max((len(stop) - 1 for stop in self._stops), default=0)
        end = max(self._shown, len(self.text) - held)
        piece, self._shown = self.text[self._shown : end], end
        return piece

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)) if ids else ""
