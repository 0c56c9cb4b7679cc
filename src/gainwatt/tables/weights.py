"""Tables of the weight diagnoses: statistics, errors by scheme, what training changed against controls, layers."""

from __future__ import annotations

import re
from typing import Any

from gainwatt.record import Record
from gainwatt.study import BASE, DENSE, Cell, quantized_schemes, schemes
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.write import to_markdown
from gainwatt.weights.pairing import check_pairing
from gainwatt.weights.update import column_name
from gainwatt.weights.variants import control_variants, matched_variant

Row = dict[str, Any]
_OUTPUTS = ("logit_kl_nats", "top1_agreement", "final_state_relative_error")


def weights(results: Results) -> list[Row]:
    """One row per variant: the global weight statistics of its unquantized checkpoint.

    Raises RecordError when an evaluation of the variant is of another checkpoint than the diagnosis.
    """
    rows = []
    for variant, record in results.diagnoses.items():
        for scheme in schemes(results.study) if record["status"] == "ok" else ():
            evaluation = results.measured(Cell(variant, scheme))
            if evaluation is not None:
                check_pairing(record, evaluation)
        numbers = {name: value for name, value in record["metrics"].items() if not isinstance(value, list | dict)}
        rows.append({"variant": variant, "checkpoint": DENSE, "status": record["status"], **numbers})
    return rows


def weight_errors(results: Results) -> list[Row]:
    """One row per variant and quantizer: error of the weights, and what it does to outputs on calibration text.

    `source` says whether the error is of the `stored` checkpoint that is evaluated, or `computed` from the unquantized
    weights alone. `error_over_base` is the error over that of the base under the same quantizer.
    """
    rows: list[Row] = []
    for variant, record in _measured(results).items():
        for scheme in _proxies(results):
            key = column_name(scheme)
            relative = _error(record, f"relative_mse_{key}_pooled")
            rows.append(_error_row(results, variant, scheme, "computed", relative, f"relative_mse_{key}_pooled"))
            mean = record["metrics"].get(f"output_relative_error_{key}_mean")
            rows[-1] |= {"layer_output_relative_error_mean": mean} | dict.fromkeys(_OUTPUTS)
        for scheme in quantized_schemes(results.study):
            if variant in control_variants(results.study):
                continue
            key = column_name(scheme)
            relative, reason = _stored_error(results, Cell(variant, scheme), record)
            rows.append(_error_row(results, variant, scheme, "stored", relative, f"stored_relative_mse_{key}"))
            outputs = {name: record["metrics"].get(f"{name}_{key}") for name in _OUTPUTS}
            rows[-1] |= {"layer_output_relative_error_mean": None, **outputs, "null_reason": reason}
    return rows


def _error_row(
    results: Results, variant: str, scheme: str, source: str, relative: float | None, metric: str
) -> Row:  # fmt: skip
    base = results.diagnoses.get(BASE)
    before = None
    if base is not None and base["status"] == "ok" and variant != BASE:
        before = _error(base, metric)
        if before is None and source == "stored":
            before, _ = _stored_error(results, Cell(BASE, scheme), base)
    from math import log10

    return {
        "variant": variant,
        "scheme": scheme,
        "source": source,
        "relative_mse": relative,
        "snr_db": -10 * log10(relative) if relative else None,
        "error_over_base": relative / before if relative is not None and before else None,
    }


def _stored_error(results: Results, cell: Cell, record: Record) -> tuple[float | None, str | None]:
    """The diagnosis's own figure, or that of the record of the quantization, of the same checkpoint; and why none."""
    metric = f"stored_relative_mse_{column_name(cell.scheme)}"
    value = _error(record, metric)
    if value is not None:
        return value, None
    made = results.quantizations.get(cell)
    diagnosed = record["inputs"].get("checkpoint", {}).get("sha256")
    if made is not None and made["inputs"].get("checkpoint", {}).get("sha256") == diagnosed:
        value = _error(made, "relative_mse")
    reason = record["null_reasons"].get(metric, "the diagnosis did not look at this checkpoint")
    return value, None if value is not None else reason


def weight_changes(results: Results) -> list[Row]:
    """What a change of the weights does to codes: GRPO, the supervised control of the same norm, random noise of it.

    One row per change and quantizer. `flips_over_random` compares with noise of the same norm, tensor by tensor, in
    the stored type. For a `stored` scheme the codes are those of the quantized checkpoints of base and trained model,
    and the noise is that in the same matrices; where the scheme looks at text, part of the flips comes from its own
    search.
    """
    rows: list[Row] = []
    controls = control_variants(results.study)
    for variant, record in _measured(results).items():
        if variant == BASE:
            continue
        metrics = record["metrics"]
        kind = "SFT" if variant in controls else "GRPO"
        for scheme in _proxies(results):
            key = column_name(scheme)
            flips, noise = metrics.get(f"code_flip_frac_{key}"), metrics.get(f"random_code_flip_frac_{key}")
            step = metrics.get(f"update_rms_over_step_{key}")
            about = {
                "scheme": scheme,
                "source": "computed",
                "relative_update_norm": metrics.get("relative_update_norm"),
            }
            rows.append(_change(variant, kind, about, flips, noise, step))
            if noise is not None:
                rows.append(_change(f"noise as large as {variant}", "random", about, noise, noise, step))
        if kind == "GRPO":
            rows += _stored_changes(results, variant, record)
    order = {"GRPO": 0, "SFT": 1, "random": 2}
    return sorted(rows, key=lambda row: (row["scheme"], row["source"], order[row["kind"]], row["change"]))


