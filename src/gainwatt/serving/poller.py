"""Waiting for sockets with an alarm that is precise.

epoll counts its time limit in whole milliseconds, and Python rounds up: an alarm rings up to 1 ms late (asyncio's too,
which is built on it). Here the last two milliseconds are waited by select(2), whose limit counts microseconds, on the
epoll object itself.
"""

from __future__ import annotations

import select
import selectors
import time
from collections.abc import Sequence
from typing import Any

_COARSE_S = 0.002
_SELECT_MAX_FD = 1024


class Poller:
    """A selector whose `wait` ends at a time given in monotonic ns."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        fileno = getattr(self._selector, "fileno", None)
        rounds = isinstance(self._selector, getattr(selectors, "EpollSelector", ()))
        self._fd = fileno() if rounds and fileno is not None and fileno() < _SELECT_MAX_FD else None
        self.register = self._selector.register
        self.modify = self._selector.modify
        self.unregister = self._selector.unregister
        self.close = self._selector.close

    def wait(self, until_ns: int) -> Sequence[tuple[Any, int]]:
        """(key, events) of the sockets that are ready, at once where one is; nothing when the time has come, or before.

        The caller asks again as long as there is something to wait for.
        """
        left_s = (until_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            return self._selector.select(0)
        if self._fd is None:
            return self._selector.select(left_s)
        if left_s > _COARSE_S:
            return self._selector.select(left_s - _COARSE_S / 2)
        select.select((self._fd,), (), (), left_s)
        return self._selector.select(0)
