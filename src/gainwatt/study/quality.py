"""The sections of a study file that measure quality beyond GSM8K: perplexity, and tasks of lm-eval.

Both are optional. A study that leaves them out runs neither rule.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gainwatt.study.sections import NonNegative, Positive, Section

Window = Annotated[int, Field(ge=2, strict=True)]

IDENTITY = {"corpus", "revision", "config", "split", "column"}
"""What says which text a perplexity is of."""


class Perplexity(Section):
    """Sliding-window perplexity of every cell on one text. Numbers of different settings are never compared."""

    corpus: str
    """A text file, a folder of *.txt files (a document each), `hub:ORG/NAME`, or `data:SPLIT`: a split of the study's
    questions (test, train; embedded also validation), each question with its solution a document."""
    revision: str | None = None
    """Commit of the hub data set; required with a hub source."""
    config: str | None = None
    """Configuration of the hub data set, e.g. wikitext-2-raw-v1."""
    split: str = "test"
    """Split of the hub data set."""
    column: str = "text"
    """Text column of the hub data set; its rows are joined by blank lines to one document."""
    window: Window = 1024
    """Tokens that the model sees at once."""
    stride: Positive = 512
    """Tokens by which the window moves on: each scored token sees at least window - stride tokens before it."""
    prefix: Literal["auto", "none"] = "auto"
    """`auto` puts the tokenizer's start (else end) token before each document, so that its first token is scored too;
    `none` leaves that token unscored."""
    max_tokens: Positive | None = None
    """Use only the first N tokens of the corpus (none: all)."""
    batch_size: Positive = 8
    """Windows per forward pass; halved when memory runs out."""

    @model_validator(mode="after")
    def _check(self) -> Perplexity:
        if self.stride >= self.window:
            raise ValueError(f"stride {self.stride} must be smaller than window {self.window}, or tokens go unscored")
        if self.corpus.startswith("hub:") and not self.revision:
            raise ValueError("a hub source needs `revision`, the commit to read, so that the study can be repeated")
        if self.corpus.startswith("data:") and self.corpus not in ("data:train", "data:validation", "data:test"):
            raise ValueError("the study's own texts are data:train, data:validation and data:test")
        return self


class Tasks(Section):
    """Tasks of the Language Model Evaluation Harness, by its own code; needs `make env NAME=lm-eval`."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    """Tasks or groups by their lm-eval names, e.g. [hellaswag, arc_easy]."""
    include_path: str | None = None
    """Folder with task files (yaml) of your own."""
    local_data: dict[str, str] = Field(default_factory=dict)
    """Folder that replaces a task's hub data set, for machines without internet: name of the task -> folder."""
    num_fewshot: NonNegative | None = None
    """Solved examples before each question (none: what the task says)."""
    fewshot_seed: NonNegative = 1234
    """Seed of the choice of examples."""
    limit: Positive | None = None
    """Use only the first N items of each task."""
    batch_size: Positive = 8
    """Requests per forward pass; halved when memory runs out."""
    max_tokens: Positive | None = None
    """Longest request (none: the model's context)."""
    apply_chat_template: bool = False
    """Ask through the tokenizer's chat template."""
    offline: bool = True
    """Never reach for the hub: data sets come from local_data, the task's own files, or the local cache."""

    @model_validator(mode="after")
    def _check(self) -> Tasks:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names {list(self.names)} names a task twice")
        return self
