"""Is every cell of the inference profile a fair comparison, and do its numbers fit together and under the roofs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gainwatt.energy.protocol import abba
from gainwatt.record import Record
from gainwatt.study.profiling_cells import STAGE
from gainwatt.validation.collected import Collected
from gainwatt.validation.expectation import Problem, each_record, listed, number, off
from gainwatt.validation.findings import ERROR, INFO, WARNING

_STAGES = (STAGE,)
_AGAIN = "remove the record and run the rule profile_inference again"
_MIB = 2**20
CALLS_MIN = 10
"""Batches of a cell; with fewer the 95th percentile is the largest value."""
ROOF_TOLERANCE = 1.05
"""A roof is a measurement too: a copy and a product of this machine, good to some per cent."""

Cell = dict[str, Any]


def _cells(record: Record) -> Iterator[tuple[str, Cell]]:
    """Name and content of every measured cell."""
    for cell in record["metrics"].get("cells") or ():
        if cell["status"] == "ok":
            yield f"{cell['arm']} at batch {cell['batch']}", cell


@each_record(ERROR, source="a ratio needs both of its sides measured together", stages=_STAGES)
def profile_baseline(study: Collected, record: Record) -> Iterator[Problem]:
    """Under every load the baseline was measured in the same record as the arms beside it."""
    loads = {(c["batch"], c["prompt_tokens"], c["new_tokens"]) for _, c in _cells(record)}
    there = {(c["batch"], c["prompt_tokens"], c["new_tokens"]) for _, c in _cells(record) if c["baseline"]}
    if loads - there:
        names = ", ".join(listed(" x ".join(map(str, load)) for load in sorted(loads - there)))
        yield Problem(f"the baseline has no number under the loads {names}", f"nothing can be compared there: {_AGAIN}")


@each_record(ERROR, source="the order A B B A cancels a linear drift (gainwatt.energy.protocol)", stages=_STAGES)
def profile_interleaved(study: Collected, record: Record) -> Iterator[Problem]:
    """The windows of all arms under a load were run forwards and backwards in turn."""
    by_load: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for _, cell in _cells(record):
        places = by_load.setdefault((cell["batch"], cell["prompt_tokens"], cell["new_tokens"]), [])
        places += [(window["order"], cell["arm"]) for window in cell["windows"]]
    for load, places in by_load.items():
        order = [arm for _, arm in sorted(places)]
        arms = list(dict.fromkeys(order))
        if order != abba(arms, len(order) // len(arms)):
            yield Problem(
                f"the windows of load {load} did not run in the order A B B A: {' '.join(order[:8])} …", _AGAIN
            )


@each_record(WARNING, source=f"{CALLS_MIN} repeats of each cell", stages=_STAGES)
def profile_repeats(study: Collected, record: Record) -> Iterator[Problem]:
    """Every cell has enough batches for its percentiles."""
    few = [f"{name}: {cell['n_calls']}" for name, cell in _cells(record) if cell["n_calls"] < CALLS_MIN]
    if few:
        hint = "raise profile.repeats or profile.window_s"
        yield Problem(f"fewer than {CALLS_MIN} batches in {', '.join(listed(few))}", hint)


@each_record(ERROR, source="rate x time = tokens; validation.consistency_tolerance", stages=_STAGES)
def profile_rates(study: Collected, record: Record) -> Iterator[Problem]:
    """Tokens, windows, batches and rates of a cell fit together, and so do its times."""
    tolerance = study.study.validation.consistency_tolerance
    for name, cell in _cells(record):
        work = sum(window["work"] for window in cell["windows"])
        wanted = cell["n_calls"] * cell["batch"] * cell["new_tokens"]
        if off(work, wanted) > tolerance:
            yield Problem(
                f"{name}: {cell['n_calls']} batches make {wanted} tokens, its windows hold {work:.0f}", _AGAIN
            )
        if cell["ttft_ms_mean"] > cell["latency_ms_mean"]:
            yield Problem(f"{name}: the first token comes after the last", _AGAIN)
        levels = [cell[f"latency_ms_p{level}"] for level in (50, 95, 99)]
        if levels != sorted(levels):
            yield Problem(f"{name}: the percentiles of latency fall: {levels}", _AGAIN)


@each_record(ERROR, source="joules = watts x seconds; net = gross - idle; validation", stages=_STAGES)
def profile_energy(study: Collected, record: Record) -> Iterator[Problem]:
    """Joules per token are power by throughput, and net joules do not exceed gross ones."""
    tolerance = max(study.study.validation.consistency_tolerance, study.study.validation.energy_tolerance)
    for name, cell in _cells(record):
        gross, net, watts, rate = (
            number(cell[key]) for key in ("gross_j_per_ktok", "net_j_per_ktok", "mean_w", "throughput_tok_s")
        )
        if gross is not None and watts is not None and rate and off(gross, 1000 * watts / rate) > tolerance:
            told = f"{watts:.1f} W at {rate:.1f} tokens/s are {1000 * watts / rate:.1f} J per 1000 tokens"
            yield Problem(f"{name}: {told}, the record says {gross:.1f}", _AGAIN)
        if gross is not None and net is not None and net > gross:
            yield Problem(f"{name}: net {net:.1f} J per 1000 tokens exceed gross {gross:.1f}", _AGAIN)


@each_record(WARNING, source="the roofs measured by the same job (gainwatt.limits)", stages=_STAGES)
def profile_under_the_roof(study: Collected, record: Record) -> Iterator[Problem]:
    """No speed is above what the machine's measured bandwidth and arithmetic allow."""
    for part in ("decode", "prefill"):
        above = [
            f"{name}: {share:.0%}"
            for name, cell in _cells(record)
            if (share := number(cell.get(f"{part}_over_roof"))) is not None and share > ROOF_TOLERANCE
        ]
        if above:
            hint = "the weights fit a cache (a small model on a CPU), or the limits were measured while others worked"
            yield Problem(f"{part} is above its roof: {', '.join(listed(above))}", hint)


