"""Small questions to whatever listens on a port."""

from __future__ import annotations

import socket
import threading

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


def test_what_speaks_no_http_is_nobody(url):
    with pytest.raises(OSError, match="no HTTP answer"):
        ask(url)
    assert not is_healthy(url)
    assert ask_json(url) is None
