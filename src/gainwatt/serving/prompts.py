"""Prompts as token ids, drawn anew for every cell and every repeat, so that no cell profits from the one before it.

The draw depends on the study's seed, the load and the repeat, and not on the checkpoint: every checkpoint is asked the
same, each time on an engine that has not seen it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.study.serving import Serve
from gainwatt.study.serving_cells import Load

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Where prompts come from: the study's questions in tokens, and the ids that random prompts are made of."""

    questions: tuple[Ids, ...]
    vocabulary: tuple[int, ...]


@dataclass
class Prompts:
    """Draws the prompts of one cell. `sha256` tells which were drawn so far, in their order."""

    source: Source
    serve: Serve
    load: Load
    drawn: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def draw(self, count: int, purpose: str) -> list[Ids]:
        """`count` prompts; the same for the same study, load and `purpose`, others for any other.

        Natural ones are the study's questions in a random order, each of them once before any comes again; fixed ones
        are uniformly random ids, `serve.fixed_prompt_tokens` of them.
        """
        pick = random.Random(f"{self.serve.seed}:{self.load.name}:{purpose}")  # noqa: S311 - not a secret
        if self.load.lengths == "fixed":
            length = self.serve.fixed_prompt_tokens
            found = [tuple(pick.choices(self.source.vocabulary, k=length)) for _ in range(count)]
        else:
            found = []
            while len(found) < count:
                rest = count - len(found)
                found += pick.sample(self.source.questions, min(rest, len(self.source.questions)))
        for ids in found:
            self._digest.update(b"%d;" % len(ids) + b",".join(b"%d" % token for token in ids))
        self.drawn += count
        return found

    @property
    def sha256(self) -> str:
        """SHA-256 over all prompts drawn so far."""
        return str(self._digest.hexdigest())

    @property
    def new_tokens(self) -> int:
        """Length limit of an answer (natural), or its length (fixed)."""
        return self.serve.fixed_new_tokens if self.load.lengths == "fixed" else self.serve.max_new_tokens

    @property
    def fixed(self) -> bool:
        """Whether every answer has the same length."""
        return self.load.lengths == "fixed"


def source(tokenizer: Any, items: Sequence[Item], template: str, serve: Serve, context_tokens: int | None) -> Source:
    """The study's questions through the chat template, in tokens.

    Raises InputError, naming the question or the setting, where prompt and answer do not fit: into
    `serve.max_model_tokens`, or into the `context_tokens` positions that the model has.
    """
    limit = min(serve.max_model_tokens, context_tokens or serve.max_model_tokens)
    if "fixed" in serve.lengths and serve.fixed_prompt_tokens + serve.fixed_new_tokens > limit:
        raise InputError(
            f"serve.fixed_prompt_tokens + serve.fixed_new_tokens need {serve.fixed_prompt_tokens} + "
            f"{serve.fixed_new_tokens} positions, and there are {limit}",
            "lower one of them, or raise serve.max_model_tokens as far as the model's context goes",
        )
    questions = []
    if "natural" in serve.lengths:
        for item in items:
            ids = tuple(
                tokenizer(chat_prompt(tokenizer, item.question, template), add_special_tokens=False)["input_ids"]
            )
            if len(ids) + serve.max_new_tokens > limit:
                raise InputError(
                    f"the prompt of question {item.index} has {len(ids)} tokens; with serve.max_new_tokens = "
                    f"{serve.max_new_tokens} that is more than {limit} positions",
                    "lower serve.max_new_tokens, or raise serve.max_model_tokens as far as the model's context goes",
                )
            questions.append(ids)
    special = set(tokenizer.all_special_ids)
    return Source(tuple(questions), tuple(token for token in range(tokenizer.vocab_size) if token not in special))
