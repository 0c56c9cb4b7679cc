"""Attention heads: scores with their controls, and what a cell says as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainwatt.record import Record
from gainwatt.stats.rank import correlation_interval, spearman
from gainwatt.stats.student import mean_interval
from gainwatt.study import Cell, variants
from gainwatt.tables.cost import energy_notes, phase_energy
from gainwatt.tables.results import Results, made_once, read_sidecar
from gainwatt.tables.write import to_markdown

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]
Place = tuple[int, int]
"""Layer and head."""

SCORES, MATCHED = "score_heads", "matched"
_LISTED = 10
_DRAWS = 1000
"""A standard error needs fewer resamples than percentiles do."""
_FIRST = ("layer_idx", "head_idx", "tv_distance", "mean_activation_reasoning", "mean_activation_general")
_CELL = (
    "heads", "attention_layers", "pairs_general", "heads_above_null_general", "heads_above_null_general_share",
    "heads_p_family_general", "heads_above_null_matched", "heads_above_null_matched_share",
    "heads_above_null_split_half", "heads_above_null_split_half_share", "tv_max_general", "tv_max_matched",
    "tv_max_split_half", "null_tv_mean_general", "p_floor_general", "vocabulary_cosine_general",
    "vocabulary_cosine_matched", "tokens_uncut_ratio_general", "tokens_uncut_ratio_matched",
)  # fmt: skip
_COST = ("prompts", "prompt_tokens", "read_s", "throughput_tok_s", "peak_allocated_mib", "peak_rss_mib")


def cells(results: Results) -> list[Cell]:
    """The scored cells in the study's order: every variant at the reference, then at `heads.schemes`."""
    if results.study.heads is None:
        return []
    names = dict.fromkeys([results.study.quantize.reference, *results.study.heads.schemes])
    return [Cell(variant, scheme) for variant in variants(results.study) for scheme in names]


def scored(results: Results, cell: Cell) -> Record | None:
    """The record of a cell's scores if it is there with status ok."""
    record = results.branches.get(SCORES, {}).get(cell.name)
    return record if record is not None and record["status"] == "ok" else None


@made_once
def head_scores(results: Results) -> list[Row]:
    """One row per cell and head, by cell, the largest distance first.

    The first five columns are those of powerbench's head scores. The interval reaches from below `tv_crossfit`, which
    errs downwards, to above `tv_distance`, which errs upwards (t over half of the pairs); `tv_null_mean` is what
    relabelled pairs give on average, `q_value` Benjamini and Hochberg's over all heads of the cell, `p_family` the
    family-wise p. The same against the matched prompts and between two halves of the reasoning prompts.
    """
    rows: list[Row] = []
    settings = results.study.heads
    for cell in cells(results):
        record = scored(results, cell)
        if record is None or settings is None:
            continue
        columns = read_sidecar(record, "heads")
        pairs = record["metrics"]["pairs_general"]
        for rank, values in enumerate(zip(*columns.values(), strict=True), start=1):
            head = dict(zip(columns, values, strict=True))
            rows.append(_head(results, cell, rank, head, pairs, settings.fdr))
    return rows


