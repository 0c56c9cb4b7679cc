"""Prompts of an exact length: ordinary text, cut in tokens, so that no row holds padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gainwatt.errors import InputError

TEXT = (
    "A school buys 24 boxes of pencils with 12 pencils in each box and shares them between 9 classes. "
    "How many pencils does each class get? First count all pencils, then divide by the number of classes: "
    "24 times 12 is 288, and 288 divided by 9 is 32. The answer is 32. On Monday a baker sells 45 loaves, on Tuesday "
    "she sells 17 more than on Monday, and on Wednesday half as many as on Tuesday. Write down every step and what "
    "each number stands for before you give the result. Rivers carry sand to the sea; where the water slows down the "
    "sand sinks, and after a long time it becomes rock again. "
)
_STEP = 7
"""Rows begin this many tokens apart, so that no two rows of a batch are the same text."""


def prompt_ids(tokenizer: Any, batch: int, prompt_tokens: int) -> list[list[int]]:
    """Token ids [batch][prompt_tokens] of `TEXT`, repeated as often as needed; every row begins elsewhere in it.

    Activations decide what some kernels do (LLM.int8() treats outliers apart), so that random ids would not do.
    Raises InputError where the tokenizer makes nothing of the text.
    """
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("the tokenizer makes no token of ordinary text", "check the checkpoint's tokenizer")
    return [cut(ids, row * _STEP, prompt_tokens) for row in range(batch)]


def cut(ids: Sequence[int], start: int, count: int) -> list[int]:
    """`count` ids from `start` on, from the beginning again where they end."""
    return [ids[(start + place) % len(ids)] for place in range(count)]
