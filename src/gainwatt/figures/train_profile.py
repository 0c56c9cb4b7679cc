"""Where the time and the joules of a GRPO step go, and how long its rollouts are."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.profiling.training_parts import PARTS
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.train_profile import records

LABELS = {"rollout": "rollout", "score": "scoring", "update": "forward and backward", "optimizer": "optimizer"}
SHADES = dict(zip(PARTS, (style.COLOURS[0], style.COLOURS[5], style.COLOURS[1], style.COLOURS[4]), strict=True))
BINS = 24


def train_profile(results: Results) -> Any | None:
    """Bars of seconds and joules of a step by part, and a histogram of rollout lengths with the long-tail threshold."""
    found = {scheme: record for scheme, record in records(results).items() if record["status"] == "ok"}
    if not found:
        return None
    metered = any(record["metrics"]["gross_j_per_step"] is not None for record in found.values())
    figure, axes = style.new(11 if metered else 8.4, 3.8, 3 if metered else 2)
    _bars(axes[0], found, "seconds", "Time of a step", "seconds")
    if metered:
        _bars(axes[1], found, "gross_j", "Energy of a step", "gross joules")
    _lengths(axes[-1], found)
    handles = [style.handle(LABELS[part], color=SHADES[part], lw=6) for part in PARTS]
    style.legend_below(figure, handles)
    return figure


def _bars(axes: Any, found: dict[str, Any], what: str, title: str, unit: str) -> None:
    """One stacked bar for each type of the base, and the interval of the whole step."""
    for place, record in enumerate(found.values()):
        metrics, bottom = record["metrics"], 0.0
        for part in PARTS:
            value = metrics[f"{part}_s_mean"] if what == "seconds" else _per_step(metrics, part)
            if value is not None:
                axes.bar(place, value, bottom=bottom, width=0.6, color=SHADES[part], edgecolor="white", linewidth=0.6)
                bottom += value
        name = "step_s_mean" if what == "seconds" else "gross_j_per_step"
        mean, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
        if low is not None and high is not None:
            bar = style.whiskers([(mean, low, high)])
            axes.errorbar(place, mean, yerr=bar, fmt="none", ecolor="#222222", capsize=4, lw=1.2)
    axes.set(title=title, ylabel=unit)
    axes.set_xticks(range(len(found)), [f"{name}\n(n = {r['metrics']['steps_ok']})" for name, r in found.items()])
    axes.set_xlim(-0.6, len(found) - 0.4)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.grid(axis="x", visible=False)


def _per_step(metrics: dict[str, Any], part: str) -> float | None:
    joules = metrics[f"gross_j_{part}"]
    return None if joules is None else float(joules) / int(metrics["steps_ok"])


def _lengths(axes: Any, found: dict[str, Any]) -> None:
    """Histogram of tokens up to the first end token; one outline for each type of the base."""
    from matplotlib.ticker import MaxNLocator

    thresholds = set()
    limit = max(record["settings"]["train"]["max_completion_tokens"] for record in found.values())
    edges = [limit * i / BINS for i in range(BINS + 1)] if limit >= BINS else [i + 0.5 for i in range(limit + 1)]
    for place, (scheme, record) in enumerate(found.items()):
        columns = read_sidecar(record, "steps", ["status", "warmup", "completion_tokens"])
        rows = zip(columns["status"], columns["warmup"], columns["completion_tokens"], strict=True)
        lengths = [length for status, warmup, tokens in rows if status == "ok" and not warmup for length in tokens]
        colour = style.TRAINED_COLOURS[(place + 2) % len(style.TRAINED_COLOURS)]
        # Weights make shares of rollouts: two runs may differ in the number of steps that went well.
        weights = [1 / len(lengths)] * len(lengths)
        look = {"histtype": "step", "color": colour, "lw": 1.8, "label": f"{scheme}: {len(lengths)} rollouts"}
        axes.hist(lengths, bins=edges, weights=weights, **look)
        thresholds.add(record["metrics"]["long_tail_threshold_tokens"])
    for threshold in thresholds:
        axes.axvline(threshold, color="#222222", ls="--", lw=1.2, label=f"long tail: above {threshold}")
    axes.set(title="Length of the rollouts", xlabel="tokens up to the first end token", ylabel="share of the rollouts")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(loc="upper left", fontsize=8)


def describe(results: Results) -> dict[str, str]:
    """Title, caption and a text for those who do not see the figure."""
    found = {scheme: r["metrics"] for scheme, r in records(results).items() if r["status"] == "ok"}
    said = "; ".join(
        f"{scheme}: {m['step_s_mean']:.3g} s a step, of it {m['rollout_s_mean'] / m['step_s_mean']:.0%} rollout, "
        f"{m['long_tail_rate']:.1%} of the rollouts above {m['long_tail_threshold_tokens']} tokens"
        for scheme, m in found.items()
    )
    failed = sum(m["oom_count"] for m in found.values())
    lost = f" {failed} step(s) ran out of memory and are not contained." if failed else ""
    return {
        "title": "Time and energy of a GRPO step, and the length of its rollouts",
        "caption": "Mean of the measured steps by part, by the type of the frozen base under the adapters; the bar is "
        "the 95 % interval of the whole step. Right: tokens of each rollout up to its first end token; dashed: where "
        f"the long tail begins.{lost}",
        "alt": f"Stacked bars and a histogram. {said}.",
    }
