"""What the client is asked to do: addresses, requests and what is written to the wire."""

from __future__ import annotations

import json
import socket

import pytest

from gainwatt.errors import InputError, UnavailableError
from gainwatt.serving.client import run_load
from gainwatt.serving.requests import Limits, Request, Target
from gainwatt.serving.wire import encode
from serving.mock import start_mock


def send(target, prompts):
    requests = [Request(i, prompt, 3) for i, prompt in enumerate(prompts)]
    return run_load(target, requests, concurrency=4, timeout_s=30.0, stop_when=Limits())


def test_name_of_several_addresses_leads_to_the_one_where_somebody_listens(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with start_mock() as server:
        places = [free, ("127.0.0.1", server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(*kind, place) for place in places])
        result = send(Target(f"http://localhost:{server.port}/v1", "mock"), ["x"])
    assert result.log[0].status == "ok"


@pytest.mark.parametrize(
    ("url", "error"),
    [("https://127.0.0.1:1/v1", InputError), ("127.0.0.1:8000", InputError), ("http://h:port/v1", InputError),
     ("http://no-such-host.invalid/v1", UnavailableError)],
)  # fmt: skip
def test_address_that_cannot_be_used(url, error):
    with pytest.raises(error):
        send(Target(url, "m"), ["x"])


@pytest.mark.parametrize(
    ("requests", "options"),
    [
        ([], {"concurrency": 1}),
        ([Request(0, "x", 1)], {"concurrency": None}),
        ([Request(0, "x", 1)], {"concurrency": 0}),
        ([Request(0, "x", 1, scheduled_s=0.0)], {"concurrency": 2}),
        ([Request(0, "x", 1), Request(0, "y", 1)], {"concurrency": 1}),
        ([Request(0, "x", 1)], {"concurrency": 1, "timeout_s": 0.0}),
    ],
)
def test_requests_that_do_not_fit(requests, options):
    with pytest.raises(InputError):
        run_load(Target("http://127.0.0.1:1/v1", "m"), requests, **{"timeout_s": 1.0, "stop_when": Limits(), **options})


def test_body_holds_what_the_request_asks_for_and_nothing_else():
    target = Target("http://h:1/v1/", "name", {"Authorization": "Bearer k"}, {"repetition_penalty": 1.0})
    message = encode(target, [Request(7, [1, 2], 5, min_tokens=5, ignore_eos=True)])[7]
    head, _, body = message.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: h:1\r\n")
    assert b"Authorization: Bearer k" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {
        "model": "name", "prompt": [1, 2], "max_tokens": 5, "min_tokens": 5, "ignore_eos": True, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True}, "repetition_penalty": 1.0,
    }  # fmt: skip
    with pytest.raises(InputError, match="line break"):
        encode(Target("http://h:1/v1", "m", {"X": "a\r\nB: c"}), [Request(0, "x", 1)])