def _head(results: Results, cell: Cell, rank: int, head: Row, pairs: int, fdr: float) -> Row:
    confidence = results.study.statistics.confidence
    low, high = (
        mean_interval(head[name], head["stderr_general"], pairs // 2, confidence)
        for name in ("crossfit_general", "tv_distance")
    )
    matched = head.get("q_matched")
    return {
        **{name: head[name] for name in _FIRST},
        "variant": cell.variant,
        "scheme": cell.scheme,
        "kv_head_idx": head["kv_head_idx"],
        "rank": rank,
        "tv_distance_low": min(max(0.0, low.low), head["tv_distance"]),
        "tv_distance_high": min(1.0, high.high),
        "tv_crossfit": head["crossfit_general"],
        "tv_null_mean": head["null_mean_general"],
        "tv_null_q95": head["null_q95_general"],
        "p_value": head["p_general"],
        "q_value": head["q_general"],
        "p_family": head["p_family_general"],
        "above_null": head["q_general"] <= fdr,
        "tv_matched": head.get("tv_matched"),
        "tv_crossfit_matched": head.get("crossfit_matched"),
        "q_value_matched": matched,
        "above_null_matched": None if matched is None else matched <= fdr,
        "tv_split_half": head["tv_split_half"],
        "q_value_split_half": head["q_split_half"],
        "mean_activation_matched": head["mean_activation_matched"],
        **{
            name: head[name]
            for name in ("o_proj_norm", "dw_o_norm", "dw_q_norm", "dw_kv_norm", "dw_norm", "dw_relative")
        },
    }


@made_once
def head_cells(results: Results) -> list[Row]:
    """One row per scored cell: heads above the null and above each control, the extreme heads, depth, speed, joules.

    `depth_spearman`: rank correlation of layer and `tv_distance`, with an interval over pairs of prompts;
    `top_tenth_late_share`: share of the highest tenth of the heads that lies in the last third of the layers.
    """
    rows = []
    for cell in cells(results):
        record = results.branches.get(SCORES, {}).get(cell.name)
        metrics: Row = record["metrics"] if record and record["status"] == "ok" else {}
        row: Row = {"variant": cell.variant, "scheme": cell.scheme, "status": record["status"] if record else "missing"}
        row |= {name: metrics.get(name) for name in _CELL}
        row |= _extremes(results, cell) | _depth(results, cell)
        row |= {name: metrics.get(name) for name in _COST}
        if record:
            gross, net, _ = phase_energy(record, "read")
            row |= {"read_gross_j": gross, "read_net_j": net, **energy_notes(record, "read")}
        row["reason"] = "not measured yet" if record is None else record["reason"]
        rows.append(row)
    return rows


def _extremes(results: Results, cell: Cell) -> Row:
    rows = [row for row in head_scores(results) if (row["variant"], row["scheme"]) == (cell.variant, cell.scheme)]
    if not rows:
        return dict.fromkeys(("top_heads", "bottom_heads", "top_tenth_late_share"))
    tenth = rows[: max(1, len(rows) // 10)]
    late = 2 * (1 + max(row["layer_idx"] for row in rows)) / 3
    return {
        "top_heads": "; ".join(map(_shown, rows[:_LISTED])),
        "bottom_heads": "; ".join(map(_shown, rows[::-1][:_LISTED])),
        "top_tenth_late_share": sum(row["layer_idx"] >= late for row in tenth) / len(tenth),
    }


def _shown(row: Row) -> str:
    interval = f"[{row['tv_distance_low']:.2f}, {row['tv_distance_high']:.2f}]"
    return f"L{row['layer_idx']}H{row['head_idx']} {row['tv_distance']:.3f} {interval}"


def _depth(results: Results, cell: Cell) -> Row:
    names = ("depth_spearman", "depth_spearman_low", "depth_spearman_high")
    record = scored(results, cell)
    if record is None:
        return dict.fromkeys(names)
    places, values = differences(record)
    layers = [layer for layer, _ in places]
    found = correlation(results, lambda kept: spearman(layers, distances(values[kept])), len(values))
    return dict(zip(names, found, strict=True))


def correlation(results: Results, statistic: Any, n: int) -> tuple[float | None, float | None, float | None]:
    """A rank correlation as a function of the pairs that count, and its interval over `n` pairs."""
    import numpy as np

    settings = results.study.statistics
    draws = min(_DRAWS, settings.bootstrap_draws)
    interval = correlation_interval(statistic, n, confidence=settings.confidence, draws=draws, seed=settings.seed)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return statistic(np.arange(n)), low, high


def differences(record: Record) -> tuple[list[Place], NDArray[Any]]:
    """Layer and head of each column, and each pair's differences against general prompts: (pairs, heads, bins)."""
    import numpy as np

    columns = read_sidecar(record, "pairs")
    order = sorted(range(len(columns["layer_idx"])), key=lambda i: (columns["layer_idx"][i], columns["head_idx"][i]))
    places = [(columns["layer_idx"][i], columns["head_idx"][i]) for i in order]
    values = np.array([columns["differences"][i] for i in order])
    return places, values.reshape(len(order), columns["pairs"][0], -1).swapaxes(0, 1)


def distances(values: NDArray[Any]) -> NDArray[Any]:
    """Plug-in distance of each head from differences of shape (pairs, heads, bins)."""
    import numpy as np

    return np.asarray(0.5 * np.abs(values.sum(axis=0)).sum(axis=1) / len(values))


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """The summary's part about heads; empty where none were scored."""
    shown = [
        {
            "cell": f"{row['variant']}.{row['scheme']}",
            "heads": row["heads"],
            "differ from general prompts": row["heads_above_null_general"],
            "from matched prompts": row["heads_above_null_matched"],
            "between halves": row["heads_above_null_split_half"],
            "highest": (row["top_heads"] or "").split(";")[0] or None,
            "depth (rank correlation)": row["depth_spearman"],
        }
        for row in tables.get("heads", [])
        if row["status"] == "ok"
    ]
    if not shown or results.study.heads is None:
        return ""
    return (
        f"## Attention heads\n\n{to_markdown(shown)}\nHeads whose outputs differ between reasoning and other prompts "
        f"at a false-discovery rate of {results.study.heads.fdr:g}. What differs from general prompts and not from "
        "prompts with the same words may be style and vocabulary rather than reasoning.\n"
    )
