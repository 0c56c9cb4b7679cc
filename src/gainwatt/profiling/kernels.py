"""A look at the kernels of a few tokens with torch's profiler: how many are launched, how long they run, which ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

STEPS = 2
"""Decoding steps that are looked at."""
SHOWN = 4
_NAME = 70
_FREE = frozenset(
    {
        "view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "t", "transpose", "permute", "expand",
        "expand_as", "slice", "select", "unsqueeze", "squeeze", "narrow", "detach", "alias", "resolve_conj",
        "resolve_neg", "empty", "empty_like", "empty_strided", "lift_fresh", "split", "chunk", "unbind", "item",
        "_local_scalar_dense", "is_nonzero", "contiguous", "to", "flatten", "unflatten", "view_as", "result_type",
    }
)  # fmt: skip
_LAUNCH = re.compile(r"^(cuda|cu|hip)(LaunchKernel|LaunchCooperativeKernel|GraphLaunch|Memcpy|Memset)")


@dataclass(frozen=True)
class Event:
    """One event of the profiler: nanoseconds, and whether it ran on the GPU."""

    name: str
    start_ns: int
    duration_ns: int
    on_gpu: bool


@dataclass(frozen=True)
class Look:
    """What was seen. `launches` are what the host queues: kernels, copies and graphs, or operations on a CPU.

    `device_s` is the time that the GPU's kernels took; None without a GPU. `prefill_*` is one prompt, `step_*` the
    mean of one decoding step. `kernels` are the longest of a step, with their share of its time.
    """

    prefill_launches: int
    prefill_device_s: float | None
    step_launches: float | None
    step_device_s: float | None
    kernels: tuple[str, ...]
    graph_launches: int


def look(generate: Callable[[int], object], new_tokens: int) -> Look:
    """Profile `generate(tokens)` for the first token alone and for `STEPS` more; the difference is the steps.

    The profiler slows the host down and not the kernels, so that their own durations stand and the wall time does not.
    """
    steps = min(STEPS, new_tokens - 1)
    first = _profile(lambda: generate(1))
    whole = _profile(lambda: generate(1 + steps)) if steps else first
    return compare(first, whole, steps)


def compare(first: list[Event], whole: list[Event], steps: int) -> Look:
    """The `Look` of two lists of events: one prompt, and one prompt with `steps` decoding steps."""
    gpu = any(event.on_gpu for event in whole)
    before, after = _launches(first, gpu), _launches(whole, gpu)
    busy = [sum(e.duration_ns for e in events if e.on_gpu) / 1e9 for events in (first, whole)] if gpu else None
    return Look(
        prefill_launches=before,
        prefill_device_s=busy[0] if busy else None,
        step_launches=(after - before) / steps if steps else None,
        step_device_s=max(0.0, busy[1] - busy[0]) / steps if busy and steps else None,
        kernels=tuple(_longest(first, whole if steps else [], gpu)),
        graph_launches=sum("GraphLaunch" in event.name for event in whole),
    )


def _launches(events: Iterable[Event], gpu: bool) -> int:
    if gpu:
        return sum(bool(_LAUNCH.match(event.name)) for event in events if not event.on_gpu)
    return len(innermost(events))


def innermost(events: Iterable[Event]) -> list[Event]:
    """The operations of a CPU profile that do work and call no other one that does.

    Those that only look at a tensor in another way, or set memory aside, do none.
    """
    working = (e for e in events if e.name.startswith("aten::") and e.name[len("aten::") :] not in _FREE)
    operations = sorted(working, key=lambda e: (e.start_ns, -e.duration_ns))
    found = []
    for place, event in enumerate(operations):
        following = operations[place + 1] if place + 1 < len(operations) else None
        if following is None or following.start_ns >= event.start_ns + event.duration_ns:
            found.append(event)
    return found


def _longest(first: list[Event], whole: list[Event], gpu: bool) -> list[str]:
    """The kernels (or operations) that take most of the steps' time; of the prompt where there is no step."""
    before, after = (_by_name(events, gpu) for events in (first, whole))
    # Where the first look took longer, by chance or by setting something up, the second one alone tells the shares.
    total = (after - before) or after or before
    all_ns = total.total()
    return [f"{name} {value / all_ns:.0%}" for name, value in total.most_common(SHOWN)]


def _by_name(events: list[Event], gpu: bool) -> Counter[str]:
    """Nanoseconds by kernel, or by operation without a GPU."""
    total: Counter[str] = Counter()
    for event in events if gpu else innermost(events):
        if event.on_gpu == gpu:
            total[_short(event.name)] += event.duration_ns
    return +total


def _short(name: str) -> str:
    """A kernel's name without return type, anonymous namespaces and template arguments."""
    bare = re.sub(r"^void |\(anonymous namespace\)::", "", name).split("<")[0].split("(")[0].strip()
    return (bare or name)[:_NAME]


def _profile(work: Callable[[], object]) -> list[Event]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as seen:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    results = seen.profiler.kineto_results.events()
    return [
        Event(event.name(), event.start_ns(), event.duration_ns(), "CUDA" in str(event.device_type()))
        for event in results
        # Named ranges (torch puts one around each compiled graph) span the kernels inside of them, also on the GPU.
        if not event.is_user_annotation()
    ]
