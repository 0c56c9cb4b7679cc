"""Small questions to whatever listens on a port."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gainwatt.serving.ask import ask, ask_json, is_healthy


@pytest.fixture
def url():
    """Something that speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/health"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_redirection_does_not_take_the_key_to_another_host():
    seen = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(200 if self.path == "/there" else 302)
            self.send_header("Location", f"http://localhost:{server.server_port}/there")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        status, _ = ask(f"http://127.0.0.1:{server.server_port}/here", {"Authorization": "Bearer sesame"})
        server.shutdown()
    assert (status, seen) == (302, ["Bearer sesame"])


def test_what_speaks_no_http_is_nobody(url):
    with pytest.raises(OSError, match="no HTTP answer"):
        ask(url)
    assert not is_healthy(url)
    assert ask_json(url) is None