@each_record(ERROR, source="weights that are used lie in memory", stages=_STAGES)
def profile_memory(study: Collected, record: Record) -> Iterator[Problem]:
    """The peak of generating holds at least the weights in use, and memory after loading those that were loaded."""
    for name, cell in _cells(record):
        for memory, stored in (("allocated_after_load_mib", "parameter_bytes"), ("generate_peak_mib", "used_bytes")):
            held, needed = number(cell.get(memory)), number(cell.get(stored))
            if held is not None and needed is not None and held * _MIB < 0.99 * needed:
                what = f"{name}: {memory} of {held:.1f} MiB is less than the {needed / _MIB:.1f} MiB of {stored}"
                yield Problem(what, f"memory was read too early, or part of the model is elsewhere: {_AGAIN}")


@each_record(WARNING, source="CUDA graphs are replayed by cudaGraphLaunch", stages=_STAGES)
def profile_graphs(study: Collected, record: Record) -> Iterator[Problem]:
    """A cell that says CUDA graphs did replay graphs."""
    for name, cell in _cells(record):
        if cell["mode"] == "cuda-graphs" and cell.get("graph_launches") == 0:
            yield Problem(f"{name}: no graph was launched", "the model fell back to compiled code without graphs")


@each_record(INFO, source="the status of the cells", stages=_STAGES, any_status=True)
def profile_not_measured(study: Collected, record: Record) -> Iterator[Problem]:
    """Cells that did not fit or cannot run on this machine are results, and are listed."""
    for cell in record["metrics"].get("cells") or ():
        if cell["status"] != "ok":
            what = f"{cell['arm']} at batch {cell['batch']} is {cell['status']}: {cell['reason']}"
            yield Problem(what, "nothing to do, or use a machine that can run it")
