"""Published claims about quantization and batching, each beside what this machine measured, and what bounds it there.

A claim is a range of ratios to the unquantized model (or to batch 1) that somebody has published of some machine. Ours
has an interval of its own, the kernels that ran and the regime of the decoding step: a claim may be true of one kernel
or one regime and false of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gainwatt.profiling.ratios import RatioOf, gross_j_per_token, unpaired
from gainwatt.tables.profile import LOAD, Measured, cells, ratio_of
from gainwatt.tables.results import Results

Row = dict[str, Any]
BILLION = 1e9
MEMO = "ecocompute-dynamic-eval"


@dataclass(frozen=True)
class Claim:
    """`claimed` in words, `low` and `high` as a ratio of `quantity`, `at` where it was seen; `about` picks cells."""

    source: str
    claim: str
    claimed: str
    quantity: str
    low: float
    high: float
    at: str
    about: Callable[[Row], bool]


def _scheme(*names: str) -> Callable[[Row], bool]:
    return lambda cell: cell["scheme"] in names


def _sized(about: Callable[[Row], bool], low: float, high: float) -> Callable[[Row], bool]:
    """Only models of more than `low` and at most `high` parameters."""
    return lambda cell: about(cell) and low < (cell.get("parameters") or 0) <= high


_INT8, _PURE, _FP8 = _scheme("bnb-int8"), _scheme("bnb-int8-pure"), _scheme("fp8")
_NF4 = _scheme("bnb-nf4", "bnb-nf4-single")

CLAIMS = (
    Claim("powerbench", "INT8 is about 3 times slower than fp16", "3.15× (4.18× in an earlier commit)", "latency",
          3.15, 4.18, "RTX 2050, Qwen3-0.6B, batch 1", _INT8),
    Claim(MEMO, "INT8 costs more energy than fp16", "+17 % to +147 %", "gross_j_per_token", 1.17, 2.47,
          "RTX 4090D, A800, RTX 5090; batch 1", _INT8),
    Claim(MEMO, "INT8 loses most of the throughput", "−72 % to −76 %", "throughput", 0.24, 0.28,
          "RTX 4090D, A800; batch 1", _INT8),
    Claim("Benchmarks and Optimization: From 48GB GPU to 8GB RTX", "INT8 keeps the speed", "0.9× to 1.1×", "throughput",
          0.9, 1.1, "RTX 3090, Llama-3.1-8B, batch 1", _INT8),
    Claim(MEMO, "INT8 without outliers costs more energy than fp16", "+9.2 %", "gross_j_per_token", 1.092, 1.092,
          "RTX 5090, Qwen2.5-7B, batch 1", _PURE),
    Claim(MEMO, "NF4 costs energy in models of up to 3 B parameters", "+11 % to +29 %", "gross_j_per_token", 1.11, 1.29,
          "RTX 5090, 1.1 B to 3 B, batch 1", _sized(_NF4, 0, 3.2 * BILLION)),
    Claim(MEMO, "NF4 saves energy in models from 6 B parameters on", "−11.5 %", "gross_j_per_token", 0.885, 0.885,
          "RTX 5090, Qwen2.5-7B, batch 1", _sized(_NF4, 5.5 * BILLION, 1e15)),
    Claim("powerbench", "NF4 is a little slower than fp16", "1.11× (1.65× in an earlier commit)", "latency", 1.11, 1.65,
          "RTX 2050, Qwen3-0.6B, batch 1", _NF4),
    Claim("Benchmarks and Optimization: From 48GB GPU to 8GB RTX", "INT4 is faster", "1.3× to 1.8×", "throughput", 1.3,
          1.8, "RTX 3090, Llama-3.1-8B, batch 1", _scheme("bnb-nf4", "bnb-nf4-single", "awq-w4g128", "gptq-w4g128")),
    Claim(MEMO, "FP8 in eager mode costs several times the energy", "+158 % to +701 %", "gross_j_per_token", 2.58, 8.01,
          "RTX 5090, torchao, batch 1", _FP8),
    Claim("Benchmarks and Optimization: From 48GB GPU to 8GB RTX", "torch.compile is faster than eager", "1.5× to 2.5×",
          "throughput", 1.5, 2.5, "RTX 4090, ResNet-50",
          lambda cell: cell["mode"] in ("compile", "cuda-graphs")),
)  # fmt: skip

# Saved joules per request against batch 1, from the 70 raw runs of the batch sweep (pure INT8 Mistral-7B on an A800).
BATCH_SAVINGS = {2: 0.471, 4: 0.720, 8: 0.840, 16: 0.884, 32: 0.943, 64: 0.957}


def claims(results: Results) -> list[Row]:
    """One row per claim and cell that it is about; the claims about batches one per arm and larger batch.

    An arm that differs from the baseline in more than one thing says nothing about either.
    """
    rows = []
    for claim in CLAIMS:
        for found in cells(results):
            if claim.about(found.cell) and _changes(found) == 1:
                rows.append(_row(found, claim, ratio_of(found, claim.quantity)))
    for found, claim, ratio in _batch_claims(results):
        rows.append(_row(found, claim, ratio))
    return rows


def _changes(found: Measured) -> int:
    return sum(found.cell[name] != found.baseline[name] for name in ("scheme", "mode", "attention"))


def _batch_claims(results: Results) -> Iterator[tuple[Measured, Claim, RatioOf]]:
    measured = list(cells(results))
    singles = {_but_batch(found): found for found in measured if found.cell["batch"] == 1}
    seen = set()
    for found in measured:
        batch, one = found.cell["batch"], singles.get(_but_batch(found))
        # The baseline stands in every group; its sweep is told once.
        once = (found.group.variant, found.cell["arm"], *(found.cell[name] for name in LOAD))
        if batch not in BATCH_SAVINGS or one is None or once in seen:
            continue
        seen.add(once)
        left = 1 - BATCH_SAVINGS[batch]
        yield found, Claim(
            MEMO, f"a batch of {batch} saves energy per request", f"−{100 * BATCH_SAVINGS[batch]:.1f} %",
            "gross_j_per_token", left, left, "A800, Mistral-7B, pure INT8, from batch 1", lambda cell: True,
        ), _against_one(found, one)  # fmt: skip


def _but_batch(found: Measured) -> tuple[Any, ...]:
    return (found.group.name, found.cell["arm"], found.cell["prompt_tokens"], found.cell["new_tokens"])


def _against_one(found: Measured, one: Measured) -> RatioOf:
    for cell in (found.cell, one.cell):
        if cell["status"] != "ok":
            return RatioOf(None, None, None, 0, f"{cell['arm']} at batch {cell['batch']} is {cell['status']}")
    values = [[gross_j_per_token(window) for window in cell["windows"]] for cell in (found.cell, one.cell)]
    if any(value is None for column in values for value in column):
        return RatioOf(None, None, None, 0, found.cell["null_reasons"].get("gross_j_per_ktok") or "no joules")
    above, below = ([value for value in column if value is not None] for column in values)
    return unpaired(above, below)


def _row(found: Measured, claim: Claim, ratio: RatioOf) -> Row:
    cell = found.cell
    return {
        **found.place(),
        "load": " × ".join(str(cell[name]) for name in LOAD),
        "source": claim.source,
        "claim": claim.claim,
        "claimed": claim.claimed,
        "claimed_at": claim.at,
        "quantity": f"{claim.quantity}_ratio",
        "claimed_low": claim.low,
        "claimed_high": claim.high,
        "ours": ratio.estimate,
        "ours_low": ratio.low,
        "ours_high": ratio.high,
        "ours_text": _text(ratio),
        "n": ratio.n,
        "verdict": verdict(claim, ratio),
        "decode_regime": cell.get("decode_regime"),
        "prefill_regime": cell.get("prefill_regime"),
        "kernel_path": cell.get("kernel_path"),
        "layers": cell.get("layers"),
        "kernels": cell.get("kernels"),
        "parameters": cell.get("parameters"),
        "null_reason": ratio.reason,
    }


def verdict(claim: Claim, ratio: RatioOf) -> str:
    """`agrees` where our interval meets the claimed range, `reversed` where ours lies on the other side of 1.

    `undecided`: our interval holds the claim and something else that contradicts it: no change at all, or, where no
    change is what is claimed, a change.
    """
    if ratio.estimate is None:
        return "not measured"
    if ratio.low is None or ratio.high is None:
        return "no interval"
    if ratio.low <= claim.high and ratio.high >= claim.low:
        no_change = claim.low <= 1 <= claim.high
        inside = claim.low <= ratio.low and ratio.high <= claim.high
        undecided = not inside if no_change else ratio.low <= 1 <= ratio.high
        return "undecided" if undecided else "agrees"
    if (claim.low > 1 and ratio.high < 1) or (claim.high < 1 and ratio.low > 1):
        return "reversed"
    return "above the claim" if ratio.low > claim.high else "below the claim"


def _text(ratio: RatioOf) -> str | None:
    if ratio.estimate is None:
        return None
    if ratio.low is None or ratio.high is None:
        return f"{ratio.estimate:.3g}×"
    return f"{ratio.estimate:.3g}× [{ratio.low:.3g}, {ratio.high:.3g}]"
