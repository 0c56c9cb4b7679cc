"""The model's loss on the reference solutions, as the assistant's turn of the chat template."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from gainwatt.engines.base import Solved, stop_token_ids
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat


def solved_items(
    tokenizer: Any, items: Sequence[Item], *, template: str, max_reference_tokens: int, context_tokens: int | None
) -> list[Solved]:
    """Every item's prompt and reference solution in tokens, as the chat template writes them.

    What is scored is the solution and the end-of-turn token behind it, cut at `max_reference_tokens`; what the template
    writes after the end of the turn (Qwen2.5: a newline) is never generated and not scored. The prompt's tokens are
    exactly those of the evaluation. Raises InputError where the tokenizer does not allow that, and where prompt and
    solution together are longer than `context_tokens`.
    """
    stop_ids = set(stop_token_ids(tokenizer))
    found = []
    for item in items:
        solved = _solved(tokenizer, item, template, stop_ids, max_reference_tokens)
        if context_tokens is not None and len(solved.token_ids) > context_tokens:
            raise InputError(
                f"prompt and reference solution of item {item.index} have {len(solved.token_ids)} tokens, and the "
                f"model holds {context_tokens}",
                "lower evaluate.max_reference_tokens, or set evaluate.reference_nll to false",
            )
        found.append(solved)
    return found


def summarize_loss(parts: Iterable[tuple[float, int]]) -> dict[str, float | int]:
    """`reference_nll_per_token` (nats, token-weighted mean), `reference_ppl` = exp of it, `reference_ppl_token_count`.

    `parts` are summed negative log-likelihoods with their token counts, as `Engine.score` yields them.
    """
    total, tokens = 0.0, 0
    for loss, count in parts:
        total += loss
        tokens += count
    mean = total / tokens
    return {"reference_nll_per_token": mean, "reference_ppl": math.exp(mean), "reference_ppl_token_count": tokens}


def _solved(tokenizer: Any, item: Item, template: str, stop_ids: set[int], limit: int) -> Solved:
    prompt = chat_prompt(tokenizer, item.question, template)
    whole = solved_chat(tokenizer, item.question, item.solution, template)

    def ids_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    prompt_ids, ids = ids_of(prompt), ids_of(whole)
    if ids[: len(prompt_ids)] != prompt_ids:
        # A token reaches over the end of the prompt. The model is asked with the prompt's own tokens, so the solution
        # is tokenized by itself, as long as that is still the same text.
        ids = prompt_ids + ids_of(whole[len(prompt) :])
        if tokenizer.decode(ids) != tokenizer.decode(ids_of(whole)):
            raise InputError(
                f"item {item.index}: the tokenizer {getattr(tokenizer, 'name_or_path', '')!r} joins the end of the "
                "prompt and the start of the solution, and gives another text when they are tokenized apart",
                "set evaluate.reference_nll to false for this model",
            )
    solution = ids[len(prompt_ids) :]
    ends = [place for place, token in enumerate(solution) if token in stop_ids]
    end = ends[-1] + 1 if ends else len(solution)
    return Solved(item.index, len(prompt_ids), tuple(prompt_ids + solution[: min(end, limit)]))
