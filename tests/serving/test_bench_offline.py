"""Closed batches on a scripted engine: what is asked, what is counted, and what does not fit."""

from __future__ import annotations

import contextlib

import pytest

from gainwatt.engines.base import Completion, EngineError
from gainwatt.errors import UnavailableError
from gainwatt.serving.columns import offline_numbers
from gainwatt.serving.energy import Idle
from gainwatt.serving.offline import OfflineRun, Runner
from gainwatt.serving.prompts import Prompts, Source
from gainwatt.serving.roofs import Roofs
from gainwatt.study.serving import Serve
from gainwatt.study.serving_cells import Load

SERVE = Serve(repeats=2, window_s=0, warmup_batches=1, fixed_prompt_tokens=5, fixed_new_tokens=3, max_model_tokens=64)


class Engine:
    """Answers with as many tokens as were last asked for; `fails`: the call that raises; `largest`: what fits."""

    def __init__(self, name="transformers", largest=99, fails=None):
        self.settings = {"engine": name}
        self.batch_size = 1
        self.largest, self.fails = largest, fails
        self.lengths, self.asked = [], []

    def set_length(self, tokens, *, fixed):
        self.lengths.append((tokens, fixed))

    def generate(self, requests):
        self.asked.append(len(requests))
        if self.fails == len(self.asked):
            raise EngineError("the engine died")
        self.batch_size = min(self.batch_size, self.largest)
        tokens = self.lengths[-1][0]
        yield [Completion(r.index, "", tokens, "length", 0.5, len(requests)) for r in requests]


class Phases:
    """A job that only keeps the names of its phases."""

    def __init__(self):
        self.names = []

    def phase(self, name, **_):
        self.names.append(name)
        return contextlib.nullcontext()


def runner(engine, kind="batch", size=4, serve=SERVE):
    made = Source((), tuple(range(3, 200)))
    return Runner(engine, Prompts(made, serve, Load("offline", "fixed", kind, size)), serve)


def test_a_pass_is_four_batches_and_the_prompts_alone_follow():
    engine, job, run = Engine(), Phases(), OfflineRun()
    runner(engine).run(job, run)
    assert job.names == ["warm_up", "measure", "measure", "warm_up_prefill", "prefill"]
    assert engine.lengths == [(3, True), (1, True)]
    assert engine.asked == [4] * (1 + 8 + 1 + 4)
    assert engine.batch_size == 4
    (first, second), alone = run.measure, run.prefill
    assert (first.passes, first.requests, first.prompt_tokens, first.generated_tokens) == (1, 16, 80, 48)
    assert (len(first.batches_s), first.latencies_s, second.cut) == (4, [0.5] * 16, 16)
    assert [window.generated_tokens for window in alone] == [16]


def test_the_sequential_load_asks_one_prompt_at_a_time():
    engine = Engine()
    runner(engine, "sequential", 1).run(Phases(), OfflineRun())
    assert set(engine.asked) == {1}
    assert len(engine.asked) == 1 + 2 * 16 + 1 + 16


def test_a_window_takes_passes_until_it_is_long_enough(monkeypatch):
    clock = iter(float(i) for i in range(10_000))
    monkeypatch.setattr("gainwatt.serving.offline.time.monotonic", lambda: next(clock))
    serve = SERVE.model_copy(update={"window_s": 30.0, "repeats": 1, "split_phases": False})
    run = OfflineRun()
    runner(Engine(), serve=serve).run(Phases(), run)
    # Each batch of a pass reads the clock twice, and each pass once more.
    assert run.measure[0].passes == 4


def test_every_window_has_prompts_of_its_own():
    drawn = []

    class Kept(Engine):
        def generate(self, requests):
            drawn.extend(request.token_ids for request in requests)
            return super().generate(requests)

    runner(Kept()).run(Phases(), OfflineRun())
    assert len(set(drawn)) == len(drawn)


def test_a_batch_that_was_halved_is_out_of_memory_and_not_another_batch():
    run = OfflineRun()
    with pytest.raises(MemoryError, match="at batch size 4"):
        runner(Engine(largest=2)).run(Phases(), run)
    assert run.measure == []


def test_an_engine_that_dies_leaves_the_windows_that_were_finished():
    run = OfflineRun()
    with pytest.raises(EngineError):
        runner(Engine(fails=7)).run(Phases(), run)
    assert [window.requests for window in run.measure] == [16]
    phases = [
        {"path": "measure", "seconds": 2.0, "energy": {"gross_j": 100.0, "flags": []}},
        {"path": "measure", "seconds": 1.0, "energy": {"gross_j": 50.0, "flags": []}},
    ]
    found, _ = offline_numbers(run, phases, Idle(), Roofs(None, None, "fp32", "x"), batch=4, weight_bytes=1.0)
    assert found.metrics["generated_tokens"] == 48
    assert found.metrics["gross_j_per_token"] == pytest.approx(100 / 48)
    assert found.reasons["decode_tok_s"]


def test_llamacpp_in_this_process_has_no_batches():
    with pytest.raises(UnavailableError, match="one prompt at a time"):
        runner(Engine("llamacpp"))


def test_a_cell_without_any_window_is_nulls_with_reasons():
    found, _ = offline_numbers(OfflineRun(), [], Idle(), Roofs(None, None, "fp32", "x"), batch=4, weight_bytes=1.0)
    assert found.metrics["throughput_tok_s"] is None
    assert all(found.reasons[name] for name, value in found.metrics.items() if value is None)
