"""One connection to the server: opened without waiting, used for one request after another."""

from __future__ import annotations

import errno
import os
import selectors
import socket

from gainwatt.serving.http import StreamError
from gainwatt.serving.poller import Poller
from gainwatt.serving.stream import Stream

# Servers close a connection that was idle for a while (uvicorn: 5 s); one that is about to be closed is not used again.
IDLE_MAX_NS = 3_000_000_000
_READ_BYTES = 16_384

Address = tuple[socket.AddressFamily, tuple[object, ...]]


class Connection:
    """A socket registered with the poller; `stream` is the answer that it waits for, None while it is idle."""

    __slots__ = ("_open", "_out", "_poller", "_socket", "_writing", "idle_since_ns", "served", "stream")

    def __init__(self, address: Address, poller: Poller) -> None:
        """Begin to connect. Raises StreamError (`no_socket`, `refused`)."""
        family, place = address
        self.stream: Stream | None = None
        self.served = 0
        self.idle_since_ns = 0
        self._poller = poller
        self._open = False
        self._out = b""
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise StreamError("no_socket", f"{error}: raise the limit of open files (ulimit -n)") from None
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._socket.connect_ex(place)
        if code == errno.EINPROGRESS:
            # Within one machine a connection stands as soon as it was asked for; the system says so when asked again.
            code = self._socket.connect_ex(place)
        if code not in (0, errno.EISCONN, errno.EINPROGRESS, errno.EALREADY):
            self._socket.close()
            raise StreamError("refused", os.strerror(code))
        self._open = code in (0, errno.EISCONN)
        self._writing = not self._open
        poller.register(self._socket, selectors.EVENT_READ if self._open else selectors.EVENT_WRITE, self)

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the connection."""
        return self._open

    @property
    def unsent(self) -> bool:
        """Whether a part of the request is still here."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Hand as much as possible to the system, the rest when it takes more. Raises StreamError."""
        self._out = data
        if self._open:
            self._flush()

    def writable(self) -> None:
        """The poller says that the connection is open, or failed, or takes more. Raises StreamError."""
        if not self._open:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise StreamError("refused", os.strerror(code))
            self._open = True
        self._flush()

    def read(self) -> bytes | None:
        """What has arrived; b"" where the server closed the connection, None where nothing came after all."""
        try:
            return self._socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close the socket; the server notices that nobody waits for the answer any more."""
        self._poller.unregister(self._socket)
        self._socket.close()

    def _flush(self) -> None:
        if self._out:
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise StreamError("closed", f"while sending: {error}") from None
        if self._writing != bool(self._out):
            self._writing = bool(self._out)
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._writing else 0)
            self._poller.modify(self._socket, wanted, self)
