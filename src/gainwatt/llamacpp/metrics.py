"""From the windows of an arm to its numbers, suite by suite. Pure functions of rows; standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from gainwatt.energy.protocol import CV_POWER, CV_THROUGHPUT, REPEATS_MIN, WINDOW_MIN_S
from gainwatt.energy.stats import spread
from gainwatt.llamacpp.boundary import BOUNDARIES
from gainwatt.llamacpp.edp import edp_per_token, edp_published, edp_request

Row = dict[str, Any]
OWN_DEVICE = {"cpu": "cpu_package", "gpu": "gpu_board"}
"""The one device that the published study metered in an arm of a backend."""


def windows_of(rows: Sequence[Row], suite: str, kind: str = "generate") -> list[Row]:
    """Windows of one suite and kind, by round."""
    return sorted((r for r in rows if r["suite"] == suite and r["kind"] == kind), key=lambda row: int(row["round"]))


def quantile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics, as numpy's default. `values` need not be sorted."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def per_window(rows: Sequence[Row], suite: str) -> dict[str, dict[int, float]]:
    """Quantity -> round -> value, for everything that is compared between arms in the same round."""
    found: dict[str, dict[int, float]] = {}
    for row in windows_of(rows, suite):
        values = {
            "latency_s": statistics.fmean(row["latency_s"]),
            "decode_tok_s": ratio(row["decoded_tokens"], row["decode_s"]),
            "s_per_request": row["seconds"] / row["requests"],
            "gross_j_per_request": ratio(row["gross_j"], row["requests"]),
            "net_j_per_request": ratio(row["net_j"], row["requests"]),
            "edp_gross_js": _edp(row, "gross_j"),
            "edp_net_js": _edp(row, "net_j"),
        }
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, {})[int(row["round"])] = value
    return found


def _edp(row: Row, key: str) -> float | None:
    """J·s of one window, its delay being the mean latency of its requests."""
    if row[key] is None:
        return None
    return float(row[key] / row["requests"] * statistics.fmean(row["latency_s"]))


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below; None where one is missing or nothing was counted."""
    return above / below if above is not None and below else None


def suite_metrics(rows: Sequence[Row], suite: str, backend: str) -> dict[str, float | int | None]:
    """Every number of one arm on one suite. Joules are None where a window has none; see `null_reason`."""
    windows = windows_of(rows, suite)
    if not windows:
        return {}
    total = {name: _sum(windows, name) for name in ("requests", "prompt_tokens", "generated_tokens", "decoded_tokens")}
    latencies = [value for row in windows for value in row["latency_s"]]
    firsts = [value for row in windows for value in row["ttft_s"]]
    compared = per_window(rows, suite)
    found: dict[str, float | int | None] = {
        "windows": len(windows), "requests": total["requests"], "prompt_tokens": total["prompt_tokens"],
        "generated_tokens": total["generated_tokens"],
        "latency_p50_s": quantile(latencies, 0.5), "latency_p95_s": quantile(latencies, 0.95),
        "ttft_s": statistics.fmean(firsts), "ttft_p95_s": quantile(firsts, 0.95),
        "prefill_tok_s": ratio(total["prompt_tokens"], _sum(windows, "prefill_s")),
        "throughput_tok_s": ratio(total["generated_tokens"], _sum(windows, "seconds")),
        "ms_per_token_mean": 1e3 * sum(row["busy_s"] for row in windows) / (total["generated_tokens"] or 1),
        "shortest_window_s": min(row["seconds"] for row in windows),
        "busy_share": ratio(_sum(windows, "busy_s"), _sum(windows, "seconds")),
    }  # fmt: skip
    found |= _spreads("latency_s", compared) | _spreads("decode_tok_s", compared)
    if found["decode_tok_s"] is None:
        found["decode_tok_s"] = ratio(total["decoded_tokens"], _sum(windows, "decode_s"))
    found |= _energy(windows, total, compared)
    found |= _split(rows, suite)
    return found | _published(rows, windows, OWN_DEVICE[backend])


def _sum(windows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in windows]
    return None if None in values else sum(values)


def _spreads(name: str, compared: dict[str, dict[int, float]]) -> dict[str, float | int | None]:
    """Mean over windows with standard deviation, coefficient of variation and 95 % interval.

    No quantity here can be below zero, and so no interval: few windows of a busy machine would reach there.
    """
    stem, unit = _stem(name)
    found = spread(list(compared.get(name, {}).values()))
    low = None if found.low is None else max(0.0, found.low)
    return {
        name: found.mean, f"{stem}_sd{unit}": found.sd, f"{stem}_cv": found.cv, f"{stem}_low{unit}": low,
        f"{stem}_high{unit}": found.high,
    }  # fmt: skip


def _stem(name: str) -> tuple[str, str]:
    """A name without and its unit, so that the unit ends every name that is made of it."""
    for unit in ("_tok_s", "_j_per_request", "_js", "_s"):
        if name.endswith(unit):
            return name.removesuffix(unit), unit
    return name, ""


