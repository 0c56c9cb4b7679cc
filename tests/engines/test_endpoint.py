"""The endpoint engine answers like the engine in the process, tells failures apart, and sends every field."""

from __future__ import annotations

import http.server
import json
import threading

import pytest

from factories import QUESTIONS
from gainwatt.engines.base import EngineError, Request, Solved
from gainwatt.engines.endpoint import EndpointEngine, RefusedError
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError, UnavailableError
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.serving.local.http import HttpServer
from gainwatt.serving.local.service import Service


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture(scope="module")
def requests(tokenizer):
    return [Request(i, tuple(tokenizer(text[: 20 + 3 * i])["input_ids"])) for i, text in enumerate(QUESTIONS[:10])]


@pytest.fixture(scope="module")
def expected(tiny_checkpoint, tokenizer, requests):
    model = load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")
    engine = TransformersEngine(model, tokenizer, batch_size=3, max_new_tokens=9, repetition_penalty=1.0)
    return by_index(engine.generate(requests))


@pytest.fixture(scope="module")
def url(tiny_checkpoint, tiny_folder):
    model = load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")
    service = Service(model, load_tokenizer(tiny_folder), model_name="tiny", context=200, max_rows=4)
    server = HttpServer("127.0.0.1", 0, service, "sesame")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    service.close()


