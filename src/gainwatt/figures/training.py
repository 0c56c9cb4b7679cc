"""Reward, completion length and step time over training."""

from __future__ import annotations

from typing import Any

from gainwatt.figures import style
from gainwatt.study import trained_variants
from gainwatt.tables.results import Results, read_sidecar

COLUMNS = ["step", "reward", "completion_tokens_mean", "rollout_s", "update_s"]
WIDTH = 10


def training(results: Results) -> Any | None:
    """Three panels over optimizer steps, one line per training seed; thin raw values under a running mean."""
    runs = {v: read_sidecar(r, "steps", COLUMNS) for v, r in results.trainings.items() if r["status"] == "ok"}
    if not runs:
        return None
    many = len(runs) > style.MANY
    figure, (reward, length, seconds) = style.new(11, 3.6, 3)
    colours = [style.colour(results.study, variant) for variant in runs]
    for axes, column in ((reward, "reward"), (length, "completion_tokens_mean")):
        if not many:
            _lines(axes, [(rows["step"], rows[column]) for rows in runs.values()], colours, alpha=0.3, lw=0.8)
        means = [(rows["step"], _running_mean(rows[column])) for rows in runs.values()]
        _lines(axes, means, colours, **_line(many))
    # As they are: a mean would smear the first step, which compiles and warms up, over the next nine.
    for column, dashes in (("rollout_s", "-"), ("update_s", "--")):
        series = [(rows["step"], rows[column]) for rows in runs.values()]
        _lines(seconds, series, colours, ls=dashes, **_line(many))
    reward.set(title="Reward", xlabel="optimizer step", ylabel="mean reward of the completions")
    length.set(title="Completion length", xlabel="optimizer step", ylabel="mean tokens")
    seconds.set(title="Time of a step", xlabel="optimizer step", ylabel="seconds")
    for axes in (reward, length, seconds):
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in (length, seconds):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    names = [name for name in trained_variants(results.study) if name in runs]
    handles = [style.handle(name, color=style.colour(results.study, name)) for name in names]
    if many:
        handles = [style.handle(f"{len(runs)} trained variants", color=style.TRAINED_COLOURS[0])]
    handles += [
        style.handle("rollout (right panel)", color="#555555"),
        style.handle("update", color="#555555", ls="--"),
    ]
    style.legend_below(figure, handles)
    return figure


def _lines(axes: Any, series: list[tuple[list[int], list[float]]], colours: list[str], **look: Any) -> None:
    """All lines as one artist, which stays quick where they are thousands."""
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection([list(zip(x, y, strict=True)) for x, y in series], colors=colours, **look))
    axes.autoscale_view()


def _line(many: bool) -> dict[str, Any]:
    return {"lw": 0.5, "alpha": 0.4} if many else {"lw": 1.6}


def _running_mean(values: list[float], width: int = WIDTH) -> list[float]:
    """Mean of each value and the up to `width` - 1 values before it."""
    return [sum(values[max(0, i - width + 1) : i + 1]) / (i + 1 - max(0, i - width + 1)) for i in range(len(values))]
