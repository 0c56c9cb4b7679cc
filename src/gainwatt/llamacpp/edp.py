"""Energy-delay products, each with its definition; lower is better in all of them.

name        definition                                        boundary of the joules       latency
request     J per request × s per request, ratios of totals   the declared one             prefill + decode
published   mean over prompts of J × s                        the arm's own device alone   load + prefill + decode
per token   (J per token) × (s per token)                     the arm's own device alone   prefill + decode

The last two are those of a published study of TinyLlama on a desktop (csce585-mlsystems,
Energy-Aware-LLM-Inference-on-Consumer-Hardware): its second version measured one process per prompt from start to exit,
its first one joules and milliseconds per token. A mean of products is not the product of the means.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def edp_request(joules: float, seconds: float, requests: float) -> float:
    """J·s of one request, from the totals of all: (J / requests) × (s / requests)."""
    return (joules / requests) * (seconds / requests)


def edp_published(rows: Sequence[tuple[float, float]]) -> float:
    """Mean of J × s over (joules, seconds) of single requests. J·s."""
    return statistics.fmean(joules * seconds for joules, seconds in rows)


def edp_per_token(j_per_token: float, ms_per_token: float) -> float:
    """(J / token) × (s / token), from milliseconds as the study's table gives them. J·s per token²."""
    return j_per_token * ms_per_token / 1e3
