"""Framing of answers: any cutting into pieces gives the same events."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.serving.http import Response, StreamError
from gainwatt.serving.requests import RequestLog
from gainwatt.serving.stream import Stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nTrailer: x\r\n\r\n"


def read(data: bytes, cuts: list[int]) -> tuple[list[bytes], Response]:
    response = Response()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events = [event for a, b in itertools.pairwise(edges) for event in response.feed(data[a:b])]
    return events, response


@given(
    payloads=st.lists(st.binary(min_size=1).filter(lambda b: not set(b"\r\n") & set(b) and not b.startswith(b" "))),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
    end=st.sampled_from([b"\n", b"\r\n"]),
    framing=st.sampled_from(["chunked", "length", "close"]),
    pieces=st.integers(1, 5),
)
def test_any_cutting_gives_the_same_events(payloads, cuts, end, framing, pieces):
    body = b": ping" + end * 2 + b"".join(b"event: x" + end + b"data: " + p + end * 2 for p in payloads)
    size = -(-len(body) // pieces)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    data = {
        "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*parts),
        "length": HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        "close": HEAD + b"Connection: close\r\n\r\n" + body,
    }[framing]
    events, response = read(data, cuts)
    assert events == payloads
    assert response.finished == (framing != "close")
    response.close()
    assert response.finished
    assert response.reusable == (framing != "close")


def test_data_in_several_lines_and_without_space():
    body = b"data:a\ndata: b\n\n"
    assert read(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, [])[0] == [b"a\nb"]


def test_interim_answer_is_passed_over():
    events, response = read(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 9\r\n\r\ndata: a\n\n", [])
    assert (events, response.status) == ([b"a"], 200)


def test_body_of_a_refusal_is_kept_and_no_event():
    events, response = read(b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ndata: a\n\n", [3, 40])
    assert (events, response.status, response.error_body) == ([], 503, b"data: a\n\n")
    assert response.finished


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        b"x" * 70_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    ],
)
def test_what_is_no_http_is_malformed(data):
    with pytest.raises(StreamError) as caught:
        Response().feed(data)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "closed"),
        (HEAD, "closed"),
        (HEAD + b"Content-Length: 9\r\n\r\ndata", "cut"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nda", "cut"),
    ],
)
def test_end_of_the_connection_before_the_end_of_the_answer(data, kind):
    response = Response()
    response.feed(data)
    with pytest.raises(StreamError) as caught:
        response.close()
    assert caught.value.kind == kind


def test_connection_with_bytes_left_over_is_not_used_again():
    _, response = read(HEAD + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK", [])
    assert response.finished
    assert not response.reusable


def test_a_token_without_text_is_counted_and_an_empty_last_chunk_is_not():
    log = RequestLog(0, 0)
    stream = Stream(log, None)
    texts = [("a", None), ("", None), ("b", None), ("", "stop")]
    body = b"".join(
        b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": reason}]}).encode() + b"\n\n"
        for text, reason in texts
    )
    stream.feed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, 7)
    stream.finish()
    assert (log.tokens, log.tokens_from, log.chunk_ns, log.finish_reason) == (3, "chunks", [7] * 4, "stop")


@pytest.mark.parametrize(
    "payload", ["[1]", "{} {}", "7", '{"choices": 7}', '{"choices": [7]}', '{"usage": {"a": 1}}', "\xff", ""]
)
def test_event_that_is_no_completion_is_malformed(payload):
    body = b"data: " + payload.encode("latin-1") + b"\n\n"
    with pytest.raises(StreamError, match="in the event") as caught:
        Stream(RequestLog(0, 0), None).feed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, 0)
    assert caught.value.kind == "malformed"
