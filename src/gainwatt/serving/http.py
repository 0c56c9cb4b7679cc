"""The little of HTTP/1.1 and server-sent events that a streamed completion needs, fed with bytes as they arrive.

Sources: RFC 9112 (message framing, chunked coding) and the WHATWG HTML standard, section "Server-sent events". Lines
that end in a lone CR, which the latter allows, are not known from any server of completions and not supported.
"""

from __future__ import annotations

_HEAD_MAX = 65_536
_ERROR_BODY_MAX = 4_096


class StreamError(Exception):
    """An answer that cannot be used; `kind` as in `RequestLog.error_kind`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Response:
    """One response. `feed` bytes, get the payloads of its events.

    `status` is None until the head is complete; `finished` once the body is; `reusable` says whether the connection
    may carry another request. A status other than 200 yields no events; its body is kept in `error_body`.
    """

    __slots__ = (
        "_buffer", "_chunked", "_closing", "_crlf", "_data", "_left", "_tail", "_trailer", "content_type",
        "error_body", "finished", "status",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status: int | None = None
        self.content_type = ""
        self.finished = False
        self.error_body = b""
        self._buffer = b""  # bytes of the framing that are not complete yet
        self._tail = b""  # of the body: a line that is not complete yet
        self._data: list[bytes] = []  # of the body: lines of an event that is not complete yet
        self._chunked = False
        self._left: int | None = None  # bytes missing of the chunk, or of the body of known length
        self._crlf = self._trailer = self._closing = False

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.finished and not self._closing and not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the payloads of the events that they complete. Raises StreamError."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while self.status is None:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                if len(data) > _HEAD_MAX:
                    raise StreamError("malformed", "the head of the answer does not end")
                self._buffer = data
                return []
            self._read_head(head)
            data = rest
        body = self._dechunk(data) if self._chunked else self._take(data)
        if self.status != 200:
            self.error_body = (self.error_body + body)[:_ERROR_BODY_MAX]
            return []
        return self._events(body) if body else []

    def close(self) -> list[bytes]:
        """The other side closed: the regular end of a body without length, else StreamError."""
        if self.finished:
            return []
        if self.status is None:
            raise StreamError("closed", "the server closed the connection before it answered")
        if self._chunked or self._left is not None:
            raise StreamError("cut", "the connection was cut in the middle of the answer")
        self.finished = self._closing = True
        return []

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            raise StreamError("malformed", f"not an HTTP/1.1 answer: {first[:80]!r}")
        if 100 <= int(parts[1]) < 200:
            return  # an interim response: the head of the answer follows
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.content_type = headers.get("content-type", "")
        self._closing = headers.get("connection", "").lower() == "close" or parts[0] == "HTTP/1.0"
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if not self._chunked and "content-length" in headers:
            if not headers["content-length"].isdigit():
                raise StreamError("malformed", f"Content-Length is {headers['content-length'][:20]!r}")
            self._left = int(headers["content-length"])
            self.finished = self._left == 0
        self.status = int(parts[1])

    def _take(self, data: bytes) -> bytes:
        """The body of known length, or up to the end of the connection."""
        if self._left is None:
            return data
        body, self._buffer = data[: self._left], data[self._left :]
        self._left -= len(body)
        self.finished = self._left == 0
        return body

    def _dechunk(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        at, size = 0, len(data)
        while not self.finished:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._crlf = True
            end = data.find(b"\r\n", at)
            if end < 0:
                if size - at > _HEAD_MAX:
                    raise StreamError("malformed", "a chunk without size")
                break
            self._frame(data[at:end])
            at = end + 2
        self._buffer = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _frame(self, line: bytes) -> None:
        """One line between the chunks: the end of a chunk, a size, a trailer, or the end of the trailers."""
        if self._crlf:
            if line:
                raise StreamError("malformed", f"a chunk is longer than it says: {line[:40]!r}")
            self._crlf = False
        elif self._trailer:
            self.finished = not line
        else:
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError:
                raise StreamError("malformed", f"not the size of a chunk: {line[:40]!r}") from None
            self._trailer = self._left == 0

    def _events(self, body: bytes) -> list[bytes]:
        lines = (self._tail + body).split(b"\n")
        self._tail = lines.pop()
        found: list[bytes] = []
        for line in lines:
            text = line[:-1] if line.endswith(b"\r") else line
            if text.startswith(b"data:"):
                self._data.append(text[6:] if text.startswith(b"data: ") else text[5:])
            elif not text and self._data:
                found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
            # else a comment (a ping), `event:`, `id:` or `retry:`, none of which a completion needs
        return found
