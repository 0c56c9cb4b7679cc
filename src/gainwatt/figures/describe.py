"""Words for every figure: a caption, a text for those who do not see it, and the records behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gainwatt.figures import power, train_profile
from gainwatt.figures.describe_heads import HEAD_TEXTS
from gainwatt.figures.describe_llamacpp import LLAMACPP_TEXTS
from gainwatt.figures.describe_serving import SERVING_TEXTS
from gainwatt.figures.describe_weights import WEIGHT_TEXTS
from gainwatt.figures.paired import drawn_rows
from gainwatt.figures.profile import describe_batch
from gainwatt.figures.roofline import describe_roofline
from gainwatt.figures.style import MANY
from gainwatt.record import Record, file_sha256
from gainwatt.tables.accuracy import accuracy_matrix, survivals
from gainwatt.tables.cost import per_correct_answer
from gainwatt.tables.results import Results

Text = dict[str, str]


def _accuracy(results: Results) -> Text:
    rows = [row for row in accuracy_matrix(results) if row["accuracy"] is not None]
    low, high = min(rows, key=_value), max(rows, key=_value)
    return {
        "title": "Accuracy by scheme",
        "caption": f"Share of the test items answered correctly, with Wilson intervals; {_trained(results)}. A cell "
        "without a number stands at the foot of its column with the reason.",
        "alt": f"Dot plot of {len(rows)} cells. Lowest: {low['label']} with {_percent(low['accuracy'])}; highest: "
        f"{high['label']} with {_percent(high['accuracy'])}.",
    }


def _survival(results: Results) -> Text:
    rows = survivals(results, each_seed=False)
    said = "; ".join(f"{row['scheme']} {100 * row['gain_survival']:+.1f} points, {row['verdict']}" for row in rows)
    return {
        "title": "Does the gain survive?",
        "caption": "What GRPO gained under the scheme less what it gained at the reference, paired on the same items; "
        "bars are intervals over items and training seeds, small points single seeds. The green region is inside the "
        "margin that the study declared.",
        "alt": f"Survival of the gain by scheme: {said}.",
    }


def _paired(results: Results) -> Text:
    rows, count = drawn_rows(results)
    worst = min(rows, key=lambda row: row["difference"])
    cut = f" The first {len(rows)} of {count} cells are drawn." if count > len(rows) else ""
    return {
        "title": "What quantization changed, item by item",
        "caption": "Items that the scheme answers and the reference does not (right), and the reverse (hatched, left); "
        f"the diamond is the net change with its interval, the numbers count items.{cut}",
        "alt": f"Bars of improved and worsened items for {len(rows)} quantized cells. Largest loss: {worst['to']}, "
        f"{worst['improved']} improved and {worst['worsened']} worsened of {worst['n']} items.",
    }


def _training(results: Results) -> Text:
    runs = {v: r["metrics"] for v, r in results.trainings.items() if r["status"] == "ok"}
    said = "; ".join(
        f"{v} from {_short(m.get('reward_first'))} to {_short(m.get('reward_last'))}" for v, m in runs.items()
    )
    return {
        "title": "Reward, completion length and step time over training",
        "caption": "Thin: each optimizer step; thick: mean of the last ten. Right: seconds of each rollout (solid) and "
        "update (dashed).",
        "alt": f"Line plots over optimizer steps. Reward: {said}." if len(runs) <= MANY else "Line plots of many runs.",
    }


def _energy(results: Results) -> Text:
    rows = [row for row in per_correct_answer(results) if row["gross_j_per_correct"] is not None]
    low, high = (pick(rows, key=lambda row: row["gross_j_per_correct"]) for pick in (min, max))
    return {
        "title": "Energy against latency",
        "caption": f"Gross joules ({rows[0]['boundary']}) of the generation per correct answer, over the time of the "
        "generation per item at the study's batch size. Colour: variant; marker: scheme. Lower left is better.",
        "alt": f"Scatter plot of {len(rows)} cells, from {low['gross_j_per_correct']:.3g} J per correct answer "
        f"({low['variant']}.{low['scheme']}) to {high['gross_j_per_correct']:.3g} J "
        f"({high['variant']}.{high['scheme']}).",
    }


def _power(results: Results) -> Text:
    record = power.traced(results)
    assert record is not None  # noqa: S101 - called only where the figure was drawn
    phases = ", ".join(dict.fromkeys(phase["name"] for phase in record["phases"] if phase["depth"] == 0))
    return {
        "title": "Power over time",
        "caption": f"The metered job that used most energy: {record['stage']} {Path(record['path']).stem}. Shaded: its "
        "phases, with seconds and gross joules; grey: idle power before and after.",
        "alt": f"Power in watts over seconds, through the phases {phases}; {record['energy']['gross_j']:.4g} J in all.",
    }


TEXTS: dict[str, Callable[[Results], Text]] = {
    "accuracy": _accuracy,
    "gain_survival": _survival,
    "paired_changes": _paired,
    "training": _training,
    "energy_latency": _energy,
    "power_trace": _power,
    "profile_batch": describe_batch,
    "profile_roofline": describe_roofline,
    "train_profile": train_profile.describe,
    **HEAD_TEXTS,
    **LLAMACPP_TEXTS,
    **WEIGHT_TEXTS,
    **SERVING_TEXTS,
}


def describe(results: Results, name: str, figure: Any) -> Text:
    """Title, caption and alternative text of a drawn figure; where it has no words of its own, what its axes say."""
    if name in TEXTS:
        return TEXTS[name](results)
    titles = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center") if axes.get_title(loc)]
    heading = figure.get_suptitle() or (titles[0] if titles else name.replace("_", " "))
    return {"title": heading, "caption": "; ".join(dict.fromkeys(titles)), "alt": heading}


def sources(results: Results, name: str, stage: str) -> list[dict[str, str]]:
    """The records that a figure was made from: path within the study's results, and SHA-256."""
    kinds: dict[str, dict[Any, Record]] = {
        "evaluate_gsm8k": results.evaluations,
        "quantize": results.quantizations,
        "train_grpo": results.trainings,
        "diagnose_weights": results.diagnoses,
        **results.branches,
    }
    records = list(kinds.get(stage, {}).values())
    if name == "power_trace":
        records = [record for record in [power.traced(results)] if record is not None]
    home = results.folder.parent
    return [
        {"path": Path(record["path"]).relative_to(home).as_posix(), "sha256": file_sha256(record["path"])}
        for record in records
    ]


def reason(results: Results, name: str, stage: str) -> str:
    """Why a figure was not drawn."""
    if name == "energy_latency":
        said = sorted({str(row["null_reason"]) for row in per_correct_answer(results) if row["null_reason"]})
        if said:
            return f"no cell has joules per correct answer: {'; '.join(said)}"
    return f"no record of {stage} holds what it needs"


def _trained(results: Results) -> str:
    seeds = len(results.study.train.seeds)
    if seeds > MANY:
        return f"{seeds} trained variants as their mean, with a bar from the lowest to the highest"
    return "one series for each variant"


def _value(row: dict[str, Any]) -> float:
    return float(row["accuracy"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _short(value: float | None) -> str:
    return "an unknown value" if value is None else f"{value:.3g}"
