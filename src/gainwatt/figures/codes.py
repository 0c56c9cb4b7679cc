"""Codes that training flips, against both controls; and what each scheme's weights weigh."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.schemes import get_scheme
from gainwatt.study import BASE, schemes
from gainwatt.tables.results import Results
from gainwatt.tables.weights import weight_changes
from gainwatt.weights.variants import matched_variant

_MIB = 2**20


def code_flips(results: Results) -> Any | None:
    """Share of flipped codes by quantizer: each trained variant, the supervised control, noise as large as GRPO.

    The codes of a trained variant are the stored ones where its quantized checkpoint was looked at; controls are not
    quantized, and schemes that look at text have none. None where no trained variant was diagnosed.
    """
    rows = [row for row in weight_changes(results) if row["code_flip_frac"] is not None]
    noise = f"noise as large as {matched_variant(results.study)}"
    rows = [row for row in rows if row["kind"] != "random" or row["change"] == noise]
    if not rows:
        return None
    stored_last = sorted(rows, key=lambda row: row["source"])
    values = {(row["scheme"], row["change"]): 100 * row["code_flip_frac"] for row in stored_last}
    kinds = {row["change"]: row["kind"] for row in sorted(rows, key=_by_change)}
    schemes_shown = list(dict.fromkeys(row["scheme"] for row in rows))
    figure, axes = style.new(max(7.5, 3.0 + 1.5 * len(schemes_shown)), 3.8)
    _bars(axes, values, kinds, schemes_shown)
    alone = {scheme for scheme in schemes_shown if (scheme, noise) not in values}
    names = [f"{scheme}\n(no control)" if scheme in alone else scheme for scheme in schemes_shown]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylabel("codes flipped (%)")
    axes.set_title("Codes that a change of the weights flips")
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _bars(axes: Any, values: dict[tuple[str, str], float], kinds: dict[str, str], schemes_shown: list[str]) -> None:
    members = {scheme: [change for change in kinds if (scheme, change) in values] for scheme in schemes_shown}
    width = 0.84 / len(kinds)
    seen = dict.fromkeys(kinds.values(), 0)
    for change, kind in kinds.items():
        points = [
            (i + (found.index(change) - (len(found) - 1) / 2) * width, values[scheme, change])
            for i, (scheme, found) in enumerate(members.items())
            if change in found
        ]
        bars = axes.bar(
            *zip(*points, strict=True), 0.92 * width, color=_COLOURS[kind], alpha=max(0.4, 1 - 0.25 * seen[kind]),
            hatch=_HATCHES[kind], edgecolor="white", lw=0.5, label=change + " (supervised)" * (kind == "SFT"),
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.3g", fontsize=7, padding=1)
        seen[kind] += 1


_COLOURS = {"GRPO": style.COLOURS[0], "SFT": style.COLOURS[1], "random": "#999999"}
_HATCHES = {"GRPO": "", "SFT": "//", "random": ".."}


def _by_change(row: dict[str, Any]) -> tuple[int, str]:
    return {"GRPO": 0, "SFT": 1, "random": 2}[row["kind"]], row["change"]


def scheme_bytes(results: Results) -> Any | None:
    """MiB of the base's weights by scheme: files on disk, and in memory once loaded where that was measured."""
    disk: dict[str, float] = {}
    loaded: dict[str, float] = {}
    for cell, record in results.quantizations.items():
        if cell.variant != BASE or record["status"] != "ok":
            continue
        metrics = record["metrics"]
        disk[cell.scheme] = metrics["weights_after_bytes"] / _MIB
        disk.setdefault("unquantized", metrics["weights_before_bytes"] / _MIB)
        if metrics.get("allocated_after_load_mib") is not None:
            loaded[cell.scheme] = metrics["allocated_after_load_mib"]
        elif metrics.get("loaded_bytes") is not None:
            loaded[cell.scheme] = metrics["loaded_bytes"] / _MIB
    if not disk:
        return None
    names = ["unquantized", *[name for name in schemes(results.study) if name in disk and not get_scheme(name).dense]]
    figure, axes = style.new(7.5, 1.5 + 0.5 * len(names))
    series = [("files on disk", disk)] + ([("in memory after load", loaded)] if loaded else [])
    height = 0.38
    for place, (what, values) in enumerate(series):
        shown = [(i, values[name]) for i, name in enumerate(names) if name in values]
        y = [i + (place - (len(series) - 1) / 2) * height for i, _ in shown]
        bars = axes.barh(y, [mib for _, mib in shown], height * 0.92, color=style.COLOURS[place], label=what)
        axes.bar_label(bars, labels=[f"{mib:.4g}" for _, mib in shown], fontsize=8, padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("MiB")
    axes.margins(x=0.12)
    axes.set_title("Weights by scheme (base)")
    axes.grid(visible=False, axis="y")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
