"""The loop behind `gainwatt.serving.client.run_load`: due requests out, bytes in, limits watched."""

from __future__ import annotations

import contextlib
import resource
import selectors
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence

from gainwatt.serving.connection import IDLE_MAX_NS, Connection
from gainwatt.serving.http import StreamError
from gainwatt.serving.limits import Watch
from gainwatt.serving.poller import Poller
from gainwatt.serving.requests import Limits, Request, RequestLog, Target
from gainwatt.serving.stream import Stream
from gainwatt.serving.wire import encode, resolve

_STAGGER_NS = 100_000  # between the openings of two slots
_LEAD_NS = 2_000_000  # between the start of the clock and the first request
_CHECK_NS = 250_000_000  # between two looks at the limits of time and growth
_CONNECT_NS = 2_000_000_000  # for the connections of a closed loop, all together
_BLOCKED_NS = 50_000  # a poll that took longer had nothing to return at first


class Load:
    """One load. After `run`: `log`, `lags_ns`, `started_ns`, `ended_ns`, `in_flight_max`, `ended_early`."""

    def __init__(
        self,
        target: Target,
        requests: Sequence[Request],
        slots: int | None,
        timeout_s: float,
        limits: Limits,
        on_event: Callable[[str, RequestLog], None] | None,
        count_tokens: Callable[[str], int] | None,
    ) -> None:
        """Encode the requests, find the server, open connections. Raises InputError and UnavailableError."""
        self.log: list[RequestLog] = []
        self.lags_ns = array("q")
        self.started_ns = self.ended_ns = 0
        self.in_flight_max = 0
        self.ended_early: str | None = None
        self._address = resolve(target)
        self._messages = encode(target, list(requests))
        self._order = sorted(requests, key=lambda request: request.scheduled_s or 0.0)
        self._slots = slots
        self._timeout_ns = round(timeout_s * 1e9)
        self._on_event = on_event
        self._count_tokens = count_tokens
        self._watch = Watch(limits, len(requests))
        self._due: deque[tuple[int, Request]] = deque()
        self._next = 0  # the first request of the order that is not due yet (closed loop)
        self._idle: list[Connection] = []
        self._busy: dict[int, Connection] = {}  # by the id of the request
        self._deadlines: deque[tuple[int, int]] = deque()  # (time, id) in the order of sending
        _raise_file_limit()
        self._poller = Poller()
        if slots is not None:
            self._open_ahead(min(slots, len(requests)))

    def run(self) -> None:
        """Until all requests have ended, or a limit is reached."""
        self.started_ns = time.monotonic_ns()
        self._plan(self.started_ns + _LEAD_NS)
        polled_ns = check_ns = self.started_ns
        while self.ended_early is None and (self._due or self._busy):
            before_ns = time.monotonic_ns()
            ready = self._poller.wait(self._wake_ns(check_ns + _CHECK_NS))
            after_ns = time.monotonic_ns()
            since_ns = after_ns if after_ns - before_ns > _BLOCKED_NS else polled_ns
            polled_ns = after_ns
            for key, events in ready:
                self._serve(key.data, events, since_ns)
                self._send_due()
            self._send_due()
            self._expire()
            if after_ns >= check_ns + _CHECK_NS:
                check_ns = after_ns
                self.ended_early = self.ended_early or self._watch.periodic(after_ns - self.started_ns, after_ns)
        self._finish()

    def close(self) -> None:
        """Close every connection."""
        for connection in [*self._busy.values(), *self._idle]:
            connection.close()
        self._busy.clear()
        self._idle.clear()
        self._poller.close()

    def _open_ahead(self, number: int) -> None:
        """Connections for all slots, so that the first requests do not wait for them. A refusal shows when sending."""
        until_ns = time.monotonic_ns() + _CONNECT_NS
        opening: set[Connection] = set()
        with contextlib.suppress(StreamError):
            for _ in range(number):
                connection = Connection(self._address, self._poller)
                if connection.connected:
                    self._idle.append(connection)
                else:
                    opening.add(connection)
        while opening and time.monotonic_ns() < until_ns:
            for key, _ in self._poller.wait(until_ns):
                connection = key.data
                if connection not in opening:
                    self._drop_idle(connection)
                    continue
                opening.remove(connection)
                try:
                    connection.writable()
                    self._idle.append(connection)
                except StreamError:
                    connection.close()
        for connection in opening:
            connection.close()

    def _plan(self, first_ns: int) -> None:
        if self._slots is None:
            self._due.extend((first_ns + round((each.scheduled_s or 0.0) * 1e9), each) for each in self._order)
        else:
            self._next = min(self._slots, len(self._order))
            self._due.extend((first_ns + i * _STAGGER_NS, each) for i, each in enumerate(self._order[: self._next]))

    def _wake_ns(self, check_ns: int) -> int:
        wake_ns = min(check_ns, self._due[0][0]) if self._due else check_ns
        return min(wake_ns, self._deadlines[0][0]) if self._deadlines else wake_ns

    def _send_due(self) -> None:
        while self._due and self.ended_early is None and self._due[0][0] <= time.monotonic_ns():
            due_ns, request = self._due.popleft()
            row = RequestLog(id=request.id, scheduled_ns=due_ns)
            self.log.append(row)
            self._deadlines.append((due_ns + self._timeout_ns, request.id))
            self._begin(Stream(row, self._count_tokens), fresh=False)

    def _begin(self, stream: Stream, *, fresh: bool) -> None:
        """Send over an idle connection, or over a new one where there is none, or where `fresh` asks for it."""
        row = stream.log
        try:
            connection = (None if fresh else self._take_idle()) or Connection(self._address, self._poller)
        except StreamError as error:
            self._fail(stream, error)
            return
        connection.stream = stream
        self._busy[row.id] = connection
        self.in_flight_max = max(self.in_flight_max, len(self._busy))
        row.reused = connection.served > 0
        try:
            connection.send(self._messages[row.id])
        except StreamError as error:
            self._broken(connection, error)
            return
        self._note_sent(connection)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.served or time.monotonic_ns() - connection.idle_since_ns < IDLE_MAX_NS:
                return connection
            connection.close()
        return None

    def _note_sent(self, connection: Connection) -> None:
        stream = connection.stream
        if stream is None or stream.log.sent_ns is not None or connection.unsent or not connection.connected:
            return
        stream.log.sent_ns = time.monotonic_ns()
        self.ended_early = self.ended_early or self._watch.sent(stream.log.sent_ns, len(self._busy))
        if self._on_event is not None:
            self._on_event("sent", stream.log)

    def _serve(self, connection: Connection, events: int, since_ns: int) -> None:
        """A connection is ready."""
        stream = connection.stream
        if stream is None:
            self._drop_idle(connection)
            return
        if self._busy.get(stream.log.id) is not connection:
            return  # it was closed a moment ago, in the same round
        try:
            if events & selectors.EVENT_WRITE:
                connection.writable()
                self._note_sent(connection)
            if events & selectors.EVENT_READ:
                self._read(connection, stream, since_ns)
        except StreamError as error:
            self._broken(connection, error)

    def _read(self, connection: Connection, stream: Stream, since_ns: int) -> None:
        data = connection.read()
        if data is None:
            return
        now_ns = time.monotonic_ns()
        self.lags_ns.append(now_ns - since_ns)
        if data:
            waiting = not stream.log.chunk_ns
            stream.feed(data, now_ns)
            if waiting and stream.log.chunk_ns:
                self._watch.first_token(now_ns, stream.log)
        else:
            stream.close()
        if stream.response.finished:
            stream.finish()
            self._release(connection, now_ns)
            self._end(stream.log, "ok", now_ns)

    def _release(self, connection: Connection, now_ns: int) -> None:
        """The answer is complete: keep the connection if the server does."""
        stream = connection.stream
        if stream is not None:
            del self._busy[stream.log.id]
        connection.stream = None
        connection.served += 1
        connection.idle_since_ns = now_ns
        if stream is not None and stream.response.reusable:
            self._idle.append(connection)
        else:
            connection.close()

    def _drop_idle(self, connection: Connection) -> None:
        """Something came over an idle connection: its end, or what nobody asked for."""
        if connection in self._idle:
            self._idle.remove(connection)
            connection.close()

    def _broken(self, connection: Connection, error: StreamError) -> None:
        """The attempt failed; one over a connection that the server had closed meanwhile is made once more."""
        stream = connection.stream
        if stream is None:
            return
        self._busy.pop(stream.log.id, None)
        connection.close()
        if error.kind == "closed" and connection.served:
            stream.log.sent_ns = None
            self._begin(Stream(stream.log, self._count_tokens), fresh=True)
        else:
            self._fail(stream, error)

    def _fail(self, stream: Stream, error: StreamError) -> None:
        stream.count()
        stream.log.error_kind, stream.log.error = error.kind, str(error)
        self._end(stream.log, "error", time.monotonic_ns())

    def _end(self, row: RequestLog, status: str, now_ns: int) -> None:
        row.status, row.ended_ns = status, now_ns
        self.ended_early = self.ended_early or self._watch.ended(row)
        if self._on_event is not None:
            self._on_event("ended", row)
        if self._slots is not None and self._next < len(self._order) and self.ended_early is None:
            self._due.appendleft((now_ns, self._order[self._next]))  # before the slots that have yet to open
            self._next += 1

    def _expire(self) -> None:
        now_ns = time.monotonic_ns()
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, request_id = self._deadlines.popleft()
            connection = self._busy.get(request_id)
            if connection is not None:
                late = f"not ended {self._timeout_ns / 1e9:g} s after it was due"
                self._broken(connection, StreamError("timeout", late))

    def _finish(self) -> None:
        """Whatever is under way now stays unfinished."""
        for connection in self._busy.values():
            if connection.stream is not None:
                connection.stream.count()
        self.ended_ns = max((row.ended_ns for row in self.log if row.ended_ns is not None), default=time.monotonic_ns())
        if any(row.ended_ns is None for row in self.log):
            self.ended_ns = time.monotonic_ns()


def _raise_file_limit() -> None:
    """As many open sockets as the system allows this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