class Scripted:
    """A server that answers what it is told, and keeps what it was asked."""

    def __init__(self, answer):
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, {"data": [{"id": "tiny"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                self.reply(*answer(body))

            def reply(self, status, value):
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def engine_at(url, tokenizer, **options):
    options = {"concurrency": 3, "max_new_tokens": 9, "headers": {"Authorization": "Bearer sesame"}} | options
    return EndpointEngine(url, "tiny", tokenizer, **options)


def by_index(batches):
    return {found.index: (found.text, found.tokens, found.finish_reason) for batch in batches for found in batch}


def text_answer(body, text="hello", tokens=2):
    prompt = body["prompt"]
    usage = {"prompt_tokens": len(prompt) if isinstance(prompt, list) else 7, "completion_tokens": tokens}
    return 200, {"choices": [{"text": text, "finish_reason": "stop"}], "usage": usage}


@pytest.mark.parametrize("concurrency", [1, 7])
def test_the_same_answers_as_in_the_process(url, tokenizer, requests, expected, concurrency):
    engine = engine_at(url, tokenizer, concurrency=concurrency)
    engine.warm_up(requests)
    assert by_index(engine.generate(requests)) == expected
    assert engine.settings["max_model_len"] == 200
    assert (engine.batch_size, engine.events) == (concurrency, [])
    assert list(engine.generate([])) == []


def test_a_fixed_length(url, tokenizer, requests):
    engine = engine_at(url, tokenizer)
    engine.set_length(13, fixed=True)
    assert {tokens for _, tokens, _ in by_index(engine.generate(requests)).values()} == {13}
    engine.set_length(2, fixed=False)
    assert max(tokens for _, tokens, _ in by_index(engine.generate(requests)).values()) <= 2


def test_who_is_asked(url, tokenizer):
    with pytest.raises(InputError, match="refuses the API key"):
        engine_at(url, tokenizer, headers={})
    with pytest.raises(InputError, match="does not serve 'other'; it serves tiny"):
        EndpointEngine(
            url, "other", tokenizer, concurrency=1, max_new_tokens=4, headers={"Authorization": "Bearer sesame"}
        )
    with pytest.raises(UnavailableError, match=r"nothing answers at http://127\.0\.0\.1:9/v1"):
        engine_at("http://127.0.0.1:9/v1", tokenizer)


def test_every_sampling_field_is_sent(tokenizer, requests):
    with Scripted(text_answer) as server:
        engine = engine_at(server.url, tokenizer, repetition_penalty=1.05)
        list(engine.generate(requests[:1]))
        (body,) = server.asked
    assert body["prompt"] == list(requests[0].token_ids)
    sent = {
        "model": "tiny", "n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "repetition_penalty": 1.05, "max_tokens": 9, "min_tokens": 0, "stop": None,
        "ignore_eos": False, "seed": 0, "skip_special_tokens": True,
    }  # fmt: skip
    assert {name: body[name] for name in sent} == sent
    assert {name: engine.settings[name] for name in sent} == sent


def test_a_server_without_token_ids(tokenizer, requests):
    with Scripted(text_answer) as server:
        assert by_index(engine_at(server.url, tokenizer).generate(requests[:1])) == {0: ("hello", 2, "stop")}
        engine = engine_at(server.url, tokenizer, facts=lambda: {"engine": "llamacpp"})
        assert by_index(engine.generate(requests[:1])) == {0: ("hello", 3, "stop")}
        assert server.asked[-1]["repeat_penalty"] == 1.0


def test_a_server_that_reads_text_only(tokenizer, requests):
    def answer(body):
        if isinstance(body["prompt"], list):
            return 500, {"error": {"message": "Input should be a valid string"}}
        usage = {"prompt_tokens": len(tokenizer(body["prompt"])["input_ids"]), "completion_tokens": 1}
        return 200, {"choices": [{"text": "x", "finish_reason": "length"}], "usage": usage}

    with Scripted(answer) as server:
        engine = engine_at(server.url, tokenizer)
        engine.warm_up(requests)
        assert by_index(engine.generate(requests[:1])) == {0: ("x", 1, "length")}
    assert engine.settings["prompts_as_text"]
    assert engine.events == ["the server takes prompts as text, not as tokens"]


def test_a_server_that_reads_something_else(tokenizer, requests):
    def answer(body):
        return 200, {
            "choices": [{"text": "x", "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 99, "completion_tokens": 1},
        }

    with Scripted(answer) as server, pytest.raises(EngineError, match="read 99 tokens of item 0, and was sent"):
        list(engine_at(server.url, tokenizer).generate(requests[:1]))


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((503, {"error": {"message": "out of memory: CUDA"}}), MemoryError, "ran out of memory at item"),
        ((503, {"error": {"message": "busy"}}), RefusedError, r"refused item \d \(503\)"),
        ((400, {"error": {"message": "too long"}}), RefusedError, "too long"),
        ((200, b"{"), EngineError, "is not JSON"),
        ((200, []), EngineError, "lacks 'choices'"),
    ],
)
def test_what_is_finished_before_a_failure_is_kept(tokenizer, requests, answer, kind, said):
    seen = []

    def replies(body):
        seen.append(body)
        return text_answer(body) if len(seen) <= 2 else answer

    done = []
    with Scripted(replies) as server:
        engine = engine_at(server.url, tokenizer, concurrency=1)
        with pytest.raises(kind, match=said):
            done.extend(found for batch in engine.generate(requests) for found in batch)
    assert len(done) == 2


def test_the_loss_by_log_probabilities_of_the_prompt(tokenizer):
    def answer(body):
        told = [None, *({str(token): {"logprob": -0.5}, "1": {"logprob": 0.0}} for token in body["prompt"][1:])]
        return 200, {"choices": [{"text": "", "prompt_logprobs": told}], "usage": {}}

    with Scripted(answer) as server:
        engine = engine_at(server.url, tokenizer)
        assert list(engine.score([Solved(0, 2, (5, 6, 7, 8, 9))])) == [(1.5, 3)]
        assert server.asked[0]["prompt_logprobs"] == 0
    with Scripted(text_answer) as server, pytest.raises(UnavailableError, match="no log-probabilities"):
        list(engine_at(server.url, tokenizer).score([Solved(0, 2, (5, 6, 7))]))


def test_the_servers_memory_and_its_end(url, tokenizer):
    ended = []
    facts = {"memory_mib": {"weights": 3.0, "activations": None}}
    engine = engine_at(url, tokenizer, facts=lambda: facts, on_close=lambda: ended.append(1))
    found = engine.memory()
    assert found.metrics == {"server_weights_mib": 3.0}
    assert set(found.null_reasons) == {"parameter_bytes", "allocated_after_load_mib", "peak_allocated_mib"}
    engine.close()
    engine.close()
    assert ended == [1]
