"""The inference profile against the batch: latency of a batch, and joules (else tokens per second) of its tokens."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.tables.profile import Measured, cells
from gainwatt.tables.results import Results

LINES = {"eager": "-", "static": ":", "compile": "--", "cuda-graphs": "-."}
COLOURS = (*style.COLOURS[:6], style.BASE_COLOUR, "#882255")
"""Yellow is too light for lines, and black is the baseline's: grey and wine red take their places."""
DODGE = 1.025


def shown(results: Results) -> dict[str, list[Measured]]:
    """Arm -> its measured cells by rising batch, of the first variant and the first lengths; the baseline once."""
    profile = results.study.profile
    if profile is None:
        return {}
    first = (profile.variants[0], profile.prompt_tokens[0], profile.new_tokens[0])
    found: dict[str, dict[int, Measured]] = {}
    for measured in cells(results, ok=True):
        cell = measured.cell
        if (measured.group.variant, cell["prompt_tokens"], cell["new_tokens"]) == first:
            found.setdefault(cell["arm"], {}).setdefault(cell["batch"], measured)
    return {arm: [by_batch[batch] for batch in sorted(by_batch)] for arm, by_batch in found.items()}


def looks(arms: dict[str, list[Measured]]) -> dict[str, dict[str, Any]]:
    """Colour by scheme, line by mode, marker by arm: the baseline black."""
    schemes = list(dict.fromkeys(found[0].cell["scheme"] for found in arms.values() if not found[0].cell["baseline"]))
    colours = {scheme: COLOURS[place % len(COLOURS)] for place, scheme in enumerate(schemes)}
    made = {}
    for place, (arm, found) in enumerate(arms.items()):
        cell = found[0].cell
        made[arm] = {
            "color": "#000000" if cell["baseline"] else colours[cell["scheme"]],
            "ls": LINES[cell["mode"]],
            "marker": style.MARKERS[place % len(style.MARKERS)],
        }
    return made


def profile_batch(results: Results) -> Any | None:
    """Two panels over the batch, logarithmic: milliseconds of a batch; gross joules per 1000 generated tokens.

    Without joules the second panel shows tokens per second. None without a measured cell.
    """
    arms = shown(results)
    if not arms:
        return None
    drawn = looks(arms)
    metered = any(found.cell["gross_j_per_ktok"] is not None for column in arms.values() for found in column)
    second = ("gross_j_per_ktok", "gross J per 1000 generated tokens") if metered else ("throughput_tok_s", "tokens/s")
    panels = (("latency_ms", "latency of a batch (ms)"), second)
    figure, axes = style.new(10.5, 4.8, 2)
    for axis, (name, label) in zip(axes, panels, strict=True):
        for place, (arm, column) in enumerate(arms.items()):
            # Side by side, or the intervals of all arms would lie on each other.
            _line(axis, column, name, drawn[arm], DODGE ** (place - (len(arms) - 1) / 2))
        axis.set(xlabel="batch (sequences at once)", ylabel=label, xscale="log", yscale="log")
        batches = sorted({found.cell["batch"] for column in arms.values() for found in column})
        axis.set_xticks(batches, [str(batch) for batch in batches])
        axis.minorticks_off()
        _plain_ticks(axis)
    axes[0].set_title("Latency")
    axes[1].set_title("Energy" if metered else "Throughput")
    handles = [style.handle(arm, ms=6, **drawn[arm]) for arm in arms]
    style.legend_below(figure, handles, columns=4)
    return figure


def _line(axis: Any, column: list[Measured], name: str, look: dict[str, Any], aside: float) -> None:
    mean = f"{name}_mean" if name == "latency_ms" else name
    points = [
        (aside * found.cell["batch"], found.cell[mean], found.cell[f"{name}_low"], found.cell[f"{name}_high"])
        for found in column
        if found.cell[mean] is not None
    ]
    if not points:
        return
    batches = [batch for batch, *_ in points]
    axis.plot(batches, [value for _, value, *_ in points], ms=6, lw=1.3, mec="white", mew=0.6, **look)
    bars = [(batch, value, low, high) for batch, value, low, high in points if low is not None and low > 0]
    if bars:
        whiskers = style.whiskers([(value, low, high) for _, value, low, high in bars])
        places, values = [bar[0] for bar in bars], [bar[1] for bar in bars]
        axis.errorbar(places, values, yerr=whiskers, fmt="none", ecolor=look["color"], capsize=2.5, lw=0.9)


def _plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10, … in plain numbers: a range of less than a decade would have a single label."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def describe_batch(results: Results) -> dict[str, str]:
    """Title, caption and alternative text of `profile_batch`."""
    arms = shown(results)
    profile = results.study.profile
    assert profile is not None  # noqa: S101 - called only where the figure was drawn
    cell = next(iter(arms.values()))[0].cell
    largest = max(found.cell["batch"] for column in arms.values() for found in column)
    at = [(found.cell["latency_ms_mean"], arm) for arm, column in arms.items() for found in column[-1:]]
    metered = any(found.cell["gross_j_per_ktok"] is not None for column in arms.values() for found in column)
    what = "gross joules per 1000 generated tokens" if metered else "generated tokens per second (no joules here)"
    return {
        "title": "Latency and energy against the batch" if metered else "Latency and throughput against the batch",
        "caption": f"Prompts of {cell['prompt_tokens']} tokens, answers of {cell['new_tokens']}. Left: milliseconds of "
        f"a whole batch; right: {what}. Black: the baseline {profile.baseline}; lines tell the mode. Bars: 95 % "
        "intervals over windows.",
        "alt": f"Line plots of {len(arms)} arms over batches up to {largest}. Slowest at its largest batch: "
        f"{max(at)[1]} with {max(at)[0]:.3g} ms; fastest: {min(at)[1]} with {min(at)[0]:.3g} ms.",
    }
