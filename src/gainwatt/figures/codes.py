"""Codes that training flips, against both controls; and what each scheme's weights weigh."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.figures.weights import logarithmic_where_wide
from gainwatt.schemes import get_scheme
from gainwatt.study import BASE, schemes, trained_variants
from gainwatt.tables.results import Results
from gainwatt.tables.weights import weight_changes
from gainwatt.weights.variants import matched_variant

ON_DISK, LOADED, IN_USE = "files on disk", "in memory after load", "in memory after a forward pass"
_MIB = 2**20
_GROWN = 1.02  # a forward pass that adds less has built a small buffer


def code_flips(results: Results) -> Any | None:
    """Share of flipped codes by quantizer: each trained variant, the supervised control, noise as large as GRPO.

    The codes of a trained variant are the stored ones where its quantized checkpoint was looked at; controls are not
    quantized, and schemes that look at text have none. None where no trained variant was diagnosed.
    """
    values, kinds = shown_flips(results)
    if not values:
        return None
    schemes_shown = list(dict.fromkeys(scheme for scheme, _ in values))
    figure, axes = style.new(max(7.5, 3.0 + 1.5 * len(schemes_shown)), 3.8)
    _bars(axes, values, kinds, schemes_shown)
    alone = {scheme for scheme in schemes_shown if (scheme, _noise(results)) not in values}
    names = [f"{scheme}\n(no control)" if scheme in alone else scheme for scheme in schemes_shown]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylabel("codes flipped (%)")
    logarithmic_where_wide(axes, values.values())
    axes.set_title("Codes that a change of the weights flips")
    axes.grid(visible=False, axis="x")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def shown_flips(results: Results) -> tuple[dict[tuple[str, str], float], dict[str, str]]:
    """Per cent of flipped codes by (scheme, change), and the kind of each change in the order of the bars."""
    rows = [row for row in weight_changes(results) if row["code_flip_frac"] is not None]
    rows = [row for row in rows if row["kind"] != "random" or row["change"] == _noise(results)]
    if len(trained_variants(results.study)) > style.MANY:
        rows = [row for row in rows if row["kind"] != "GRPO" or row["change"] == matched_variant(results.study)]
    values = {(row["scheme"], row["change"]): 100 * row["code_flip_frac"] for row in sorted(rows, key=_by_source)}
    return values, {row["change"]: row["kind"] for row in sorted(rows, key=_by_change)}


def _noise(results: Results) -> str:
    return f"noise as large as {matched_variant(results.study)}"


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
        axes.bar_label(bars, fmt="%.2g", fontsize=7, padding=1)
        seen[kind] += 1


_COLOURS = {"GRPO": style.COLOURS[0], "SFT": style.COLOURS[1], "random": "#999999"}
_HATCHES = {"GRPO": "", "SFT": "//", "random": ".."}


def _by_source(row: dict[str, Any]) -> tuple[str, str]:
    """By scheme; computed codes before stored ones, so that these replace them."""
    return row["scheme"], row["source"]


def _by_change(row: dict[str, Any]) -> tuple[int, str]:
    return {"GRPO": 0, "SFT": 1, "random": 2}[row["kind"]], row["change"]


def shown_bytes(results: Results) -> dict[str, dict[str, float]]:
    """What is drawn -> scheme -> MiB of the base's weights. Empty without a quantized checkpoint of the base.

    In memory: allocated on the GPU, else counted. What a first forward pass decompresses counts a third time.
    """
    sizes: dict[str, dict[str, float]] = {ON_DISK: {}, LOADED: {}, IN_USE: {}}
    for cell, record in results.quantizations.items():
        if cell.variant != BASE or record["status"] != "ok":
            continue
        metrics = record["metrics"]
        sizes[ON_DISK].setdefault("unquantized", metrics["weights_before_bytes"] / _MIB)
        sizes[ON_DISK][cell.scheme] = metrics["weights_after_bytes"] / _MIB
        loaded, used = metrics.get("loaded_bytes"), metrics.get("used_bytes")
        if metrics.get("allocated_after_load_mib") is not None:
            sizes[LOADED][cell.scheme] = metrics["allocated_after_load_mib"]
        elif loaded is not None:
            sizes[LOADED][cell.scheme] = loaded / _MIB
        if loaded is not None and used is not None and used > _GROWN * loaded:
            sizes[IN_USE][cell.scheme] = used / _MIB
    order = ["unquantized", *[name for name in schemes(results.study) if not get_scheme(name).dense]]
    kept = {what: {name: values[name] for name in order if name in values} for what, values in sizes.items()}
    return {what: values for what, values in kept.items() if values}


def scheme_bytes(results: Results) -> Any | None:
    """MiB of the base's weights by scheme: files on disk, in memory once loaded, and in use where that is more.

    None without a quantized checkpoint of the base.
    """
    sizes = shown_bytes(results)
    if not sizes:
        return None
    names = list(sizes[ON_DISK])
    height = 0.84 / len(sizes)
    figure, axes = style.new(7.5, 1.5 + len(names) * (0.1 + 0.2 * len(sizes)))
    for place, (what, values) in enumerate(sizes.items()):
        marked = [(i, values[name]) for i, name in enumerate(names) if name in values]
        y = [i + (place - (len(sizes) - 1) / 2) * height for i, _ in marked]
        bars = axes.barh(y, [mib for _, mib in marked], height * 0.92, color=style.COLOURS[place], label=what)
        axes.bar_label(bars, labels=[f"{mib:.4g}" for _, mib in marked], fontsize=8, padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("MiB")
    axes.margins(x=0.12)
    axes.set_title("Weights by scheme (base)")
    axes.grid(visible=False, axis="y")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
