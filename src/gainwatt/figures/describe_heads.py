"""Words for the figures of attention heads."""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.figures.head_pruning import pruned_variants, quantities
from gainwatt.figures.heads import CONTRASTS, contrasts_of, shown
from gainwatt.tables.results import Results

Text = dict[str, str]


def _map(results: Results) -> Text:
    drawn = shown(results)
    rows = drawn[0][1]
    said = "; ".join(
        f"{cell.variant}: highest L{found[0]['layer_idx']}H{found[0]['head_idx']} with {found[0]['tv_distance']:.2f}, "
        f"{sum(row['above_null'] for row in found)} of {len(found)} above the null"
        for cell, found in drawn
    )
    kinds = ", ".join(CONTRASTS[name][2] for name in contrasts_of(rows))
    return {
        "title": "Where heads tell reasoning prompts from others",
        "caption": "Total-variation distance between the outputs of each query head (before the output projection) on "
        f"reasoning prompts and on others ({kinds}). A dot marks heads above the null at the study's false-discovery "
        "rate. What shows on the left and not beside it may be style and vocabulary.",
        "alt": f"Maps of layer by head. {said}.",
    }


def _null(results: Results) -> Text:
    rows = shown(results)[0][1]
    said = "; ".join(
        f"{CONTRASTS[name][2]} from {min(row[CONTRASTS[name][0]] for row in rows):.2f} to "
        f"{max(row[CONTRASTS[name][0]] for row in rows):.2f}"
        for name in contrasts_of(rows)
    )
    return {
        "title": "How large distances are by chance",
        "caption": "Blue: the distances of all heads. Grey: the same after the labels of random pairs of prompts were "
        "swapped, over all heads. Without any difference a distance lies above zero all the same: compare with grey.",
        "alt": f"Histograms of distances: {said}.",
    }


def _curve(results: Results) -> Text:
    drawn = pruned_variants(results)
    last = quantities([row for rows in drawn.values() for row in rows])[-1][1]
    said = []
    for variant, rows in drawn.items():
        start = next(row for row in rows if row["strategy"] == "none")
        end = max(row["percent"] for row in rows)
        ends = [row for row in rows if row["percent"] == end and row["draw"] is None and row["accuracy"] is not None]
        parts = ", ".join(f"{row['strategy']} {100 * row['accuracy']:.0f} %" for row in ends)
        said.append(f"{variant} from {100 * start['accuracy']:.0f} % unpruned to {parts} at {end:g} % of the heads")
    return {
        "title": "What switching heads off costs",
        "caption": "Accuracy with Wilson intervals, loss on the study's text above that of the unpruned model with "
        f"paired intervals, and {last}, over the share of heads whose output is switched off (points are set apart a "
        "little). The weights were restored after every point and checked by hash. Switched-off heads are "
        "still computed, so that energy changes with the length of the answers only.",
        "alt": f"Curves over the share of heads: {'; '.join(said)}.",
    }


HEAD_TEXTS: dict[str, Callable[[Results], Text]] = {"head_map": _map, "head_null": _null, "head_pruning": _curve}
