"""The model's loss on the reference solutions, as the assistant's turn of the chat template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat


def reference_loss(
    model: Any, tokenizer: Any, items: Sequence[Item], *, template: str, batch_size: int, max_reference_tokens: int
) -> dict[str, float | int]:
    """Negative log-likelihood of the reference solutions given their prompts.

    The text is the chat template's own prompt and assistant turn; prompt tokens are masked, and the solution is cut at
    `max_reference_tokens`. Returns `reference_nll_per_token` (nats, token-weighted mean), `reference_ppl` = exp of it,
    and `reference_ppl_token_count`.
    """
    total, tokens = 0.0, 0
    for start in range(0, len(items), batch_size):
        loss, count = _batch_loss(model, tokenizer, items[start : start + batch_size], template, max_reference_tokens)
        total += loss
        tokens += count
    mean = total / tokens
    return {"reference_nll_per_token": mean, "reference_ppl": math.exp(mean), "reference_ppl_token_count": tokens}


def _batch_loss(
    model: Any, tokenizer: Any, items: Sequence[Item], template: str, max_reference_tokens: int
) -> tuple[float, int]:
    import torch

    rows = []
    for item in items:
        prompt = chat_prompt(tokenizer, item.question, template)
        whole = solved_chat(tokenizer, item.question, item.solution, template)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        rows.append((len(prompt_ids), ids[: len(prompt_ids) + max_reference_tokens]))
    width = max(len(ids) for _, ids in rows)
    pad = tokenizer.pad_token_id
    batch = torch.tensor([ids + [pad] * (width - len(ids)) for _, ids in rows], device=model.device)
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for _, ids in rows], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=batch, attention_mask=mask).logits
        loss, count = 0.0, 0
        for row, (prompt_length, ids) in enumerate(rows):
            # Row by row: with a large vocabulary a second, fp32 copy of the whole batch would not fit.
            targets = batch[row, prompt_length : len(ids)]
            found = logits[row, prompt_length - 1 : len(ids) - 1].float()
            loss += float(torch.nn.functional.cross_entropy(found, targets, reduction="sum"))
            count += len(targets)
    return loss, count
