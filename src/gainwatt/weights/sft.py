"""The supervised control: a fine-tune of the base whose weights moved exactly as far as GRPO moved them.

GRPO's small learning rate alone makes its codes look like the base's. Whether the directions that GRPO chose matter
to a quantizer shows only against another training of the same step size. Equal is the L2 norm of the whole change
over all measured matrices, in the stored type: the fine-tune uses GRPO's optimizer settings and number of steps, and
its change is then multiplied by one factor for the whole checkpoint. How the norm spreads over layers is the
training's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.embedded.warm_start import strip_annotations
from gainwatt.errors import InputError, UnavailableError
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import chat_prompt, solved_chat
from gainwatt.study.sections import Train
from gainwatt.weights.select import matrices
from gainwatt.weights.tensors import Tensor, read_rows, read_tensors

TOLERANCE = 0.01
"""Largest relative difference of the two norms."""
_ATTEMPTS = 30
_NO_LOSS = -100  # cross_entropy's own mark for a token that is not learned
Example = tuple[list[int], int]
"""Token ids of prompt and solution, and the length of the prompt."""


@dataclass(frozen=True)
class Rescaled:
    """`factor`: what the change was multiplied by. `norm_ratio`: its norm over the wanted one, as it is stored."""

    factor: float
    norm_ratio: float


def encode(items: Sequence[Item], tokenizer: Any, template: str, max_tokens: int) -> list[Example]:
    """Chat prompt and plain reference solution of each item, cut at `max_tokens`."""
    found = []
    for item in items:
        prompt = chat_prompt(tokenizer, item.question, template)
        whole = solved_chat(tokenizer, item.question, strip_annotations(item.solution), template)
        ids, start = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (whole, prompt))
        if len(start) >= max_tokens:
            raise InputError(
                f"the prompt of training item {item.index} leaves no room for a solution in {max_tokens} tokens",
                "raise train.max_prompt_tokens",
            )
        found.append((ids[:max_tokens], len(start)))
    return found


def fine_tune(
    model: Any,
    examples: Sequence[Example],
    train: Train,
    *,
    batch_size: int,
    seed: int,
    progress: Callable[[Any], Iterable[int]] = iter,
) -> list[float]:
    """Train `model` in place on the solutions' tokens for `train.max_steps` steps; returns the loss of each."""
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.learning_rate, betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon, weight_decay=train.weight_decay,
    )  # fmt: skip
    schedule = get_scheduler(train.lr_scheduler_type, optimizer, train.warmup_steps, train.max_steps)
    choose = random.Random(f"sft {seed}")  # noqa: S311 - not for secrets
    losses = []
    model.train()
    for _ in progress(range(train.max_steps)):
        loss = _loss(model, choose.sample(examples, min(batch_size, len(examples))), train.precision)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def _loss(model: Any, batch: list[Example], precision: str) -> Any:
    import torch

    width = max(len(ids) for ids, _ in batch)
    tokens = torch.zeros((len(batch), width), dtype=torch.long)
    mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, _NO_LOSS)
    for row, (ids, start) in enumerate(batch):
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        labels[row, start : len(ids)] = torch.tensor(ids[start:])
    tokens, mask, labels = (part.to(model.device) for part in (tokens, mask, labels))
    # Half precision without a loss scale would lose fp16 gradients: bf16 has fp32's range.
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision != "fp32"):
        return model(tokens, attention_mask=mask, labels=labels, use_cache=False).loss


def update_norm(trained: Path, base: Path) -> float:
    """‖Δw‖ over the measured matrices of two unquantized checkpoints of one model, as they are stored."""
    ours, theirs = ({m.tensor.name: m.tensor for m in matrices(folder)} for folder in (trained, base))
    if ours.keys() != theirs.keys():
        raise InputError(
            f"{trained} and {base} do not hold the same matrices", "compare a trained checkpoint with its own base"
        )
    return math.sqrt(sum(_moved(read_rows(ours[name]).float(), theirs[name]) for name in ours))


def rescale(model: Any, base: Path, wanted: float, dtype: Any) -> Rescaled:
    """Multiply the change of `model` (fp32) against the checkpoint in `base`, so that its norm in `dtype` is `wanted`.

    Raises UnavailableError where rounding to `dtype` keeps the norm from being met within `TOLERANCE`.
    """
    import torch

    measured = {m.tensor.name for m in matrices(base)}
    stored = read_tensors(base)
    parameters = {name: p for name, p in model.named_parameters() if name in stored}
    factor, best = 1.0, Rescaled(1.0, math.inf)
    low, high = 0.0, math.inf
    for _ in range(_ATTEMPTS):
        squares = (_moved(_at(parameters[n], stored[n], factor).to(dtype).float(), stored[n]) for n in measured)
        ratio = math.sqrt(sum(squares)) / wanted
        if abs(ratio - 1) < abs(best.norm_ratio - 1):
            best = Rescaled(factor, ratio)
        if abs(ratio - 1) <= TOLERANCE / 10:
            break
        low, high = (factor, high) if ratio < 1 else (low, factor)
        # Rounding swallows small changes: the norm grows with the factor, but by jumps. What misses is halved.
        guess = factor / ratio if ratio > 0 else 2 * factor
        factor = guess if low < guess < high else (low * high) ** 0.5 if low > 0 else high / 2
    if not abs(best.norm_ratio - 1) <= TOLERANCE:
        raise UnavailableError(
            f"the supervised control's change cannot be given the norm {wanted:.4g}: rounded to {dtype} the nearest is "
            f"{best.norm_ratio:.3f} times that"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_at(parameter, stored[name], best.factor))
    return best


def _at(parameter: Any, stored: Tensor, factor: float) -> Any:
    before = read_rows(stored).float().to(parameter.device)
    return before + factor * (parameter.detach() - before)


def _moved(after: Any, stored: Tensor) -> float:
    return float((after - read_rows(stored).float().to(after.device)).double().square().sum())
