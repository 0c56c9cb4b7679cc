"""Which heads training or quantization moved: scores compared on the same prompts, and the change of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainwatt.heads.tv import crossfit_change, relabellings
from gainwatt.heads.weights import CHANGES
from gainwatt.record import Record
from gainwatt.stats.multiple import benjamini_hochberg
from gainwatt.stats.rank import spearman
from gainwatt.stats.student import mean_interval
from gainwatt.study import BASE, Cell
from gainwatt.tables.heads import cells, correlation, differences, distances, head_scores, scored
from gainwatt.tables.results import Results, made_once

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]
_AGREEMENT = (
    "heads_moved", "largest_change", "tv_spearman", "tv_spearman_low", "tv_spearman_high", "change_dw_spearman",
    "change_dw_spearman_low", "change_dw_spearman_high", "dw_norm_total", "null_reason",
)  # fmt: skip


def comparisons(results: Results) -> list[tuple[Cell, Cell]]:
    """What is compared: base and each trained variant at the reference; then reference and each other scheme."""
    reference = results.study.quantize.reference
    everything = cells(results)
    at_reference = [cell for cell in everything if cell.scheme == reference and cell.variant != BASE]
    trained = [(Cell(BASE, reference), cell) for cell in at_reference]
    return trained + [(Cell(cell.variant, reference), cell) for cell in everything if cell.scheme != reference]


@made_once
def head_changes(results: Results) -> list[Row]:
    """One row per comparison and head, the largest change of the distance first.

    `tv_change` is that of the estimate that errs downwards, on the same pairs halved alike, with Student's t over half
    of them. The p-value exchanges the two models within pairs, under which the difference of the plug-in distances
    would be as large by chance; `q_value` is Benjamini and Hochberg's over the heads of the comparison. `dw_*`: how far
    training moved the head's own weights.
    """
    rows: list[Row] = []
    for before, after in comparisons(results):
        one, two = scored(results, before), scored(results, after)
        if one is not None and two is not None and not _unlike(one, two):
            rows += _changes(results, before, after, one, two)
    return rows


def _changes(results: Results, before: Cell, after: Cell, one: Record, two: Record) -> list[Row]:

    (places, old), (_, new) = differences(one), differences(two)
    statistics, heads = results.study.statistics, results.study.heads
    change, stderr = crossfit_change(old, new, statistics.seed)
    tv_old, tv_new = distances(old), distances(new)
    p = _exchange(old, new, heads.permutations if heads else statistics.bootstrap_draws, statistics.seed)
    q = benjamini_hochberg(p)
    mine = [row for row in head_scores(results) if (row["variant"], row["scheme"]) == (after.variant, after.scheme)]
    moved = {(row["layer_idx"], row["head_idx"]): row for row in mine}
    rows = []
    for i, (layer, head) in enumerate(places):
        interval = mean_interval(float(change[i]), float(stderr[i]), len(old) // 2, statistics.confidence)
        rows.append(
            {
                "from": before.name, "to": after.name, "layer_idx": layer, "head_idx": head,
                "tv_distance_before": float(tv_old[i]), "tv_distance_after": float(tv_new[i]),
                "tv_change": float(change[i]), "tv_change_low": interval.low, "tv_change_high": interval.high,
                "p_value": p[i], "q_value": q[i], "moved": q[i] <= (heads.fdr if heads else 0),
                **{name: moved[layer, head][name] for name in CHANGES},
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-abs(row["tv_change"]), row["layer_idx"], row["head_idx"]))


def _exchange(old: NDArray[Any], new: NDArray[Any], draws: int, seed: int) -> list[float]:
    """Two-sided p-values of the change of the plug-in distance of each head under exchange of the models within pairs.

    Both of shape (pairs, heads, bins). An exchanged pair gives its difference of histograms to the other model.
    """
    import numpy as np

    signs, exact = relabellings(len(old), draws, seed)
    extra = 0 if exact else 1  # all relabellings hold the observed labels already
    found = []
    for head in range(old.shape[1]):
        both, between = (new[:, head] + old[:, head]).sum(axis=0), signs @ (new[:, head] - old[:, head])
        change = np.abs(np.abs(both + between).sum(axis=1) - np.abs(both - between).sum(axis=1))
        # What was observed is in twice the units of a distance times pairs, as the others are.
        observed = 2 * abs(np.abs(new[:, head].sum(axis=0)).sum() - np.abs(old[:, head].sum(axis=0)).sum())
        found.append(float(((change >= observed - 1e-9).sum() + extra) / (len(signs) + extra)))
    return found


def _unlike(one: Record, two: Record) -> str | None:
    """Why two records cannot be compared; None where they can."""
    for name in ("prompts_reasoning", "prompts_general", "tokens"):
        if one["inputs"].get(name, {}).get("sha256") != two["inputs"].get(name, {}).get("sha256"):
            return f"they were scored on different {name.replace('_', ' ')}"
    return None


@made_once
def head_agreement(results: Results) -> list[Row]:
    """One row per comparison: do the same heads stand out, and did those move whose weights moved?

    `tv_spearman`: rank correlation of `tv_distance` before and after over the heads; `change_dw_spearman`: that of the
    size of the change and of the relative change of the head's weights. Intervals are over pairs of prompts:
    the heads are all there are, the prompts a sample.
    """
    rows = []
    for before, after in comparisons(results):
        one, two = scored(results, before), scored(results, after)
        changed = [row for row in head_changes(results) if (row["from"], row["to"]) == (before.name, after.name)]
        row: Row = {"from": before.name, "to": after.name, "heads": len(changed) or None}
        if one is None or two is None or not changed:
            why = _unlike(one, two) if one is not None and two is not None else None
            row |= dict.fromkeys(_AGREEMENT) | {"null_reason": why or "one of the two has no scores"}
        else:
            row |= _agreement(results, one, two, changed)
        rows.append(row)
    return rows


def _agreement(results: Results, one: Record, two: Record, changed: list[Row]) -> Row:
    import numpy as np

    (places, old), (_, new) = differences(one), differences(two)
    weights = {(row["layer_idx"], row["head_idx"]): row["dw_relative"] for row in changed}
    moved = [weights[place] for place in places]
    found: Row = dict.fromkeys(_AGREEMENT)
    first = changed[0]
    found["heads_moved"] = sum(row["moved"] for row in changed)
    found["largest_change"] = f"L{first['layer_idx']}H{first['head_idx']} {first['tv_change']:+.3f}"
    tv = correlation(results, lambda kept: spearman(distances(old[kept]), distances(new[kept])), len(old))
    found |= dict(zip(("tv_spearman", "tv_spearman_low", "tv_spearman_high"), tv, strict=True))
    found["dw_norm_total"] = two["metrics"].get("dw_norm_total")
    if any(value is None for value in moved):
        return found | {"null_reason": two["null_reasons"].get("dw_norm_total")}
    dw = correlation(
        results, lambda kept: spearman(np.abs(distances(new[kept]) - distances(old[kept])), moved), len(old)
    )
    names = ("change_dw_spearman", "change_dw_spearman_low", "change_dw_spearman_high")
    return found | dict(zip(names, dw, strict=True))
