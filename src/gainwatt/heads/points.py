"""What is measured at one point of a pruning curve: perplexity and answers, by the project's own scorers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gainwatt.engines.base import Completion, Request
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.evaluation.metrics import item_rows, summarize
from gainwatt.gsm8k.data import Item
from gainwatt.perplexity.measure import Scorer
from gainwatt.perplexity.windows import Encoded

Phase = Callable[..., contextlib.AbstractContextManager[Any]]
ITEM_COLUMNS = ("index", "correct", "answer", "branch", "tokens", "finish_reason")


@dataclass(frozen=True)
class Measurer:
    """The model's engine with its questions, and the text of the perplexity with its scorer."""

    engine: TransformersEngine
    items: Sequence[Item]
    prompts: dict[int, str]
    requests: Sequence[Request]
    encoded: Encoded
    scorer: Scorer

    def warm_up(self) -> None:
        """Batches of windows and one of whole answers that do not count, so that the first point meets a warm GPU."""
        self.engine.warm_up(self.requests)
        self.scorer.warm_up(self.encoded.windows)
        next(self.engine.generate(self.requests), None)

    def measure(self, name: str, phase: Phase) -> dict[str, Any]:
        """Measure the model as it is now: JSON values, window sums by index and completions, with the seconds of each.

        The phases are called `perplexity NAME` and `generate NAME`; a published window is the second one's.
        """
        sums: dict[int, float] = {}
        completions: list[Completion] = []
        # The clocks run inside of the phases: at the edges of a measured one the meter waits for ticks of its counter.
        with phase(f"perplexity {name}"):
            started = time.monotonic()
            for found, _ in self.scorer.score(self.encoded.windows):
                sums.update(found)
            perplexity_s = time.monotonic() - started
        with phase(f"generate {name}", short_ok=False):
            started = time.monotonic()
            for done in self.engine.generate(self.requests):
                completions += done
            generate_s = time.monotonic() - started
        return {
            "windows": sorted(sums.items()),
            "completions": [asdict(found) for found in completions],
            "perplexity_s": perplexity_s,
            "generate_s": generate_s,
        }

    def rows(self, result: dict[str, Any]) -> list[dict[str, Any]]:
        """One row per item of a measured point."""
        completions = {found["index"]: Completion(**found) for found in result["completions"]}
        return item_rows(self.items, completions, self.prompts)

    def window_rows(self, result: dict[str, Any]) -> list[dict[str, Any]]:
        """One row per window of a measured point."""
        windows = self.encoded.windows
        return [
            {"index": i, "document": windows[i].document, "tokens": windows[i].tokens, "nll_sum": nll}
            for i, nll in result["windows"]
        ]


def point_metrics(rows: Sequence[dict[str, Any]], windows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Numbers of one point; `nll_per_token` may be no number where a pruned model overflows, and is None then."""
    import math

    total, tokens = math.fsum(row["nll_sum"] for row in windows), sum(row["tokens"] for row in windows)
    mean = total / tokens
    found = summarize(rows)
    names = ("num_examples", "correct", "accuracy", "parse_rate", "hit_max_new_tokens_rate", "generated_tokens")
    return {
        **{name: found[name] for name in names},
        "nll_per_token": mean if math.isfinite(mean) else None,
        "perplexity": math.exp(mean) if mean < 700 else None,
        "tokens_scored": tokens,
    }
