"""Words for the figures of the llama.cpp profile."""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.figures.llamacpp_ablations import AXES
from gainwatt.llamacpp.arms import BATCH, LAYERS, PARALLEL, THREADS, TYPES
from gainwatt.tables.llamacpp import ablations, arms, backends, session, sleep_race
from gainwatt.tables.results import Results

Text = dict[str, str]
NAMES = {
    THREADS: "llamacpp_threads",
    LAYERS: "llamacpp_layers",
    BATCH: "llamacpp_batch",
    PARALLEL: "llamacpp_parallel",
    TYPES: "llamacpp_types",
}
_NOTES = {
    BATCH: " The prompt batch is the number of prompt tokens that are computed at once; it is no number of requests.",
    PARALLEL: " Latency is that of each request among those that are decoded together.",
    TYPES: " Types differ in the quality of their answers too, which is not measured here.",
}


def _energy(results: Results) -> Text:
    rows = [row for row in arms(results) if row["gross_j_per_request"] is not None]
    low, high = (pick(rows, key=lambda row: row["gross_j_per_request"]) for pick in (min, max))
    return {
        "title": "llama.cpp: energy against latency",
        "caption": "Every arm and suite: gross joules of a request over its latency, without loading, both axes "
        f"logarithmic; bars are 95 % intervals over the windows. {_boundary(results)} Lower left is better.",
        "alt": f"Scatter plot of {len(rows)} points, from {low['gross_j_per_request']:.3g} J ({low['arm']}, "
        f"{low['suite']}) to {high['gross_j_per_request']:.3g} J ({high['arm']}, {high['suite']}).",
    }


def _comparison(results: Results) -> Text:
    rows = backends(results)
    said = "; ".join(f"{row['Backend']} {row['Suite']} {row['Latency (ms)']:.4g} ms" for row in rows)
    return {
        "title": "llama.cpp: backends side by side",
        "caption": "Latency without loading, gross energy and energy-delay product of a request, suite by suite; bars "
        f"are 95 % intervals over the windows. {_boundary(results)}",
        "alt": f"Bar charts. Latency: {said}.",
    }


def _power(results: Results) -> Text:
    record = session(results)
    joules = record["energy"].get("gross_j") if record else None
    used = "" if joules is None else f"; {joules:.4g} J in all"
    return {
        "title": "llama.cpp: power during the session",
        "caption": "Power of each device that samples power, over the whole session; windows are shaded by backend. "
        "Between windows a model is loaded or the board cools.",
        "alt": f"Power in watts over the seconds of the session{used}.",
    }


def _race(results: Results) -> Text:
    rows = sleep_race(results)
    said = "; ".join(f"{row['suite']} from {row['idle_from_w']:.3g} W on: {row['winner']}" for row in rows)
    return {
        "title": "llama.cpp: race to sleep",
        "caption": "Energy of a request and of the rest until the deadline (the slowest arm's time, unless the study "
        "names one), over the power at rest. The lowest line wins; dotted: the winner changes. A fast arm gains where "
        "rest is cheap.",
        "alt": f"Straight lines over the power at rest. Winners: {said}.",
    }


def _ablation(comparison: str) -> Callable[[Results], Text]:
    def describe(results: Results) -> Text:
        rows = [row for row in ablations(results) if row["comparison"] == comparison]
        known = [row for row in rows if row["latency_s"] is not None]
        said = "; ".join(f"{row['arm']} {row['suite']} {1e3 * row['latency_s']:.4g} ms" for row in known)
        absent = sorted({str(row["value"]) for row in rows} - {str(row["value"]) for row in known})
        lacking = f" Without a point: {', '.join(absent)}, not measured." if absent else ""
        return {
            "title": f"llama.cpp: {AXES[comparison]}",
            "caption": f"Latency, gross energy and energy-delay product of a request, all else equal.{lacking}"
            f"{_NOTES.get(comparison, '')} Bars are 95 % intervals; the table of ablations has the paired ratios.",
            "alt": f"Lines over {AXES[comparison]}. Latency: {said}.",
        }

    return describe


def _boundary(results: Results) -> str:
    section = results.study.llamacpp
    return f"Joules: {' + '.join(section.boundary)} of the machine, for every arm alike." if section else ""


LLAMACPP_TEXTS: dict[str, Callable[[Results], Text]] = {
    "llamacpp_energy_latency": _energy,
    "llamacpp_backends": _comparison,
    "llamacpp_power": _power,
    "llamacpp_race": _race,
    **{name: _ablation(comparison) for comparison, name in NAMES.items()},
}
