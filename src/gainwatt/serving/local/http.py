"""The HTTP side: routes, the API key, streams of server-sent events. Only the standard library is needed."""

from __future__ import annotations

import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from gainwatt.serving.local import answers
from gainwatt.serving.local.batch import Ended, Work
from gainwatt.serving.local.requests import Asked, BadRequestError, read
from gainwatt.serving.local.service import Service
from gainwatt.serving.local.text import Pieces
from gainwatt.serving.spec import is_loopback

LONGEST_BODY = 16 * 2**20
LONGEST_QUEUE = 4096
IDLE_S = 600.0
"""A connection on which nothing arrives for so long is closed."""


class HttpServer(ThreadingHTTPServer):
    """One thread per connection; a burst of connections waits instead of being refused."""

    daemon_threads = True
    request_queue_size = 2048

    def __init__(self, host: str, port: int, service: Service, api_key: str | None) -> None:
        import socket

        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.service = service
        self.api_key = api_key
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "gainwatt"
    sys_version = ""
    disable_nagle_algorithm = True  # each token is sent when it is there
    timeout = IDLE_S
    server: HttpServer

    def do_GET(self) -> None:
        """`/health` is open to everybody, the rest wants the key."""
        service = self.server.service
        if not self._framed():
            return
        if self.headers.get("Content-Length", "0") != "0":
            self.close_connection = True  # a body that nobody reads must not pass for the next request
        if self.path == "/health":
            self._send(200 if service.batcher.alive() else 503, {})
        elif self._allowed():
            pages = {"/v1/models": service.models, "/gainwatt/facts": service.facts}
            page = pages.get(self.path)
            if page is None:
                self._refuse(404, f"there is no page {self.path}")
            else:
                self._send(200, page())

    def do_POST(self) -> None:
        """`/v1/completions` and `/v1/chat/completions`."""
        if not (self._framed() and self._allowed()):
            return
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            self._refuse(404, f"there is no page {self.path}")
            return
        body = self._body()
        if body is None:
            return
        service = self.server.service
        try:
            asked = read(
                body, chat=self.path.startswith("/v1/chat"), model=service.model_name, tokenizer=service.tokenizer,
                stop_ids=service.stop_ids, context=service.context,
            )  # fmt: skip
        except BadRequestError as error:
            self._refuse(400, str(error))
            return
        if service.batcher.load()[1] >= LONGEST_QUEUE:
            self._refuse(503, f"{LONGEST_QUEUE} requests wait already", close=False)
            return
        work = Work(asked.prompt, asked.max_tokens, asked.min_tokens, asked.stop_ids)
        service.batcher.add(work)
        try:
            (self._stream if asked.stream else self._whole)(asked, work)
        finally:
            work.left = True

    def _framed(self) -> bool:
        """Whether the end of the request is beyond doubt (RFC 9112, 6.3); one where it is not is refused.

        Else a proxy and this server could part a connection at different places, and the rest of a body would pass for
        a request of its own.
        """
        lengths = [text.strip() for text in self.headers.get_all("Content-Length", [])]
        if "Transfer-Encoding" in self.headers:
            self._refuse(411, "send a Content-Length and no Transfer-Encoding")
        elif len(lengths) > 1 or not all(text.isascii() and text.isdigit() for text in lengths):
            self._refuse(400, "send one Content-Length, in digits")
        else:
            return True
        return False

    def _allowed(self) -> bool:
        key = self.server.api_key
        if key is None:
            return self._meant_for_here()
        given = self.headers.get("Authorization", "")
        # The time of the comparison must not tell how much of the key was right.
        if hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {key}".encode()):
            return True
        self._refuse(401, "the API key is missing or wrong")
        return False

    def _meant_for_here(self) -> bool:
        """Whether the client calls this machine by a name of its own.

        A server without a key listens on the loopback only. A page in somebody's browser reaches it all the same once
        the page's own name resolves to 127.0.0.1, and then says that name.
        """
        name = self.headers.get("Host", "")
        try:
            host = urlsplit(f"//{name}").hostname
        except ValueError:
            host = None
        if host is not None and is_loopback(host):
            return True
        self._refuse(421, "without an API key, call the server localhost, 127.0.0.1 or [::1]")
        return False

    def _body(self) -> Any | None:
        """The request's JSON; None where it was refused."""
        # A page in somebody's browser can send other types to 127.0.0.1 without asking first.
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "send Content-Type: application/json")
            return None
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            self._refuse(411, "send a Content-Length")
            return None
        if not 0 <= length <= LONGEST_BODY:
            self._refuse(413, f"a body may have {LONGEST_BODY} bytes")
            return None
        try:
            return json.loads(self.rfile.read(length))
        except (ValueError, RecursionError):
            self._refuse(400, "the body is not JSON", close=False)
            return None

    def _whole(self, asked: Asked, work: Work) -> None:
        pieces, tokens = Pieces(self.server.service.tokenizer, asked.stops), []
        end: Ended | None = None
        while end is None:
            heard = work.heard.get()
            if isinstance(heard, Ended):
                end = heard
            else:
                tokens.append(heard)
                if heard not in asked.stop_ids:
                    pieces.add(heard)
            if pieces.stopped:
                end = Ended("stop")
        if end.reason == "error":
            self._refuse(503, end.message, close=False)
            return
        pieces.rest()
        answer = answers.Answer(asked, self.server.service.model_name)
        self._send(200, answer.whole(pieces.text, tokens, end.reason))

    def _stream(self, asked: Asked, work: Work) -> None:
        """One event per token, with the text that it completes; the last one says why it ended."""
        first = work.heard.get()
        if isinstance(first, Ended):  # nothing was sent yet: the failure can still be told by the status
            self._refuse(503, first.message, close=False)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        answer = answers.Answer(asked, self.server.service.model_name)
        pieces, count = Pieces(self.server.service.tokenizer, asked.stops), 0
        token: int | Ended = first
        while not isinstance(token, Ended):
            count += 1
            following = work.heard.get() if self._is_last(asked, token, count) else None
            end = following if isinstance(following, Ended) else None
            text = pieces.add(token, last=end is not None) if token not in asked.stop_ids else pieces.rest()
            if pieces.stopped and end is None:
                end = Ended("stop")
            self._event(answer.piece(text, [token], first=count == 1, reason=end.reason if end else None))
            token = end or work.heard.get()
        if token.reason == "error":
            self._event(answers.error(token.message, "server_error", 503))
        elif asked.include_usage:
            self._event(answer.last(count))
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    @staticmethod
    def _is_last(asked: Asked, token: int, count: int) -> bool:
        return token in asked.stop_ids or count >= asked.max_tokens

    def _event(self, value: Any) -> None:
        self._chunk(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _refuse(self, code: int, message: str, *, close: bool = True) -> None:
        """An error; `close` where the rest of the request may not have been read."""
        self.close_connection = self.close_connection or close
        kind = "invalid_request_error" if code < 500 else "server_error"
        self._send(code, answers.error(message, kind, code))

    def _send(self, code: int, value: Any) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """A line per request would cost more than small answers do."""
