"""A load measured on scripted GPUs: joules of windows, prompts and steps, and arms that fail in the middle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from energy.conftest import FakeGpus, constant, fake_gpus, fake_library  # noqa: F401
from gainwatt.checkpoint import Checkpoint
from gainwatt.energy.protocol import Settings
from gainwatt.limits import DeviceLimits
from gainwatt.profiling import measure
from gainwatt.profiling import trial as trials
from gainwatt.profiling.arms import LoadedArm
from gainwatt.profiling.generate import Timing
from gainwatt.profiling.kernels import Look
from gainwatt.profiling.measure import Bench, measure_load
from gainwatt.profiling.trial import Trial
from gainwatt.study.profiling_cells import Arm, Load

from .profile_records import SHAPE

ARMS = (Arm("fp16", "eager", "sdpa", "fp16"), Arm("bnb-int8", "eager", "sdpa", "bnb-int8"))
LOAD = Load(4, 100, 21)
LIMITS = DeviceLimits(4300, 790, 5, "made up")


class Scripted:
    """A generator that takes its time on the virtual clock."""

    def __init__(self, gpus: FakeGpus, prefill_s: float, decode_s: float, fail_at: int = 0) -> None:
        self.gpus, self.prefill_s, self.decode_s, self.fail_at = gpus, prefill_s, decode_s, fail_at
        self.calls = 0

    def __call__(self, ids: Any, new_tokens: int, phase: Callable[[str], Any]) -> Timing:
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        with phase("prefill"):
            self.gpus.runtime.sleep(self.prefill_s)
        with phase("decode"):
            self.gpus.runtime.sleep(self.decode_s)
        return Timing(self.prefill_s, self.prefill_s + self.decode_s)

    def forget_cache(self) -> None:
        pass


def loaded(arm: Arm) -> LoadedArm:
    checkpoint = Checkpoint(
        "base", arm.scheme, Path("nowhere"), "sha", {"model.safetensors": {"bytes": 988_000_000}}, None, {}
    )
    return LoadedArm(arm, None, checkpoint, SHAPE, None, "fp16", 1.0, 988_000_000, 950.0, 1000.0, 950.0)


def trial(generator: Scripted) -> Trial:
    seen = Look(500, 0.05, 400.0, 0.0301, ("gemm 90%",), 0)
    return Trial(
        first_call_s=2.0, second_call_s=1.5, used_bytes=988_000_000, layers="169 Linear", words=9, look=seen,
        prefill_peak_mib=1100.0, decode_peak_mib=1050.0, generator=generator, ids=None,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def bench_of(fake_gpus, monkeypatch):  # noqa: F811
    def make(generators: dict[str, Callable[[FakeGpus], Scripted]], watts: float = 400.0) -> tuple[Bench, dict]:
        gpus = fake_gpus(constant(watts), statements=[["power_tick 0.1"]])
        meter = gpus.meter(idle_s=1.0)
        meter.start()
        made = {label: build(gpus) for label, build in generators.items()}
        monkeypatch.setattr(measure, "try_arm", lambda arm, *args, **options: trial(made[arm.arm.label]))
        monkeypatch.setattr(measure, "free_memory", lambda: None)
        settings = Settings(window_s=5.0, repeats=4, warmup_runs=1, cool_patience_s=0)
        arms = {arm.label: loaded(arm) for arm in ARMS}
        told: list[str] = []
        bench = Bench(meter, ARMS, arms, {}, None, settings, {"fp16": LIMITS}, tell=told.append)
        return bench, made

    return make


def test_cells_of_a_metered_load(bench_of):
    bench, _ = bench_of({"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 1.0, 2.0)})
    (fp16, int8), calls = measure_load(bench, LOAD)
    bench.meter.stop()
    assert [window["order"] for window in fp16["windows"]] == [0, 3, 4, 7]
    assert fp16["n_calls"] == 4 * 4
    assert len(calls) == 16 + 4 * 2
    assert fp16["latency_ms_mean"] == pytest.approx(1500, rel=1e-3)
    assert fp16["ttft_ms_p99"] == pytest.approx(500, rel=1e-3)
    assert fp16["tpot_ms_mean"] == pytest.approx(50, rel=1e-3)
    assert fp16["throughput_tok_s"] == pytest.approx(4 * 21 / 1.5, rel=1e-2)
    assert fp16["decode_tok_s"] == pytest.approx(4 / 0.05, rel=1e-3)
    assert fp16["prefill_tok_s"] == pytest.approx(4 * 100 / 0.5, rel=1e-3)
    assert fp16["gross_j_per_ktok"] == pytest.approx(400 * 1.5 / (4 * 21) * 1000, rel=1e-2)
    assert fp16["mean_w"] == pytest.approx(400, rel=1e-2)
    assert fp16["edp_js"] == pytest.approx(fp16["gross_j_per_request"] * 1.5, rel=1e-2)
    assert fp16["prefill_gross_j_per_ktok"] == pytest.approx(400 * 0.5 / 400 * 1000, rel=0.02)
    assert fp16["decode_gross_j_per_ktok"] == pytest.approx(400 * 1.0 / (4 * 20) * 1000, rel=0.02)
    assert fp16["windows"][0]["sampled_w"] == pytest.approx(400, rel=1e-2)
    assert fp16["windows"][0]["trapezoid_j"] == pytest.approx(400 * 6.0, rel=0.03)
    assert fp16["windows"][0]["idle_w"] == pytest.approx(400, rel=1e-2)
    assert fp16["net_j_per_ktok"] == pytest.approx(0, abs=80) or fp16["null_reasons"]["net_j_per_ktok"]
    assert fp16["baseline"] is True
    assert int8["baseline"] is False
    assert int8["latency_ms_mean"] == pytest.approx(3000, rel=1e-3)
    assert fp16["decode_regime"] == "launch"  # the kernels take 30 of 50 ms
    assert fp16["decode_over_roof"] < 1
    assert {gate["name"] for gate in fp16["gates"]} == {"throughput", "power", "length", "repeats"}
    assert fp16["generate_peak_mib"] == 1100


def test_an_arm_that_runs_out_of_memory_between_windows_is_a_row(bench_of):
    bench, made = bench_of(
        {"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0, fail_at=3)}
    )
    fp16, int8 = measure_load(bench, LOAD)[0]
    bench.meter.stop()
    assert (int8["status"], int8["windows"]) == ("oom", [])
    assert "CUDA out of memory" in int8["reason"]
    assert fp16["status"] == "ok"
    assert [window["order"] for window in fp16["windows"]] == [0, 1, 2, 3]  # begun again, alone
    assert fp16["n_calls"] == 16
    assert fp16["decode_gross_j_per_ktok"] == pytest.approx(400 * 1.0 / (4 * 20) * 1000, rel=0.02)
    assert made["fp16"].calls > 17
    assert "bnb-int8 failed between the windows" in bench.events[0]


def test_memory_is_given_back_once_the_failed_batch_is_gone(bench_of, monkeypatch):
    bench, _ = bench_of(
        {"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0, fail_at=3)}
    )
    handled = []
    monkeypatch.setattr(measure, "free_memory", lambda: handled.append(sys.exc_info()[1]))
    measure_load(bench, LOAD)
    bench.meter.stop()
    assert handled == [None]  # an exception holds the frames of the batch, and they its tensors


def test_a_fixed_cache_that_is_given_back_is_no_memory_of_the_arm_any_more(bench_of, monkeypatch):
    bench, made = bench_of({"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0)})
    held = {"allocated_mib": 2000.0}
    monkeypatch.setattr(trials, "memory_mib", lambda: dict(held))
    monkeypatch.setattr(made["fp16"], "forget_cache", lambda: held.update(allocated_mib=1900.0))
    measure_load(bench, LOAD)
    bench.meter.stop()
    assert bench.loaded["fp16"].resident_mib == 950.0 - 100.0
    assert bench.loaded["bnb-int8"].resident_mib == 950.0


def test_the_interval_of_the_latency_is_about_the_same_batches_as_its_mean(bench_of, monkeypatch):
    bench, made = bench_of({"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0)})
    batch = type(made["fp16"]).__call__

    def with_work_beside(self, *args):
        timing = batch(self, *args)
        self.gpus.runtime.sleep(0.3)  # in the window, and in no batch
        return timing

    monkeypatch.setattr(Scripted, "__call__", with_work_beside)
    fp16, _ = measure_load(bench, LOAD)[0]
    bench.meter.stop()
    assert fp16["latency_ms_mean"] == pytest.approx(1500)
    assert fp16["latency_ms_low"] == pytest.approx(1500)
    assert fp16["latency_ms_high"] == pytest.approx(1500)


def test_phases_too_short_for_the_samples_have_no_joules_of_their_own(bench_of):
    bench, _ = bench_of({"fp16": lambda g: Scripted(g, 0.02, 0.5), "bnb-int8": lambda g: Scripted(g, 0.02, 0.5)})
    fp16, _ = measure_load(bench, LOAD)[0]
    bench.meter.stop()
    assert fp16["prefill_gross_j_per_ktok"] is None
    assert "too short for samples" in fp16["null_reasons"]["prefill_gross_j_per_ktok"]


def test_a_failure_of_ours_is_not_hidden(bench_of, monkeypatch):
    bench, made = bench_of({"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0)})
    monkeypatch.setattr(made["fp16"], "prefill_s", "not a number")
    with pytest.raises(TypeError):
        measure_load(bench, LOAD)
    bench.meter.stop()


def test_arms_that_could_not_be_loaded_are_rows(bench_of):
    bench, _ = bench_of({"fp16": lambda g: Scripted(g, 0.5, 1.0), "bnb-int8": lambda g: Scripted(g, 0.5, 1.0)})
    del bench.loaded["bnb-int8"]
    bench.failed["bnb-int8"] = ("unavailable", "bitsandbytes is not installed")
    fp16, int8 = measure_load(bench, LOAD)[0]
    bench.meter.stop()
    assert fp16["status"] == "ok"
    assert (int8["status"], int8["reason"]) == ("unavailable", "bitsandbytes is not installed")
