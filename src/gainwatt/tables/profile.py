"""Tables of the inference profile: every cell, the same in a published column order, and ratios to the baseline.

A ratio is formed inside one record only: its two cells ran in interleaved order in one process. Between records, days
and machines the baseline itself moves by more than many of the differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gainwatt.environment import gpus_of
from gainwatt.profiling.ratios import QUANTITIES, RatioOf, paired
from gainwatt.record import Record
from gainwatt.study.profiling_cells import STAGE, Group, groups
from gainwatt.tables.accuracy import accuracy_matrix
from gainwatt.tables.results import Results, made_once
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
MIB = 2**20
LOAD = ("batch", "prompt_tokens", "new_tokens")
# The rows of powerbench's benchmark_inference.py (github.com/Skrisps26/powerbench); names and order are an interface.
PUBLISHED = (
    "model_name", "precision", "batch_size", "input_length", "mean_latency_ms", "tokens_per_second", "vram_mb",
    "perplexity", "gsm8k_accuracy",
)  # fmt: skip
_TIMES = (
    "latency_ms_mean", "latency_ms_low", "latency_ms_high", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99",
    "latency_cv", "ttft_ms_mean", "ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99", "tpot_ms_mean", "throughput_tok_s",
    "throughput_tok_s_low", "throughput_tok_s_high", "throughput_tok_s_cv", "prefill_tok_s", "decode_tok_s",
    "requests_s", "n_calls", "n_windows",
)  # fmt: skip
_ENERGY = (
    "gross_j_per_ktok", "gross_j_per_ktok_low", "gross_j_per_ktok_high", "gross_j_per_ktok_cv", "net_j_per_ktok",
    "net_j_per_ktok_low", "net_j_per_ktok_high", "prefill_gross_j_per_ktok", "decode_gross_j_per_ktok",
    "gross_j_per_request", "net_j_per_request", "tokens_per_gross_j", "tokens_per_net_j", "edp_js", "mean_w",
    "mean_w_low", "mean_w_high", "mean_w_cv",
)  # fmt: skip
_WORK = (
    "flops_per_request", "achieved_tflop_s", "prefill_roof_tok_s", "prefill_over_roof", "prefill_regime",
    "decode_roof_tok_s", "decode_over_roof", "decode_regime", "prefill_launches", "step_launches", "graph_launches",
    "prefill_device_s", "step_device_s",
)  # fmt: skip
_MEMORY = (
    "parameters", "parameter_bytes", "used_bytes", "disk_bytes", "allocated_after_load_mib", "load_peak_mib",
    "prefill_peak_mib", "decode_peak_mib", "generate_peak_mib", "load_s", "first_call_extra_s", "compile_s",
)  # fmt: skip
_KERNELS = ("kernel_path", "layers", "kernels")
_MEMORY_RATIOS = ("disk_bytes", "used_bytes", "allocated_after_load_mib", "generate_peak_mib")


@dataclass(frozen=True)
class Measured:
    """One cell of the profile, the baseline's cell under the same load in the same record, and where it is from."""

    group: Group
    record: Record
    cell: Row
    baseline: Row

    @property
    def ok(self) -> bool:
        """Whether it was measured."""
        return bool(self.cell["status"] == "ok")

    def place(self) -> Row:
        """What tells the row from every other."""
        names = ("arm", "scheme", "mode", "attention", *LOAD)
        return {"variant": self.group.variant, **{name: self.cell[name] for name in names}}


def cells(results: Results, *, ok: bool = False) -> Iterator[Measured]:
    """Every cell of every group that has a record, in the study's order; with `ok` the measured ones alone."""
    records = results.branches.get(STAGE, {})
    for group in groups(results.study):
        record = records.get(group.name)
        if record is None:
            continue
        found = record["metrics"].get("cells") or []
        baselines = {tuple(cell[name] for name in LOAD): cell for cell in found if cell["baseline"]}
        for cell in found:
            if cell["status"] == "ok" or not ok:
                yield Measured(group, record, cell, baselines[tuple(cell[name] for name in LOAD)])


