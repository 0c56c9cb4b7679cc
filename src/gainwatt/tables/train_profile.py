"""Tables of the training profile: our numbers, published ones beside them, and the published columns by step."""

from __future__ import annotations

import math
from typing import Any

from gainwatt.energy.stats import spread
from gainwatt.profiling.training_parts import PARTS
from gainwatt.published import published
from gainwatt.record import Record
from gainwatt.study.train_profile import STAGE
from gainwatt.tables.cost import above_loaded_idle, energy_notes
from gainwatt.tables.results import Results, made_once, read_sidecar
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
_COUNTS = ("steps_ok", "steps_measured", "steps_warmup", "oom_count", "oom_first", "completions")
_TIMES = (
    "rollout_s_mean", "rollout_s_mean_low", "rollout_s_mean_high", "rollout_s_mean_cv", "rollout_s_p50",
    "rollout_s_p95", "score_s_mean", "update_s_mean", "optimizer_s_mean", "step_s_mean", "step_s_mean_low",
    "step_s_mean_high", "step_s_mean_cv", "step_s_p50", "step_s_p95", "rollouts_per_min", "rollouts_per_min_low",
    "rollouts_per_min_high", "rollouts_per_min_of_step",
)  # fmt: skip
_LENGTHS = (
    "generated_tokens", "completion_tokens_mean", "completion_tokens_p50", "completion_tokens_p95",
    "completion_tokens_max", "hit_limit_rate", "long_tail_threshold_tokens", "long_tail_rate", "long_tail_low_rate",
    "long_tail_high_rate", "long_tail_padded_rate", "idle_slot_rate", "idle_group_slot_rate", "idle_slot_steps",
)  # fmt: skip
_MEMORY = (
    "weights_on_disk_bytes", "parameter_bytes", "trainable_parameters", "allocated_after_load_mib",
    *(f"peak_{kind}_{part}_mib" for kind in ("allocated", "reserved", "rss") for part in (*PARTS, "step")),
)  # fmt: skip
_ENERGY = (
    *(f"mean_{part}_w" for part in (*PARTS, "step")), "peak_w",
    *(f"{kind}_j_per_{unit}{end}" for kind in ("gross", "net") for unit in ("rollout", "step")
      for end in ("", "_low", "_high", "_cv")),
    "gross_j_per_ktok_rollout", "net_j_per_ktok_rollout",
    *(f"{kind}_j_{part}" for kind in ("gross", "net") for part in PARTS),
)  # fmt: skip
STEP_COLUMNS = (
    "scheme", "step", "rollout_time_ms", "backward_time_ms", "total_step_time_ms", "peak_vram_rollout_mb",
    "peak_vram_backward_mb", "n_long_tail", "mean_output_tokens", "oom",
)  # fmt: skip


def records(results: Results) -> dict[str, Record]:
    """Type of the frozen base -> its record, in the study's order."""
    return {record["cell"]["scheme"]: record for record in results.branches.get(STAGE, {}).values()}


def train_profile(results: Results) -> list[Row]:
    """One row per type of the frozen base: time, lengths, idle slots, memory and joules of a step and its parts.

    Steps that hardly load a large board have net joules that are mostly what holding it costs (84 % for 8 rollouts of
    a 0.5B shape on an H200); `above_loaded_idle_j_per_step` leaves that out.
    """
    rows = []
    for scheme, record in records(results).items():
        metrics = record["metrics"]
        row: Row = {"scheme": scheme, "status": record["status"], "reason": record["reason"]}
        row |= {name: metrics.get(name) for name in (*_COUNTS, *_TIMES, *_LENGTHS, *_MEMORY, *_ENERGY)}
        above, why = above_loaded_idle(record, row["gross_j_per_step"], row["step_s_mean"] or 0.0)
        row |= {"above_loaded_idle_j_per_step": above, "above_loaded_idle_null_reason": why}
        rows.append(row | energy_notes(record, "train/step"))
    return rows


