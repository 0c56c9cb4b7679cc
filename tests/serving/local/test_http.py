"""The server over HTTP: routes, the key, streams, and what a client may do wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from factories import QUESTIONS
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.serving.ask import ask
from gainwatt.serving.local import http as http_module
from gainwatt.serving.local.http import HttpServer
from gainwatt.serving.local.service import Service, most_requests

KEY = {"Authorization": "Bearer sesame"}


@pytest.fixture(scope="module")
def server(tiny_folder, tiny_checkpoint):
    model = load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")
    service = Service(model, load_tokenizer(tiny_folder), model_name="tiny", context=200, max_rows=8)
    made = HttpServer("127.0.0.1", 0, service, "sesame")
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    service.close()


@pytest.fixture(scope="module")
def root(server):
    return f"http://127.0.0.1:{server.server_port}"


def completion(root, **body):
    status, page = ask(f"{root}/v1/completions", KEY, body={"prompt": [5, 6, 7], "max_tokens": 6, **body}, timeout_s=60)
    return status, json.loads(page)


def events(root, path="/v1/completions", **body):
    status, page = ask(f"{root}{path}", KEY, body={"stream": True, **body}, timeout_s=60)
    assert status == 200
    lines = [line for line in page.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_health_is_open_and_the_rest_is_not(root):
    assert ask(f"{root}/health")[0] == 200
    for path, body in (("/v1/models", None), ("/gainwatt/facts", None), ("/v1/completions", {"prompt": [5]})):
        assert ask(root + path, body=body)[0] == 401
        assert ask(root + path, {"Authorization": "Bearer sesam"}, body=body)[0] == 401
        assert ask(root + path, {"Authorization": "Basic sesame"}, body=body)[0] == 401


@pytest.mark.parametrize(
    ("name", "status"),
    [("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:80", 200), ("evil.example:8000", 421), ("[", 421), ("", 421)],
)
def test_without_a_key_a_foreign_name_is_refused(server, monkeypatch, name, status):
    monkeypatch.setattr(server, "api_key", None)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)) as connection:
        connection.putrequest("GET", "/v1/models", skip_host=True)
        connection.putheader("Host", name)
        connection.endheaders()
        assert connection.getresponse().status == status


def test_models(root):
    status, page = ask(f"{root}/v1/models", KEY)
    (entry,) = json.loads(page)["data"]
    assert (status, entry["id"], entry["max_model_len"]) == (200, "tiny", 200)


def test_a_stream_shows_each_token_and_makes_the_same_answer(root):
    status, whole = completion(root, ignore_eos=True, return_token_ids=True)
    assert status == 200
    assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    found = events(
        root, prompt=[5, 6, 7], max_tokens=6, ignore_eos=True, return_token_ids=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    assert found.pop()["usage"] == whole["usage"]
    assert len(found) == 6
    choices = [chunk["choices"][0] for chunk in found]
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["length"]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [token for choice in choices for token in choice["token_ids"]] == whole["choices"][0]["token_ids"]


def test_a_chat_in_pieces(root):
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    found = events(root, "/v1/chat/completions", messages=messages, max_tokens=3, ignore_eos=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas[0]["role"] == "assistant"
    assert "role" not in deltas[1]
    assert found[0]["object"] == "chat.completion.chunk"
    status, page = ask(
        f"{root}/v1/chat/completions", KEY, body={"messages": messages, "max_tokens": 3, "ignore_eos": True}
    )
    assert status == 200
    assert json.loads(page)["choices"][0]["message"]["content"] == "".join(delta["content"] for delta in deltas)


def test_many_at_once(root):
    def one(place):
        return completion(root, prompt=[5 + place, 6], max_tokens=4 + place, ignore_eos=True)

    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(one, range(20)))
    assert [status for status, _ in together] == [200] * 20
    texts = [answer["choices"][0]["text"] for _, answer in together]
    assert texts == [one(place)[1]["choices"][0]["text"] for place in range(20)]


def test_a_stop_string(root):
    whole = completion(root, ignore_eos=True, max_tokens=12)[1]["choices"][0]["text"]
    stop = whole[3:5]
    expected = whole[: whole.index(stop)]
    found = completion(root, ignore_eos=True, max_tokens=12, stop=stop)[1]["choices"][0]
    assert (found["text"], found["finish_reason"]) == (expected, "stop")
    pieces = events(root, prompt=[5, 6, 7], max_tokens=12, ignore_eos=True, stop=stop)
    assert "".join(chunk["choices"][0]["text"] for chunk in pieces) == expected
    assert pieces[-1]["choices"][0]["finish_reason"] == "stop"


def test_facts(root):
    status, page = ask(f"{root}/gainwatt/facts", KEY)
    facts = json.loads(page)
    assert status == 200
    assert facts["quantization_kernel"] == {"Linear[float32]": 15}
    assert facts["memory_mib"]["weights"] > 0
    assert facts["memory_mib"]["kv_cache"] > 0
    assert "memory_mib.activations" in facts["null_reasons"] or facts["memory_mib"]["activations"] is not None


def test_how_many_requests_fit():
    assert most_requests(1000.0, 2.0, 100) == 5.0


def test_a_queue_that_is_full(root, monkeypatch):
    monkeypatch.setattr(http_module, "LONGEST_QUEUE", 0)
    status, answer = completion(root)
    assert (status, answer["error"]["message"]) == (503, "0 requests wait already")


def test_what_a_client_may_do_wrong(server, root):
    assert completion(root, temperature=1)[0] == 400
    assert ask(f"{root}/v1/nothing", KEY)[0] == 404
    assert ask(f"{root}/v1/nothing", KEY, body={})[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    for headers, data, status in (
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json", "Content-Length": str(10**9)}, b"", 413),
        ({"Content-Type": "application/json"}, b"[" * 100_000, 400),
    ):
        connection.request("POST", "/v1/completions", data, {**KEY, **headers})
        answer = connection.getresponse()
        assert answer.status == status
        assert json.loads(answer.read())["error"]["message"]
    connection.close()
    assert completion(root)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "framing", "status"),
    [
        ("POST /v1/completions", b"Content-Length: 13\r\nTransfer-Encoding: chunked", 411),
        ("POST /v1/completions", b"Content-Length: 13\r\nContent-Length: 2", 400),
        ("POST /v1/completions", b"Content-Length: +13", 400),
        ("GET /v1/models", b"Transfer-Encoding: chunked", 411),
        ("GET /v1/models", b"Content-Length: 9", 200),
    ],
)
def test_no_body_passes_for_a_request_of_its_own(server, request_line, framing, status):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        head = f"{request_line} HTTP/1.1\r\nAuthorization: Bearer sesame\r\nContent-Type: application/json\r\n".encode()
        hidden = b"GET /health HTTP/1.1\r\n\r\n"
        connection.sendall(head + framing + b"\r\n\r\n" + hidden)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


def test_a_client_that_goes_away_leaves_the_batch(server, root):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    body = json.dumps({"prompt": [5], "max_tokens": 190, "stream": True, "ignore_eos": True})
    connection.request("POST", "/v1/completions", body, {**KEY, "Content-Type": "application/json"})
    connection.getresponse().read(10)
    connection.close()
    assert completion(root)[0] == 200
    batcher = server.service.batcher
    for _ in range(500):
        if batcher.load() == (0, 0):
            break
        threading.Event().wait(0.02)
    assert batcher.load() == (0, 0)