def _change(
    change: str, kind: str, about: Row, flips: float | None, noise: float | None, step: float | None
) -> Row:  # fmt: skip
    return {
        "scheme": about["scheme"],
        "source": about["source"],
        "kind": kind,
        "change": change,
        "relative_update_norm": about["relative_update_norm"],
        "code_flip_frac": flips,
        "flips_over_random": flips / noise if flips is not None and noise else None,
        "update_rms_over_step": step,
        "quantized_change_ratio": None,
        "quantized_change_cosine": None,
        "null_reason": None,
    }


def _stored_changes(results: Results, variant: str, record: Record) -> list[Row]:
    rows = []
    for scheme in quantized_schemes(results.study):
        key, metrics = column_name(scheme), record["metrics"]
        name = f"stored_code_flip_frac_{key}"
        if name not in metrics:
            continue
        about = {"scheme": scheme, "source": "stored", "relative_update_norm": metrics.get("relative_update_norm")}
        step, noise = metrics.get(f"stored_update_rms_over_step_{key}"), _noise_of_stored(record, scheme)
        row = _change(variant, "GRPO", about, metrics[name], noise, step)
        for number in ("quantized_change_ratio", "quantized_change_cosine"):
            row[number] = metrics.get(f"stored_{number}_{key}")
        rows.append(row | {"null_reason": record["null_reasons"].get(name)})
    return rows


def _noise_of_stored(record: Record, scheme: str) -> float | None:
    """Share of codes that noise flips in the matrices that the scheme quantized: an output layer, and embeddings that
    the diagnosis was asked for, are measured and not quantized.
    """
    name = f"random_code_flip_frac_{column_name(scheme)}"
    quantized = stored_table(record).get(scheme, {})
    rows = [row for row in layer_table(record) if row["module_name"] in quantized and row.get(name) is not None]
    if not rows:
        return record["metrics"].get(name)
    return sum(row[name] * row["numel"] for row in rows) / sum(row["numel"] for row in rows)


def weight_layers(results: Results) -> list[Row]:
    """One row per variant and matrix: layer, kind of module, outliers, error by quantizer, stored errors beside it."""
    rows: list[Row] = []
    for variant, record in _measured(results).items():
        table = layer_table(record)
        stored = stored_table(record)
        for entry in table:
            module = entry["module_name"]
            errors = {f"stored_relative_mse_{column_name(s)}": found.get(module) for s, found in stored.items()}
            rows.append({"variant": variant, **place_of(module), **entry, **errors})
    return rows


def place_of(module: str) -> Row:
    """`layer` (number of the block, None outside) and `module` (last part) of a module's name."""
    match = re.search(r"(?:layers|h|blocks)\.(\d+)\.", module)
    return {"layer": int(match[1]) if match else None, "module": module.rpartition(".")[2]}


def layer_table(record: Record) -> list[Row]:
    """The columns of a diagnosis' per-matrix file that the tables and figures show."""
    columns = read_sidecar(record, "layers")
    wanted = [
        name
        for name in columns
        if name in ("module_name", "numel", "max_abs", "median_abs", "kurtosis", "abs_outlier_frac")
        or name in ("channel_outlier_frac", "channel_max_abs_median", "channel_max_abs_max", "w4_relative_mse")
        or name.startswith(("relative_mse_", "code_flip_frac_", "random_code_flip_frac_"))
    ]
    return [{name: columns[name][i] for name in wanted} for i in range(len(columns["module_name"]))]


def stored_table(record: Record) -> dict[str, dict[str, float]]:
    """Scheme -> module -> relative error of the stored checkpoint; empty where none was looked at."""
    found: dict[str, dict[str, float]] = {}
    if "stored" in record["outputs"]:
        columns = read_sidecar(record, "stored", ["scheme", "module_name", "relative_mse"])
        for scheme, module, error in zip(*columns.values(), strict=True):
            found.setdefault(scheme, {})[module] = error
    return found


def changes_section(results: Results, rows: list[Row]) -> str:
    """Markdown for the summary: flips of GRPO against both controls, and how to read them. Empty without diagnoses."""
    variants = [matched_variant(results.study), *control_variants(results.study)]
    shown = [
        row
        for row in rows
        if row["change"] in variants or (row["kind"] == "random" and row["change"].endswith(variants[0]))
    ]
    if not shown:
        return ""
    table = [
        {
            "quantizer": f"{row['scheme']} ({row['source']})",
            "change": row["change"],
            "‖Δw‖ / ‖w‖": row["relative_update_norm"],
            "codes flipped": None if row["code_flip_frac"] is None else f"{100 * row['code_flip_frac']:.3g} %",
            "times random": row["flips_over_random"],
            "rms Δw / step": row["update_rms_over_step"],
        }
        for row in shown
    ]
    return f"## What training changed in code space\n\n{to_markdown(table)}\n{READING}\n"


READING = (
    "Reading: near 1 in *times random*, the training flips as many codes as noise of the same size that is stored in "
    "the same type, so the number of "
    "flips tells the size of the step and nothing about what was learned; a GRPO row far from its SFT row says that "
    "the kind of training matters. A near-equal weight error of base and trained model is expected wherever "
    "*rms Δw / step* is small, and is no evidence that a gain survives."
)


def _measured(results: Results) -> dict[str, Record]:
    return {variant: record for variant, record in results.diagnoses.items() if record["status"] == "ok"}


def _proxies(results: Results) -> tuple[str, ...]:
    return results.study.diagnose.schemes


def _error(record: Record, metric: str) -> float | None:
    value = record["metrics"].get(metric)
    return None if value is None else float(value)