@made_once
def profile(results: Results) -> list[Row]:
    """One row per cell: times, energy, operations and roofs, memory, kernels; quality where it was measured.

    The baseline has one row per group: each was measured beside other arms. `latency` is that of a whole batch.
    """
    quality = _quality(results)
    rows = []
    for found in cells(results):
        cell = found.cell
        known = quality.get((found.group.variant, cell["scheme"]), {})
        row = found.place() | {"baseline": cell["baseline"], "group": found.group.name, "status": cell["status"]}
        row |= {name: cell.get(name) for name in (*_TIMES, *_ENERGY, *_WORK, *_MEMORY)}
        row |= {
            "compile_pays_back_requests": _payback(found, results),
            "perplexity": known.get("perplexity"),
            "accuracy": known.get("accuracy"),
            "accuracy_low": known.get("accuracy_low"),
            "accuracy_high": known.get("accuracy_high"),
            **{name: cell.get(name) for name in _KERNELS},
            "gates_passed": gates_passed(cell),
            "flags": " ".join(cell.get("flags", [])) or None,
            "boundary": "+".join(found.record["energy"].get("boundary", [])) or None,
            "reason": cell["reason"],
            "null_reason": null_reason(cell),
        }
        rows.append(row)
    return rows


def gates_passed(cell: Row) -> bool | None:
    """Whether every gate of the protocol that could be judged has passed; None where there is none."""
    judged = [gate["passed"] for gate in cell.get("gates", []) if gate["passed"] is not None]
    return all(judged) if judged else None


def null_reason(cell: Row) -> str | None:
    """Why numbers of a measured cell are null, each reason once. What a mode simply does not have is not listed."""
    silent = {"this mode compiles nothing", "one window has no interval", "one window has no spread"}
    return "; ".join(dict.fromkeys(why for why in cell["null_reasons"].values() if why not in silent)) or None


def _payback(found: Measured, results: Results) -> float | None:
    """Batches after which compiling has cost less time than it saved, against the same scheme as it is."""
    cell = found.cell
    if not found.ok or cell["compile_s"] is None:
        return None
    for other in cells(results, ok=True):
        same = other.group == found.group and all(other.cell[name] == cell[name] for name in ("scheme", *LOAD))
        if same and other.cell["mode"] == "eager" and other.cell["attention"] == cell["attention"]:
            saved_s = (other.cell["latency_ms_mean"] - cell["latency_ms_mean"]) / 1000
            return cell["compile_s"] / saved_s if saved_s > 0 else None
    return None


def _quality(results: Results) -> dict[tuple[str, str], Row]:
    """(variant, scheme) -> perplexity and GSM8K accuracy, of the cells of the matrix that were evaluated."""
    found: dict[tuple[str, str], Row] = {}
    if results.evaluations:
        for row in accuracy_matrix(results):
            found[row["variant"], row["precision"]] = {
                name: row[name] for name in ("accuracy", "accuracy_low", "accuracy_high")
            }
    for cell, record in results.perplexities.items():
        found.setdefault((cell.variant, cell.scheme), {})["perplexity"] = record["metrics"].get("perplexity")
    return found


def inference_benchmark(results: Results) -> list[Row]:
    """The cells under the published names and in the published order.

    `vram_mb` is the peak of generating, with its own reset and without other models in the process; `precision` is the
    arm, and `mean_latency_ms` that of a batch. `input_length` is exact: no prompt is padded.
    """
    quality = _quality(results)
    rows = []
    for found in cells(results):
        cell = found.cell
        if cell["baseline"] and found.group.name != _first_group(results, found.group.variant):
            continue
        known = quality.get((found.group.variant, cell["scheme"]), {})
        values = (
            results.study.model.source, cell["arm"], cell["batch"], cell["prompt_tokens"],
            cell.get("latency_ms_mean"), cell.get("throughput_tok_s"), cell.get("generate_peak_mib"),
            known.get("perplexity"), known.get("accuracy"),
        )  # fmt: skip
        about = {"variant": found.group.variant, "new_tokens": cell["new_tokens"], "status": cell["status"]}
        rows.append(dict(zip(PUBLISHED, values, strict=True)) | about)
    return rows


