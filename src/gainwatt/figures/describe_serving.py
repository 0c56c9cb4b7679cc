"""Words for the figures of the serving benchmark."""

from __future__ import annotations

from collections.abc import Callable

from gainwatt.figures.serving import lengths_drawn
from gainwatt.tables.results import Results
from gainwatt.tables.serving import Measured, measured

Text = dict[str, str]


def _cells(results: Results, metric: str) -> list[Measured]:
    every = [found for mode in ("offline", "online") for found in measured(results, mode)]
    drawn = [found for found in every if found.load.lengths == lengths_drawn(results)]
    return [found for found in drawn if found.metrics.get(metric) is not None]


def _length(results: Results) -> str:
    serve = results.study.serve
    assert serve is not None  # noqa: S101 - called only where a figure was drawn
    if lengths_drawn(results) == "fixed":
        return f"Prompts of {serve.fixed_prompt_tokens} and answers of {serve.fixed_new_tokens} tokens."
    return f"The study's questions; answers end by themselves or after {serve.max_new_tokens} tokens."


def _extremes(results: Results, metric: str, unit: str) -> str:
    cells = sorted(_cells(results, metric), key=lambda found: found.metrics[metric])
    if not cells:
        return "no number"
    low, high = cells[0], cells[-1]
    names = (f"{f.metrics[metric]:.4g} {unit} ({f.start.prefix}, {f.load.name})" for f in (low, high))
    return f"from {' to '.join(names)}"


def _latency(results: Results) -> Text:
    return {
        "title": "Throughput against latency",
        "caption": f"Generated tokens per second over the median latency of a request, one point per batch size or "
        f"number of clients (the numbers). {_length(results)} Up and left is better; both axes are logarithmic. "
        "Latencies on a server count from the scheduled time.",
        "alt": f"Lines of throughput over latency: {_extremes(results, 'throughput_tok_s', 'tokens/s')}.",
    }


def _energy(results: Results) -> Text:
    return {
        "title": "Joules per token against concurrency",
        "caption": "Gross joules per generated token, prompts included, over the batch size (whole passes) and over "
        "the number of clients (steady state: from the first token of the last client until the queue drains), with "
        f"95 % intervals over the windows. {_length(results)} Down is better.",
        "alt": f"Lines of energy per token: {_extremes(results, 'gross_j_per_token', 'J')}.",
    }


def _goodput(results: Results) -> Text:
    serve = results.study.serve
    slo = serve.online.slo if serve is not None and serve.online is not None else None
    limits = {"TTFT": slo.ttft_ms, "TPOT": slo.tpot_ms, "end to end": slo.e2e_ms} if slo else {}
    said = ", ".join(f"{name} at most {limit:g} ms" for name, limit in limits.items() if limit is not None)
    return {
        "title": "Goodput",
        "caption": f"Requests per second that keep the service level ({said}). Right: dotted, every "
        f"request; dashed, the largest rate carried by the search. {_length(results)}",
        "alt": f"Lines of goodput: {_extremes(results, 'goodput_requests_per_s', 'requests/s')}.",
    }


def _roofs(results: Results) -> Text:
    return {
        "title": "Decode speed and its roof",
        "caption": "Decode speed of closed batches, without the prefill, and the speed that the machine's measured "
        "bandwidth and arithmetic allow for the weights and caches that a step reads (dashed).",
        "alt": f"Lines of decode speed under dashed roofs: {_extremes(results, 'decode_tok_s', 'tokens/s')}.",
    }


SERVING_TEXTS: dict[str, Callable[[Results], Text]] = {
    "serving_latency": _latency,
    "serving_energy": _energy,
    "serving_goodput": _goodput,
    "serving_roofs": _roofs,
}
