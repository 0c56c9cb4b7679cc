"""Do seconds, tokens and memory fit together?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gainwatt.environment import gpus_of
from gainwatt.record import Record
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, number, off
from gainwatt.validation.findings import ERROR, WARNING

_AGAIN = "run the rule that makes this record again"
_MIB = 2**20
_COLD = 1.5


@each_record(ERROR, source="throughput = tokens / seconds; validation.consistency_tolerance")
def throughput(study: Collected, record: Record) -> Iterator[Problem]:
    """Tokens, seconds and throughput of one generation fit together, and so do tokens, items and their mean."""
    metrics, tolerance = record["metrics"], study.study.validation.consistency_tolerance
    tokens, seconds, rate = _given(metrics, "generated_tokens", "generate_s", "throughput_tok_s")
    if tokens is not None and seconds is not None and rate is not None and off(rate * seconds, tokens) > tolerance:
        what = f"{rate:.1f} tokens/s for {seconds:.2f} s make {rate * seconds:.0f} tokens, the record says {tokens:.0f}"
        yield Problem(what, _AGAIN)
    mean, items = _given(metrics, "completion_tokens_mean", "num_examples")
    if tokens is not None and mean is not None and items is not None and off(mean * items, tokens) > tolerance:
        what = f"{mean:.2f} tokens for each of {items:.0f} items make {mean * items:.0f}, the record says {tokens:.0f}"
        yield Problem(what, _AGAIN)


@each_record(ERROR, source="the phase holds the work; validation.energy_tolerance", stages=("evaluate_gsm8k",))
def generation_time(study: Collected, record: Record) -> Iterator[Problem]:
    """The seconds of generation lie within the phase that metered them, unless part of them is of an earlier run."""
    metrics = record["metrics"]
    (seconds,) = _given(metrics, "generate_s")
    phase_s = next(
        (number(p["seconds"]) for p in record["energy"].get("phase_totals") or () if p["path"] == "generate"), None
    )
    if seconds is None or phase_s is None or metrics.get("resumed_items"):
        return
    if seconds > phase_s * (1 + study.study.validation.energy_tolerance) + 0.01:
        yield Problem(f"generate_s is {seconds:.2f}, and the phase generate took {phase_s:.2f} s", _AGAIN)


@each_record(WARNING, source="a step of the first batch within 1.5 of the others'", stages=("evaluate_gsm8k",))
def warm_start_of_generation(study: Collected, record: Record) -> Iterator[Problem]:
    """The first batch was not much slower than the second: else a cold GPU is part of the seconds and the joules."""
    first, second = _given(record["metrics"], "first_batch_step_ms", "second_batch_step_ms")
    on_gpu = gpus_of(record["environment"])  # a processor has no kernels to load, and others to serve
    if on_gpu and first is not None and second is not None and first > _COLD * second:
        what = f"a step of the first batch took {first:.1f} ms, of the second {second:.1f} ms: the GPU was cold"
        yield Problem(what, f"its seconds and joules are too high; {_AGAIN}")


@each_record(ERROR, source="sums and rates; validation.consistency_tolerance", stages=("train_grpo",))
def training_time(study: Collected, record: Record) -> Iterator[Problem]:
    """Rollout and update make up the steps, and the rollouts per minute are completions by rollout time."""
    metrics, tolerance = record["metrics"], study.study.validation.consistency_tolerance
    step_s, steps, rollout_s, update_s = _given(metrics, "step_s_mean", "steps", "rollout_s", "update_s")
    if (
        step_s is not None
        and steps is not None
        and rollout_s is not None
        and update_s is not None
        and off(step_s * steps, rollout_s + update_s) > tolerance
    ):
        parts = f"{rollout_s:.2f} s of rollout and {update_s:.2f} s of update"
        yield Problem(f"{steps:.0f} steps of {step_s:.3f} s are not {parts}", _AGAIN)
    rate, completions = _given(metrics, "rollouts_per_min", "completions")
    if rate is not None and completions is not None and rollout_s:
        wanted = 60 * completions / rollout_s
        if off(rate, wanted) > tolerance:
            yield Problem(f"rollouts_per_min is {rate:.1f}, completions and rollout_s give {wanted:.1f}", _AGAIN)


@each_record(ERROR, source="the parameters lie in GPU memory after loading")
def gpu_memory(study: Collected, record: Record) -> Iterator[Problem]:
    """A loaded model takes at least the bytes of its parameters, the peak is not below that, and fits the GPUs."""
    metrics = record["metrics"]
    loaded, peak, stored = _given(metrics, "allocated_after_load_mib", "peak_allocated_mib", "parameter_bytes")
    if loaded is not None and stored is not None and loaded * _MIB < stored:
        what = f"{loaded:.1f} MiB allocated after loading are less than the {stored / _MIB:.1f} MiB of the parameters"
        yield Problem(what, f"part of the model was not on the GPU, or memory was read too early: {_AGAIN}")
    # Quantizing reads its peak before the finished checkpoint is loaded for the smoke test.
    if record["stage"] != "quantize" and loaded is not None and peak is not None and peak < loaded:
        yield Problem(f"the peak of {peak:.1f} MiB is below the {loaded:.1f} MiB allocated after loading", _AGAIN)
    there = gpu_mib(record)
    if peak is not None and there is not None and peak > there:
        yield Problem(f"the peak of {peak:.0f} MiB is more than the {there:.0f} MiB of the machine's GPUs", _AGAIN)


def gpu_mib(record: Record) -> float | None:
    """Memory of all GPUs of the record's machine; None where it is not known."""
    sizes = [number(gpu.get("memory_mib")) for gpu in gpus_of(record["environment"])]
    return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None


def _given(metrics: dict[str, Any], *names: str) -> list[float | None]:
    return [number(metrics.get(name)) for name in names]