def _first_group(results: Results, variant: str) -> str | None:
    records = results.branches.get(STAGE, {})
    return next((g.name for g in groups(results.study) if g.variant == variant and g.name in records), None)


@made_once
def ratios(results: Results) -> list[Row]:
    """Each arm against the baseline that was measured beside it, with 95 % intervals over pairs of windows."""
    rows = []
    for found in cells(results):
        if found.cell["baseline"]:
            continue
        row = found.place() | {"baseline_arm": found.baseline["arm"], "status": found.cell["status"]}
        reasons = []
        for name in QUANTITIES:
            ratio = ratio_of(found, name)
            row |= interval(f"{name}_ratio", ratio)
            reasons += [ratio.reason] if ratio.reason else []
        row["pairs"] = max((ratio_of(found, name).n for name in QUANTITIES), default=0)
        for name in _MEMORY_RATIOS:
            above, below = found.cell.get(name), found.baseline.get(name)
            row[f"{name}_ratio"] = above / below if above is not None and below else None
        row |= {name: found.cell.get(name) for name in ("decode_regime", "prefill_regime", *_KERNELS)}
        row["reason"] = found.cell["reason"]
        row["null_reason"] = "; ".join(dict.fromkeys(reasons)) or None
        rows.append(row)
    return rows


def ratio_of(found: Measured, quantity: str) -> RatioOf:
    """A cell against its baseline; nothing where one of the two was not measured."""
    if found.cell["status"] != "ok" or found.baseline["status"] != "ok":
        name = found.cell if found.cell["status"] != "ok" else found.baseline
        return RatioOf(None, None, None, 0, f"{name['arm']} is {name['status']}")
    return paired(found.cell, found.baseline, quantity)


def interval(name: str, ratio: RatioOf) -> Row:
    """A ratio and its ends as columns."""
    return {name: ratio.estimate, f"{name}_low": ratio.low, f"{name}_high": ratio.high}


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """What summary.md says of the profile: each arm against the baseline, and the published claims."""
    rows = tables.get("profile_ratios", [])
    if results.study.profile is None or not tables.get("profile"):
        return ""
    shown = [
        {
            "arm": row["arm"],
            "batch × prompt × answer": " × ".join(str(row[name]) for name in LOAD),
            "throughput": _times(row, "throughput_ratio"),
            "gross J per token": _times(row, "gross_j_per_token_ratio"),
            "weights in use": _share(row["used_bytes_ratio"]),
            "decoding is bound by": row["decode_regime"],
        }
        for row in rows
        if row["status"] == "ok"
    ]
    claims = [
        {
            "claim": f"{row['claim']} ({row['source']})",
            "claimed": row["claimed"],
            "arm, load": f"{row['arm']}, {row['load']}",
            "ours": row["ours_text"],
            "verdict": row["verdict"],
        }
        for row in tables.get("profile_claims", [])
        if row["ours"] is not None
    ]
    untold = [row for row in tables.get("profile_claims", []) if row["ours"] is None]
    parts = [f"## Profile of generation, as multiples of {results.study.profile.baseline}\n"]
    parts += [to_markdown(shown)] if shown else []
    parts += ["### Published claims on this machine\n", to_markdown(claims)] if claims else []
    if untold:
        why = "; ".join(dict.fromkeys(str(row["null_reason"]) for row in untold))
        parts.append(f"{len(untold)} comparisons with published claims could not be made: {why}.\n")
    machine = next((_machine(found.record) for found in cells(results)), "")
    return "\n".join([*parts, f"Pairs of interleaved windows, 95 % intervals; {machine}.\n"])


def _machine(record: Record) -> str:
    names = sorted({str(gpu["name"]) for gpu in gpus_of(record["environment"])})
    return ", ".join(names) or str(record["environment"].get("cpu") or "unknown machine")


def _times(row: Row, name: str) -> str | None:
    if row[name] is None:
        return None
    if row[f"{name}_low"] is None:
        return f"{row[name]:.2f}×"
    return f"{row[name]:.2f}× [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}×"
