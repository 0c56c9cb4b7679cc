"""The roofline plot of the inference profile: what each prompt and each step reached of what the machine allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gainwatt.figures import style
from gainwatt.figures.profile import looks, shown
from gainwatt.tables.profile import Measured
from gainwatt.tables.results import Results

PARTS = ("decode", "prefill")
Point = tuple[str, str, float, float]
"""Arm, part, operations per byte, 10^12 operations per second."""


def points(results: Results) -> list[Point]:
    """Every decoding step and prompt with known work and time."""
    found = []
    for arm, column in shown(results).items():
        for measured in column:
            found += [(arm, part, *place) for part, place in _places(measured.cell)]
    return found


def _places(cell: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    for part, flops, moved, seconds_ms in (
        ("decode", cell.get("step_flops"), cell.get("step_bytes"), cell["tpot_ms_mean"]),
        ("prefill", cell.get("prefill_flops"), cell.get("prefill_bytes"), cell["ttft_ms_mean"]),
    ):
        if flops and moved and seconds_ms:
            yield part, (flops / moved, flops / (seconds_ms / 1000) / 1e12)


def limits(results: Results) -> dict[str, tuple[float, float]]:
    """Type of the arithmetic -> measured GB/s and 10^12 operations per second, of the arms that are shown."""
    found: dict[str, tuple[float, float]] = {}
    for column in shown(results).values():
        for measured in column:
            known = _limits(measured)
            found |= {name: value for name, value in known.items() if name == measured.cell["dtype"]}
    return found


def _limits(measured: Measured) -> dict[str, tuple[float, float]]:
    entries = measured.record["settings"].get("limits") or {}
    return {name: (e["bandwidth_gb_s"], e["tflop_s"]) for name, e in entries.items() if "tflop_s" in e}


def profile_roofline(results: Results) -> Any | None:
    """Operations per second over operations per byte, logarithmic, under the machine's roofs; None without points.

    Filled: decoding steps; hollow: prompts. The sloping line is the memory's bandwidth, the flat ones the arithmetic.
    """
    placed = points(results)
    roofs = limits(results)
    if not placed or not roofs:
        return None
    arms = shown(results)
    drawn = looks(arms)
    figure, axis = style.new(8.6, 5.2)
    for arm, part, intensity, speed in placed:
        look = {key: value for key, value in drawn[arm].items() if key != "ls"}
        face = look["color"] if part == "decode" else "white"
        axis.plot(intensity, speed, ls="", ms=6.5, mfc=face, mec=look["color"], mew=1.2, **look)
    _roofs(axis, placed, roofs)
    axis.set(
        xscale="log", yscale="log", xlabel="operations per byte that must be read (FLOP/B)",
        ylabel="operations per second ($10^{12}$/s)", title="Under the roof: prompts and decoding steps",
    )  # fmt: skip
    handles = [style.handle(arm, ms=6, **{**drawn[arm], "ls": ""}) for arm in drawn]
    handles += [
        style.handle("decoding step", ls="", marker="o", color="#555555"),
        style.handle("prompt", ls="", marker="o", mfc="white", color="#555555"),
    ]
    style.legend_below(figure, handles, columns=4)
    return figure


def _roofs(axis: Any, placed: list[Point], roofs: dict[str, tuple[float, float]]) -> None:
    """A roof for each type: bandwidth × intensity up to the arithmetic, then flat; named at the right end."""
    low = 0.5 * min(place[2] for place in placed)
    ridge = max(1000 * tflop / bandwidth for bandwidth, tflop in roofs.values())
    high = 2.0 * max(*(place[2] for place in placed), ridge)
    styles = ("-", "--", ":")
    for number, (dtype, (bandwidth, tflop)) in enumerate(sorted(roofs.items(), key=lambda roof: -roof[1][1])):
        knee = 1000 * tflop / bandwidth  # operations per byte at which both take the same time
        xs = [low, min(max(knee, low), high), high]
        ys = [min(x * bandwidth / 1000, tflop) for x in xs]
        axis.plot(xs, ys, color="#444444", lw=1.2, ls=styles[number % len(styles)], zorder=1)
        label = f"{dtype}: {tflop:.3g}·10¹²/s, {bandwidth:.0f} GB/s"
        axis.annotate(
            label, (high, tflop), ha="right", va="bottom", fontsize=8, xytext=(0, 2), textcoords="offset points"
        )
    axis.set_xlim(low, high)


def describe_roofline(results: Results) -> dict[str, str]:
    """Title, caption and alternative text of `profile_roofline`."""
    placed, roofs = points(results), limits(results)
    steps = [place for place in placed if place[1] == "decode"]
    best = max(steps or placed, key=lambda place: place[3])
    said = "; ".join(f"{name} {tflop:.3g}" for name, (_, tflop) in roofs.items())
    return {
        "title": "Roofline of prompts and decoding steps",
        "caption": "Operations per second over operations per byte of weights and cache, with the roofs measured on "
        "this machine (a copy, a square matrix product). Filled: decoding steps, to the right with a larger batch; "
        "hollow: prompts. What stands far under every roof waits for launches, or for kernels that move more than the "
        "least.",
        "alt": f"Scatter plot of {len(placed)} points under the roofs ({said} × 10^12 operations per second). Fastest "
        f"decoding step: {best[0]} with {best[3]:.3g} × 10^12 operations per second.",
    }