@made_once
def steps(results: Results) -> list[Row]:
    """One row per step under the published per-step names: milliseconds, and megabytes of 2^20 bytes.

    `backward_time_ms` holds scoring, both passes and the optimizer: everything of a step that is no rollout.
    """
    rows = []
    for scheme, record in records(results).items():
        if "steps" not in record["outputs"]:
            continue
        columns = read_sidecar(record, "steps")
        threshold = record["metrics"]["long_tail_threshold_tokens"]
        for place in range(len(columns["step"])):
            rows.append(_step(scheme, {name: values[place] for name, values in columns.items()}, threshold))
    return rows


def _step(scheme: str, step: Row, threshold: int) -> Row:
    tokens = step["completion_tokens"]
    rest = [step[f"{part}_s"] for part in PARTS[1:] if step[f"{part}_s"] is not None]
    peaks = [step[f"peak_allocated_{part}_mib"] for part in PARTS[1:]]
    known = [peak for peak in peaks if peak is not None]
    values = (
        scheme, step["step"], _ms(step["rollout_s"]), _ms(sum(rest)) if rest else None, _ms(step["step_s"]),
        step["peak_allocated_rollout_mib"], max(known, default=None), sum(length > threshold for length in tokens),
        sum(tokens) / len(tokens) if tokens else None, step["status"] == "oom",
    )  # fmt: skip
    return dict(zip(STEP_COLUMNS, values, strict=True)) | {"warmup": step["warmup"]}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def beside_published(results: Results) -> list[Row]:
    """The published rows in their order, each with the published value and ours for every type of the base.

    Empty where the study names no published source. Ours differ in what they count, and `note` says how.
    """
    if results.study.published is None or results.study.train_profile is None:
        return []
    source = published(results.study.published)
    rows = []
    for entry in source.rows("training"):
        for scheme, record in records(results).items():
            rows.append(_published_row(str(entry["Metric"]), entry["Value"], scheme, record, source.source))
    return rows


_PUBLISHED: dict[str, tuple[str, str, float, str]] = {
    "Mean rollout time": ("ms", "rollout_s_mean", 1000, "of all rollouts of a step, which are generated together"),
    "Rollouts/minute": ("1/min", "rollouts_per_min", 1, "by the time of the rollouts alone"),
    "Peak VRAM": ("MB (2^20 bytes)", "peak_allocated_step_mib", 1, "allocated by torch, the largest of any part"),
    "Mean power draw": ("W", "mean_step_w", 1, "joules of the steps by their seconds"),
    "OOM count": ("steps", "oom_count", 1, "of the measured steps"),
    "Long-tail frequency": (
        "share", "long_tail_rate", 1, "tokens up to the first end token; the published share counts padding as well",
    ),
}  # fmt: skip
"""Published row -> unit, metric of ours, factor, what to know about ours."""


def _published_row(name: str, value: float, scheme: str, record: Record, source: str) -> Row:
    """A row; `OOM count (N steps)` carries our own number of steps in its note."""
    plain = name.partition(" (")[0]
    unit, metric, factor, note = _PUBLISHED[plain]
    metrics = record["metrics"]
    low_name, high_name = (
        ("long_tail_low_rate", "long_tail_high_rate")
        if metric == "long_tail_rate"
        else (f"{metric}_low", f"{metric}_high")
    )
    ours, low, high = (metrics.get(key) for key in (metric, low_name, high_name))
    if plain == "Long-tail frequency" and metrics.get("long_tail_padded_rate") is not None:
        note += f" (with it ours is {metrics['long_tail_padded_rate']:.4g})"
    return {
        "metric": name,
        "unit": unit,
        "published": value,
        "scheme": scheme,
        "measured": None if ours is None else factor * ours,
        "measured_low": None if low is None else factor * low,
        "measured_high": None if high is None else factor * high,
        "steps": metrics.get("steps_measured") if plain == "OOM count" else metrics.get("steps_ok"),
        "null_reason": record["null_reasons"].get(metric) or record["reason"],
        "note": note,
        "source": source,
    }


