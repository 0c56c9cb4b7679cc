"""The first batches of an arm under a load, before any window: does it fit, what does a first call cost, what runs?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gainwatt.engines.base import EngineError
from gainwatt.errors import UnavailableError
from gainwatt.modeling import memory_mib, reset_peak_memory
from gainwatt.oom import is_out_of_memory
from gainwatt.profiling.arms import LoadedArm, free_memory
from gainwatt.profiling.generate import DECODE, PREFILL, Generator, compiled_graphs
from gainwatt.profiling.kernels import Look, look
from gainwatt.profiling.prompts import prompt_ids
from gainwatt.study.profiling_cells import Load

COMPILED = ("compile", "cuda-graphs")


@dataclass
class Trial:
    """What was found; `status` is ok, oom or unavailable. Memory in MiB is the arm's own, None without a GPU."""

    status: str = "ok"
    reason: str | None = None
    first_call_s: float | None = None
    second_call_s: float | None = None
    used_bytes: int | None = None
    layers: str | None = None
    prefill_peak_mib: float | None = None
    decode_peak_mib: float | None = None
    words: int | None = None
    look: Look | None = None
    look_reason: str | None = None
    generator: Generator | None = None
    ids: Any = None
    events: list[str] = field(default_factory=list)


class PeakMemory:
    """A stand-in for the meter's phases that starts a new peak for each and keeps it: {phase: MiB}."""

    def __init__(self) -> None:
        self.mib: dict[str, float | None] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """A phase: from its beginning on a new peak, which is kept at its end."""
        reset_peak_memory()
        yield
        self.mib[name] = memory_mib()["peak_allocated_mib"]


def try_arm(loaded: LoadedArm, load: Load, tokenizer: Any, *, kernels: bool) -> Trial:
    """Generate twice under `load` and look at the kernels. Raises EngineError where the GPU does not work any more."""
    trial = Trial()
    try:
        _try(loaded, load, tokenizer, trial, kernels=kernels)
    except Exception as error:
        found = outcome(error)
        if found is None:
            raise
        trial = Trial(*found)
    if trial.status != "ok":
        free_memory()
    return trial


def _try(loaded: LoadedArm, load: Load, tokenizer: Any, trial: Trial, *, kernels: bool) -> None:
    import torch

    size = load.prompt_tokens + load.new_tokens
    generator = Generator(loaded.model, loaded.arm.mode, pad_token_id=tokenizer.pad_token_id, cache_tokens=size)
    with owned(loaded):
        generator.forget_cache()
    ids = torch.tensor(prompt_ids(tokenizer, load.batch, load.prompt_tokens), device=loaded.model.device)
    compiles = loaded.arm.mode in COMPILED and load.new_tokens > 1
    graphs = compiled_graphs() if compiles else 0
    with owned(loaded):
        begin = time.perf_counter()
        generator(ids, load.new_tokens)
        trial.first_call_s = time.perf_counter() - begin
    loaded.compiled |= compiles and compiled_graphs() > graphs
    if compiles and not loaded.compiled:
        raise UnavailableError(
            "transformers did not compile this model: its quantization or its layers do not allow it"
        )
    before, peaks = memory_mib()["allocated_mib"], PeakMemory()
    trial.second_call_s = generator(ids, load.new_tokens, peaks).latency_s
    trial.prefill_peak_mib = _own(peaks.mib[PREFILL], before, loaded)
    trial.decode_peak_mib = _own(peaks.mib.get(DECODE), before, loaded)
    texts = tokenizer.batch_decode(generator.made, skip_special_tokens=True)
    trial.words = sum(len(text.split()) for text in texts)
    trial.used_bytes, trial.layers = loaded.used_bytes(), loaded.layers()
    trial.generator, trial.ids = generator, ids
    if kernels:
        _look(trial, generator, ids, load)
    else:
        trial.look_reason = "profile.kernels is off"


def _look(trial: Trial, generator: Generator, ids: Any, load: Load) -> None:
    """The profiler is a bystander: where it fails, the measurement goes on without its look."""
    try:
        trial.look = look(lambda tokens: generator(ids, tokens), load.new_tokens)
    except Exception as error:
        if is_out_of_memory(error) or gpu_failed(error):
            raise
        trial.look_reason = f"torch's profiler failed: {_first_line(error)}"


@contextlib.contextmanager
def owned(loaded: LoadedArm) -> Iterator[None]:
    """What is allocated or given back in the block, and stays so, belongs to `loaded`."""
    before = memory_mib()["allocated_mib"]
    yield
    after = memory_mib()["allocated_mib"]
    if before is not None and after is not None and loaded.resident_mib is not None:
        loaded.resident_mib += after - before


def _own(peak: float | None, before: float | None, loaded: LoadedArm) -> float | None:
    """A peak of the process without what the other arms hold."""
    if peak is None or before is None or loaded.resident_mib is None:
        return None
    return peak - (before - loaded.resident_mib)


def outcome(error: BaseException) -> tuple[str, str] | None:
    """(status, reason) of a failure that is a result; None for one that is not. Raises EngineError for a dead GPU."""
    if is_out_of_memory(error):
        return "oom", " ".join(str(error).split())[:300] or type(error).__name__
    if gpu_failed(error):
        hint = "the system's log (dmesg, Xid) has the GPU's own message; the same command goes on with what is left"
        raise EngineError(f"the GPU failed: {_first_line(error)}", hint) from error
    if isinstance(error, UnavailableError):
        return "unavailable", error.what
    if isinstance(error, RuntimeError | NotImplementedError | ImportError | ValueError):
        return "unavailable", f"{type(error).__name__}: {_first_line(error)}"
    return None


def gpu_failed(error: BaseException) -> bool:
    """Whether the process cannot use its GPU any more."""
    named = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    return named and not is_out_of_memory(error)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"
