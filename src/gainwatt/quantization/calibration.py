"""Calibration text: chat prompt and reference solution of a seeded sample of training items."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import solved_chat
from gainwatt.record import text_sha256
from gainwatt.study import Study


@dataclass(frozen=True)
class Calibration:
    """Token ids of each calibration text, cut at the study's limit, and the hash over all of them."""

    token_ids: list[list[int]]
    sha256: str

    @property
    def tokens(self) -> int:
        """Number of calibration tokens."""
        return sum(len(ids) for ids in self.token_ids)


def load_calibration(study: Study, data: Path, tokenizer: Any) -> Calibration:
    """The study's calibration set from a train.jsonl.

    Raises InputError when there are fewer training items than the study asks for.
    """
    wanted = study.quantize.calibration_items
    items = read_items(data)
    if len(items) < wanted:
        raise InputError(
            f"{data} has {len(items)} items, and quantize.calibration_items asks for {wanted}",
            "lower quantize.calibration_items or give more training items",
        )
    chosen = random.Random(study.quantize.calibration_seed).sample(items, wanted)  # noqa: S311 - not for secrets
    texts = [solved_chat(tokenizer, item.question, item.solution, study.data.prompt_template) for item in chosen]
    limit = study.quantize.calibration_max_tokens
    token_ids = [tokenizer(text, add_special_tokens=False)["input_ids"][:limit] for text in texts]
    return Calibration(token_ids, text_sha256(json.dumps(token_ids)))