def ratios(results: Results) -> list[Row]:
    """Each type of the base against the first unquantized one of the profile, from this machine's own runs.

    Both runs took the same prompts in the same order, so that steps are compared in pairs where both went well: the
    geometric mean of their ratios, with Student's interval on the logarithms. The runs follow each other, they are not
    interleaved: a drift of the machine between them is part of the ratio.
    """
    found = records(results)
    baseline = next((scheme for scheme in found if scheme != "bnb-nf4"), None)
    if baseline is None or len(found) < 2:
        return []
    below = _measured(found[baseline])
    rows = []
    for scheme, record in found.items():
        above = _measured(record)
        both = sorted(above.keys() & below.keys())
        for quantity in ("rollout_s", "update_s", "step_s", "gross_j_step", "net_j_step"):
            if scheme != baseline:
                rows.append(_ratio(scheme, baseline, quantity, [(above[n], below[n]) for n in both]))
    return rows


def _measured(record: Record) -> dict[int, Row]:
    if "steps" not in record["outputs"]:
        return {}
    columns = read_sidecar(record, "steps")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {row["step"]: row for row in rows if row["status"] == "ok" and not row["warmup"]}


def _ratio(scheme: str, baseline: str, quantity: str, pairs: list[tuple[Row, Row]]) -> Row:
    row: Row = {"scheme": scheme, "baseline": baseline, "quantity": quantity, "steps": len(pairs)}
    row |= dict.fromkeys(("ratio", "ratio_low", "ratio_high", "null_reason"))
    values = [(a[quantity], b[quantity]) for a, b in pairs]
    if len(values) < 2 or any(value is None for pair in values for value in pair):
        reasons = {a["null_reason"] or b["null_reason"] for a, b in pairs} - {None}
        return row | {"null_reason": "; ".join(sorted(reasons)) or "fewer than two steps went well in both runs"}
    if any(value <= 0 for pair in values for value in pair):
        return row | {"null_reason": "a value is not above zero"}
    found = spread([math.log(a / b) for a, b in values])
    known = [None if value is None else math.exp(value) for value in (found.mean, found.low, found.high)]
    return row | dict(zip(("ratio", "ratio_low", "ratio_high"), known, strict=True))


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """The summary's part about GRPO steps; empty where none was profiled."""
    shown = [
        {
            "base": row["scheme"],
            "steps": row["steps_ok"] if row["status"] == "ok" else row["status"],
            "out of memory": row["oom_count"],
            "rollout, s (p50, p95)": _three(row, "rollout_s"),
            "rollouts/min": row["rollouts_per_min"],
            "update, s": row["update_s_mean"],
            "peak, MiB": row["peak_allocated_step_mib"] or row["peak_rss_step_mib"],
            "J/rollout": row["gross_j_per_rollout"],
            "J/step": row["gross_j_per_step"],
            "long tail": _share(row["long_tail_rate"]),
            "idle slots": _share(row["idle_slot_rate"]),
        }
        for row in tables.get("train_profile", [])
    ]
    if not shown:
        return ""
    first = tables["train_profile"][0]
    text = f"## GRPO steps under adapters, by type of the frozen base\n\n{to_markdown(shown)}\n"
    text += f"Long tail: more than {first['long_tail_threshold_tokens']} tokens up to the first end token. "
    text += "Idle slots: steps that ended completions wait for the longest of their batch.\n"
    reasons = sorted({row["null_reason"] for row in tables["train_profile"] if row["null_reason"]})
    text += "".join(f"\nNull joules: {reason}\n" for reason in reasons)
    beside = tables.get("train_profile_published", [])
    if beside:
        names = ("metric", "unit", "published", "scheme", "measured", "measured_low", "measured_high", "steps")
        text += f"\n### Beside the published numbers\n\n{to_markdown(beside, names)}"
        text += f"\nPublished: {beside[0]['source']}.\n"
    return text


def _three(row: Row, name: str) -> str | None:
    values = [row[f"{name}_{part}"] for part in ("mean", "p50", "p95")]
    if None in values:
        return None
    mean, middle, high = (format(value, ".3g") for value in values)
    return f"{mean} ({middle}, {high})"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"
