"""The vLLM engine against a stand-in for vLLM: what is pinned, in which order, and what becomes of failures."""

from __future__ import annotations

import json
import sys

import pytest

from factories import ROOT
from gainwatt.engines import vllm as under_test
from gainwatt.engines.base import EngineError, Request, Solved
from gainwatt.engines.vllm import VllmEngine
from gainwatt.errors import InputError, UnavailableError
from gainwatt.modeling import load_tokenizer
from gainwatt.study.evaluation import Vllm

REQUESTS = [Request(i, tuple(range(20, 24 + i))) for i in range(5)]


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Call with the stand-in's script; the module is imported anew."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "engines" / "fake_vllm")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    path = tmp_path / "fake.json"
    monkeypatch.setenv("FAKE_VLLM", str(path))
    yield lambda **script: path.write_text(json.dumps(script), "utf-8")
    sys.modules.pop("vllm", None)


@pytest.fixture
def start(fake, tiny_folder):
    tokenizer = load_tokenizer(tiny_folder)
    made = []

    def begin(options=None, **changed):
        settings = {"dtype": "bf16", "max_new_tokens": 12, "max_model_tokens": 64, "repetition_penalty": 1.0}
        made.append(VllmEngine(tiny_folder, tokenizer, options=options or Vllm(), **{**settings, **changed}))
        return made[-1]

    yield begin
    for engine in made:
        engine.close()


def test_every_sampling_field_is_pinned_and_shown(start):
    engine = start(Vllm(max_num_seqs=7, tensor_parallel_size=2, gpu_memory_utilization=0.5), repetition_penalty=1.2)
    given = engine.llm.llm_engine.arguments
    assert given["generation_config"] == "vllm"
    assert given["enable_prefix_caching"] is False
    assert (given["dtype"], given["max_model_len"], given["seed"]) == ("bfloat16", 64, 0)
    assert (given["max_num_seqs"], given["tensor_parallel_size"], given["gpu_memory_utilization"]) == (7, 2, 0.5)
    params = vars(engine._params())
    pinned = {
        "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "n": 1, "repetition_penalty": 1.2, "max_tokens": 12,
        "min_tokens": 0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "ignore_eos": False, "stop": None,
        "stop_token_ids": engine.stop_ids, "skip_special_tokens": True,
    }  # fmt: skip
    assert params == {**pinned, "detokenize": False}
    assert pinned.items() <= engine.settings.items()
    assert engine.settings["vllm_version"] == "0.0.fake"
    assert engine.settings["max_num_seqs"] == 7
    assert engine.settings["batch_size"] is engine.batch_size is None
    assert engine.settings["attention"] is None  # the stand-in's log does not say
    json.dumps(engine.settings)


def test_answers_belong_to_their_requests_in_whatever_order_they_finish(start):
    engine = start()
    engine.warm_up(REQUESTS)
    found = {c.index: c for batch in engine.generate(REQUESTS) for c in batch}
    assert set(found) == set(range(5))
    for request in REQUESTS:
        answer = found[request.index]
        assert answer.text == engine.tokenizer.decode(request.token_ids[-2:], skip_special_tokens=True)
        assert (answer.tokens, answer.finish_reason) == (3, "stop")
        assert (answer.latency_s, answer.batch_size) == (0.25, None)


def test_the_longest_prompts_are_handed_over_first(start):
    engine = start()
    next(engine._finished(under_test.longest_first(REQUESTS), engine._params()))
    assert [len(ids) for _, ids, _ in engine.llm.llm_engine.waiting] == [8, 7, 6, 5]


def test_what_has_finished_is_handed_out_every_second(start, monkeypatch):
    now = iter(range(0, 1000))
    monkeypatch.setattr(under_test.time, "monotonic", lambda: 0.4 * next(now))
    batches = list(start().generate(REQUESTS))
    assert [len(batch) for batch in batches] == [3, 2]


def test_a_caller_who_stops_leaves_no_request_behind(start):
    engine = start()
    running = engine._finished(REQUESTS, engine._params())
    next(running)
    running.close()
    assert len(engine.llm.llm_engine.aborted) == 5


def test_what_finished_before_the_engine_died_is_handed_out(start, fake):
    engine = start()
    fake(die_after=3, last_words="(EngineCore pid=7) ERROR [core.py:9] RuntimeError: CUDA error: device-side assert")
    batches = engine.generate(REQUESTS)
    assert [c.index for c in next(batches)] == [0, 1, 2]
    with pytest.raises(EngineError, match="the vLLM engine died"):
        next(batches)


def test_a_dead_engine_that_had_no_memory_is_out_of_memory(start, fake, monkeypatch):
    engine = start()
    monkeypatch.setattr(
        engine._output,
        "lines",
        lambda: ["(EngineCore pid=7) ERROR 1 2 [core.py:9] torch.OutOfMemoryError: CUDA out of"],
    )
    fake(die_after=0)
    with pytest.raises(MemoryError, match=r"vLLM ran out of memory: torch\.OutOfMemoryError: CUDA out of"):
        list(engine.generate(REQUESTS))


@pytest.mark.parametrize(
    ("log", "kind", "said"),
    [
        ("ValueError: No available memory for the cache blocks.", MemoryError, "vLLM did not start: ValueError: No"),
        ("ERROR [core.py:1] KeyError: 'model.layers.9.x'", InputError, "vLLM cannot load the checkpoint in .*KeyError"),
    ],
)
def test_a_start_that_fails_says_why(start, fake, log, kind, said):
    fake(start_error=log)
    with pytest.raises(kind, match=said):
        start()


def test_an_unknown_quantization_is_unavailable(start, monkeypatch):
    start()
    error = ValueError(
        "1 validation error\n  Value error, Unknown quantization method: bitsandbytes. Must be one of [..]"
    )

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(sys.modules["vllm"], "LLM", fail)
    with pytest.raises(UnavailableError, match=r"does not know the checkpoint's quantization: .*bitsandbytes"):
        start()


def test_without_vllm_the_engine_is_unavailable(monkeypatch, tiny_folder):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UnavailableError, match="vLLM cannot be imported"):
        VllmEngine(
            tiny_folder, load_tokenizer(tiny_folder), dtype="bf16", max_new_tokens=1, max_model_tokens=9,
            repetition_penalty=1.0, options=Vllm(),
        )  # fmt: skip


def test_the_loss_counts_the_solutions_tokens(start):
    texts = [Solved(7, 2, (10, 20, 30, 40)), Solved(9, 1, (10, 50))]
    assert sorted(start().score(texts)) == [(pytest.approx(0.05), 1), (pytest.approx(0.07), 2)]


def test_memory(start):
    memory = start().memory()
    assert memory.metrics == {"kv_cache_tokens": 1600}
    assert {"parameter_bytes", "peak_allocated_mib", "weights_mib"} <= set(memory.null_reasons)


def test_stops_can_be_ignored_for_a_benchmark(start):
    engine = start()
    engine.ignore_stops()
    params = engine._params()
    assert (params.ignore_eos, params.stop_token_ids) == (True, [])
    assert engine.settings["ignore_eos"] is True
    engine.set_length(7, fixed=False)
    params = engine._params()
    assert (params.max_tokens, params.ignore_eos) == (7, False)
    assert params.stop_token_ids


def test_closing_twice_is_harmless_and_shuts_down_once(start, capfd):
    engine = start()
    engine.close()
    engine.close()
    assert capfd.readouterr().err.count("fake vLLM shut down") == 1