def _energy(windows: Sequence[Row], total: dict[str, Any], compared: Any) -> dict[str, float | int | None]:
    gross, net, seconds = (_sum(windows, name) for name in ("gross_j", "net_j", "seconds"))
    found: dict[str, float | int | None] = {
        "gross_j_per_token": ratio(gross, total["generated_tokens"]),
        "net_j_per_token": ratio(net, total["generated_tokens"]),
        "gross_j_per_ktok": _scaled(ratio(gross, total["generated_tokens"]), 1e3),
        "net_j_per_ktok": _scaled(ratio(net, total["generated_tokens"]), 1e3),
        "tokens_per_j": ratio(total["generated_tokens"], gross),
        "mean_w": ratio(gross, seconds),
        "idle_w": ratio(None if gross is None or net is None else gross - net, seconds),
        "s_per_request": ratio(seconds, total["requests"]),
    }
    found |= _spreads("gross_j_per_request", compared) | _spreads("net_j_per_request", compared)
    for name in BOUNDARIES:
        found[f"{name}_gross_j_per_request"] = ratio(_sum(windows, f"{name}_gross_j"), total["requests"])
        found[f"{name}_net_j_per_request"] = ratio(_sum(windows, f"{name}_net_j"), total["requests"])
    # The delay of one request is its latency: where several are decoded together it is not seconds / requests.
    delay = statistics.fmean(statistics.fmean(row["latency_s"]) for row in windows)
    n = total["requests"]
    for kind, joules in (("gross", gross), ("net", net)):
        found[f"edp_{kind}_js"] = None if joules is None else edp_request(joules, delay * n, n)
    return found | {name: value for name, value in _spreads("edp_gross_js", compared).items() if name != "edp_gross_js"}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _split(rows: Sequence[Row], suite: str) -> dict[str, float | int | None]:
    """Joules of prefill and decode: windows of prefill alone, and what a whole request takes beyond that."""
    whole, prefill = windows_of(rows, suite), windows_of(rows, suite, "prefill")
    found: dict[str, float | int | None] = {}
    for kind in ("gross", "net"):
        of_prefill = ratio(_sum(prefill, f"{kind}_j"), _sum(prefill, "requests")) if prefill else None
        of_whole = ratio(_sum(whole, f"{kind}_j"), _sum(whole, "requests"))
        found[f"prefill_{kind}_j_per_request"] = of_prefill
        known = None if of_prefill is None or of_whole is None else of_whole - of_prefill
        found[f"decode_{kind}_j_per_request"] = known
    return found


def _published(rows: Sequence[Row], windows: Sequence[Row], device: str) -> dict[str, float | int | None]:
    loads = {row["round"]: row for row in rows if row["kind"] == "load"}
    key = f"{device}_gross_j"
    products = [
        ((row[key] / row["requests"]) + loads[row["round"]][key], statistics.fmean(row["latency_s"]) + load_s)
        for row in windows
        if row[key] is not None and row["round"] in loads and loads[row["round"]][key] is not None
        for load_s in [loads[row["round"]]["load_s"]]
    ]
    tokens, joules = _sum(windows, "generated_tokens"), _sum(windows, key)
    per_token, ms = ratio(joules, tokens), _scaled(ratio(_sum(windows, "busy_s"), tokens), 1e3)
    return {
        "edp_published_js": edp_published(products) if len(products) == len(windows) else None,
        "edp_per_token_js": edp_per_token(per_token, ms) if per_token is not None and ms is not None else None,
        "own_device_j_per_token": per_token,
    }


def load_metrics(rows: Sequence[Row]) -> dict[str, float | int | None]:
    """Loading, apart from everything else: seconds by the worker's clock, joules of the phase around it."""
    loads = [row for row in rows if row["kind"] == "load"]
    seconds = spread([row["load_s"] for row in loads])
    gross = [row["gross_j"] for row in loads]
    return {
        "loads": len(loads), "load_s": seconds.mean, "load_sd_s": seconds.sd,
        "load_gross_j": None if not loads or None in gross else statistics.fmean(gross),
    }  # fmt: skip


def gates(found: dict[str, Any], power: Sequence[float]) -> dict[str, bool | None]:
    """The protocol's gates: spread of throughput and power, length and number of windows. None: not known."""
    watts = spread(power).cv
    cv = found.get("decode_tok_cv", found.get("decode_cv"))
    return {
        "throughput": None if cv is None else cv < CV_THROUGHPUT,
        "power": None if watts is None else watts < CV_POWER,
        "length": found["shortest_window_s"] >= WINDOW_MIN_S,
        "repeats": found["windows"] >= REPEATS_MIN,
    }


def null_reason(rows: Sequence[Row], key: str = "reason") -> str | None:
    """Why joules are null, from the windows themselves."""
    return next((str(row[key]) for row in rows if row.get(key)), None)
