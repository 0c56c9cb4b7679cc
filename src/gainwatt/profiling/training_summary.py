"""From the rows of a profile to its numbers: pure functions, no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from gainwatt.energy.stats import spread
from gainwatt.profiling.training_parts import PARTS, STEP
from gainwatt.stats.intervals import wilson

Row = dict[str, Any]
Metrics = dict[str, Any]
NO_STEP = "no measured step went well"
NO_GPU = "no GPU: see peak_rss"


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of a non-empty sample, interpolated between its neighbours (Hyndman & Fan's type 7, as numpy's)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Numbers:
    """Metrics with the reasons of those that are null."""

    def __init__(self) -> None:
        self.metrics: Metrics = {}
        self.null_reasons: dict[str, str] = {}

    def put(self, name: str, value: Any, reason: str) -> None:
        """Add a metric; `reason` says why it is null where it is."""
        self.metrics[name] = value
        if value is None:
            self.null_reasons[name] = reason

    def put_spread(self, name: str, values: Sequence[float], reason: str) -> None:
        """Mean, coefficient of variation and 95 % interval (Student's t over steps) of one value a step."""
        found = spread(values)
        few = reason if not values else "one step has no spread"
        self.put(name, found.mean, reason)
        low = None if found.low is None else max(0.0, found.low)  # no time and no energy is below zero
        for end, value in (("cv", found.cv), ("low", low), ("high", found.high)):
            self.put(f"{name}_{end}", value, few if found.mean != 0 else "the mean is zero")


def summarise(rows: Sequence[Row], *, threshold_tokens: int, no_meter: str | None = None) -> Numbers:
    """Every number of a profile. Warm-up steps count for none of them; steps that ran out of memory are counted.

    `rows` as `training_rows.with_joules` gives them. Rollout and step times, joules and peaks are those of the measured
    steps that went well; their n is `steps_ok`. `no_meter` says why this machine has no joules at all.
    """
    numbers = Numbers()
    measured = [row for row in rows if not row["warmup"]]
    good = [row for row in measured if row["status"] == "ok"]
    _counts(numbers, rows, measured, good)
    _times(numbers, good)
    _lengths(numbers, good, threshold_tokens)
    _memory(numbers, good)
    _energy(numbers, good, no_meter)
    return numbers


def _counts(numbers: Numbers, rows: Sequence[Row], measured: Sequence[Row], good: Sequence[Row]) -> None:
    failed = [row for row in rows if row["status"] == "oom"]
    numbers.metrics |= {
        "steps_warmup": len(rows) - len(measured),
        "steps_measured": len(measured),
        "steps_ok": len(good),
        "oom_count": len(measured) - len(good),
        "oom_warmup_count": len(failed) - (len(measured) - len(good)),
        "oom_by_part": {part: sum(row["oom_part"] == part for row in failed) for part in (*PARTS, STEP)},
        "completions": sum(row["completions"] for row in good),
    }
    first = failed[0] if failed else None
    numbers.metrics["oom_first"] = f"step {first['step']}, {first['oom_part']}: {first['reason']}" if first else "none"


def _times(numbers: Numbers, good: Sequence[Row]) -> None:
    for part in (STEP, *PARTS):
        values = [row[f"{part}_s"] for row in good if row[f"{part}_s"] is not None]
        numbers.put_spread(f"{part}_s_mean", values, NO_STEP)
        for name, share in (("p50", 0.5), ("p95", 0.95)) if part in (STEP, "rollout") else ():
            numbers.put(f"{part}_s_{name}", quantile(values, share) if values else None, NO_STEP)
    rollout_s = sum(row["rollout_s"] or 0.0 for row in good)
    step_s = sum(row["step_s"] for row in good)
    completions = numbers.metrics["completions"]
    numbers.put("rollout_s", rollout_s if good else None, NO_STEP)
    numbers.put("rollouts_per_min", 60 * completions / rollout_s if rollout_s else None, NO_STEP)
    # Each step makes the same number of rollouts, so that the ends of the interval are those of the mean time.
    for end, other in (("low", "high"), ("high", "low")):
        limit = numbers.metrics[f"rollout_s_mean_{other}"]
        value = 60 * completions / len(good) / limit if good and limit is not None and limit > 0 else None
        numbers.put(f"rollouts_per_min_{end}", value, "the interval of the rollout time has no such end above zero")
    numbers.put("rollouts_per_min_of_step", 60 * completions / step_s if step_s else None, NO_STEP)


def _lengths(numbers: Numbers, good: Sequence[Row], threshold: int) -> None:
    lengths = [length for row in good for length in row["completion_tokens"]]
    padded = [length for row in good for length in row["padded_tokens"]]
    tail = sum(length > threshold for length in lengths)
    numbers.metrics |= {"long_tail_threshold_tokens": threshold, "long_tail_count": tail}
    share = wilson(tail, len(lengths)) if lengths else None
    numbers.put("long_tail_rate", tail / len(lengths) if lengths else None, NO_STEP)
    numbers.put("long_tail_low_rate", share and share.low, NO_STEP)
    numbers.put("long_tail_high_rate", share and share.high, NO_STEP)
    # What comes out where the padding behind the end token is counted too; beside ours, to explain such figures.
    over = sum(length > threshold for length in padded)
    numbers.put("long_tail_padded_rate", over / len(padded) if padded else None, NO_STEP)
    numbers.put("generated_tokens", sum(lengths) if lengths else None, NO_STEP)
    numbers.put("completion_tokens_mean", statistics.fmean(lengths) if lengths else None, NO_STEP)
    for name, share_of in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
        value = quantile(lengths, share_of) if lengths else None
        numbers.put(f"completion_tokens_{name}", value, NO_STEP)
    at_limit = sum(row["at_limit"] for row in good)
    numbers.put("hit_limit_rate", at_limit / len(lengths) if lengths else None, NO_STEP)
    for name, kind in (("idle_slot", ""), ("idle_group_slot", "group_")):
        every = sum(row[f"{kind}slot_steps"] for row in good)
        idle = sum(row[f"{kind}idle_slot_steps"] for row in good)
        numbers.put(f"{name}_steps", idle if good else None, NO_STEP)
        numbers.put(f"{name}_rate", idle / every if every else None, NO_STEP)


def _memory(numbers: Numbers, good: Sequence[Row]) -> None:
    for kind, reason in (
        ("allocated", NO_GPU),
        ("reserved", NO_GPU),
        ("rss", "this system does not reset a process's peak of main memory"),
    ):
        found: list[float] = []
        for part in PARTS:
            values = [row[f"peak_{kind}_{part}_mib"] for row in good]
            known = [value for value in values if value is not None]
            numbers.put(f"peak_{kind}_{part}_mib", max(known, default=None), reason if good else NO_STEP)
            found += known
        numbers.put(f"peak_{kind}_step_mib", max(found, default=None), reason if good else NO_STEP)


def _energy(numbers: Numbers, good: Sequence[Row], no_meter: str | None) -> None:
    reason = next((row["null_reason"] for row in good if row["null_reason"]), "not metered") if good else NO_STEP
    reason = no_meter or reason
    tokens = sum(sum(row["completion_tokens"]) for row in good)
    for kind in ("gross", "net"):
        by_part: dict[str, list[float | None]] = {
            part: [joules(row, kind, part) for row in good] for part in (STEP, *PARTS)
        }
        numbers.put_spread(f"{kind}_j_per_step", _whole(by_part[STEP]), reason)
        rollouts = [
            value / row["completions"]
            for value, row in zip(by_part["rollout"], good, strict=True)
            if value is not None and row["completions"]
        ]
        numbers.put_spread(f"{kind}_j_per_rollout", rollouts if len(rollouts) == len(good) else [], reason)
        joules_rollout = _whole(by_part["rollout"])
        per_ktok = 1000 * sum(joules_rollout) / tokens if joules_rollout and tokens else None
        numbers.put(f"{kind}_j_per_ktok_rollout", per_ktok, reason)
        for part, values in by_part.items():
            known = _whole(values)
            numbers.put(f"{kind}_j_{part}", sum(known) if known else None, reason)
            if kind == "gross":
                seconds = sum(row[f"{part}_s"] or 0.0 for row in good)
                numbers.put(f"mean_{part}_w", sum(known) / seconds if known and seconds else None, reason)


def joules(row: Row, kind: str, part: str) -> float | None:
    """Gross or net joules of a part of a step; 0 for one that was not reached in a step that has joules.

    A part of milliseconds can lie below idle by the noise of its few samples, and the meter then gives no net joules
    for it. In a sum over steps that noise cancels, so that it is worked out here with the idle power of its own step.
    """
    if row[f"{part}_s"] is None:
        return None if row[f"gross_j_{STEP}"] is None else 0.0
    gross, net = row[f"gross_j_{part}"], row[f"net_j_{part}"]
    if kind == "gross" or net is not None or gross is None:
        return float(gross) if kind == "gross" and gross is not None else net
    whole_gross, whole_net = row[f"gross_j_{STEP}"], row[f"net_j_{STEP}"]
    if whole_gross is None or whole_net is None:
        return None
    return float(gross - (whole_gross - whole_net) / row["step_s"] * row[f"{part}_s"])


def _whole(values: Sequence[float | None]) -> list[float]:
    """The values where all of them are known, else none: a sum over some steps is not one over all."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []
