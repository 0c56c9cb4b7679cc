"""The section of a study that scores attention heads and prunes them. Optional: a study without it runs neither."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gainwatt.study.quality import IDENTITY, Perplexity
from gainwatt.study.sections import NonNegative, Positive, Section

Percent = Annotated[float, Field(gt=0, lt=100)]
Strategy = Literal["tv", "random", "magnitude", "tv_highest"]


class Prune(Section):
    """Heads switched off share by share, the lowest scores first, against random heads and small weights."""

    percents: Annotated[tuple[Percent, ...], Field(min_length=1)] = (10, 20, 30, 40, 50)
    """Shares of all heads that are switched off, in percent; 0 is always measured and is what the others are paired
    with."""
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = ("tv", "random", "magnitude")
    """Which heads go first: `tv` those with the lowest score, `random`, `magnitude` those with the smallest weights in
    the output projection, `tv_highest` those with the highest score (a check: it should hurt most)."""
    random_draws: Positive = 3
    """Draws of random heads at each share."""
    seed: NonNegative = 0
    """Seed of the random draws."""
    score: Literal["tv_distance", "tv_crossfit"] = "tv_distance"
    """The score of `tv`: the plug-in estimate, or the one without its bias."""
    items: Positive | None = 200
    """Use only the first N test items at each point (none: all)."""
    perplexity: Perplexity = Perplexity(corpus="data:test", window=512, stride=256)
    """The text on which the perplexity of each point is measured."""

    @model_validator(mode="after")
    def _check(self) -> Prune:
        for name, values in (("percents", self.percents), ("strategies", self.strategies)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} {list(values)} names a value twice")
        return self


class Heads(Section):
    """How far the activations of each attention head differ between reasoning prompts and others."""

    reasoning: str = "builtin"
    """Reasoning prompts: `builtin`, `data:SPLIT` (the study's questions), or a file: a prompt a line (.txt), or a JSON
    object with `prompt` or `question` a line (.jsonl)."""
    general: str = "builtin"
    """Prompts of other kinds: `builtin` or a file."""
    matched: str = "auto"
    """Control prompts with the words and the length of the reasoning prompts: `builtin` (only beside `reasoning:
    builtin`), `shuffled` (the words of each reasoning prompt in random order), a file with a prompt for each reasoning
    prompt in its order, `none`, or `auto`: builtin where it fits, else shuffled."""
    max_prompts: Annotated[int, Field(ge=5, strict=True)] = 32
    """Use the first N prompts of each set. Fewer than 14 pairs leave little room for significance among many heads."""
    max_tokens: Positive = 256
    """Longer prompts are cut."""
    chat_template: bool = True
    """Put each prompt through the tokenizer's chat template as the user's turn; only the prompt's own tokens count."""
    statistic: Literal["mean", "rms"] = "mean"
    """One number for each token and head: the mean of the head's output, or its root mean square."""
    bins: Annotated[int, Field(ge=2, le=500, strict=True)] = 16
    """Bins of the histograms, shared by both sides: quantiles of both together."""
    permutations: Annotated[int, Field(ge=199, strict=True)] = 10_000
    """Relabellings of the pairs behind each p-value."""
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """False-discovery rate at which a head counts as different (Benjamini and Hochberg)."""
    seed: NonNegative = 0
    """Seed of the relabellings, of the split into halves and of shuffled words."""
    batch_size: Positive = 8
    """Prompts per forward pass; halved when memory runs out."""
    schemes: tuple[str, ...] = ()
    """Schemes of the matrix that are scored beside the reference."""
    prune: Prune | None = None
    """Pruning curve of every variant at the reference scheme (none: not measured)."""

    def files(self) -> dict[str, str]:
        """Key of the study -> file or folder of somebody's own that it names."""
        found = {f"heads.{name}": getattr(self, name) for name in ("reasoning", "general", "matched")}
        if self.prune:
            found["heads.prune.perplexity.corpus"] = self.prune.perplexity.corpus
        own = ("builtin", "shuffled", "none", "auto")
        return {
            key: value for key, value in found.items() if value not in own and not value.startswith(("data:", "hub:"))
        }

    @model_validator(mode="after")
    def _check(self) -> Heads:
        if self.matched == "builtin" and self.reasoning != "builtin":
            raise ValueError("matched: builtin belongs to reasoning: builtin; take shuffled or a file of your own")
        if self.reasoning.startswith("data:") and self.reasoning not in ("data:train", "data:validation", "data:test"):
            raise ValueError("the study's own questions are data:train, data:validation and data:test")
        if len(set(self.schemes)) != len(self.schemes):
            raise ValueError(f"schemes {list(self.schemes)} names a scheme twice")
        return self


def deciding_scores(heads: dict[str, Any] | None) -> dict[str, Any] | None:
    """The part of the section (as JSON values) that decides the scores of a cell; pruning has settings of its own."""
    return heads and {name: value for name, value in heads.items() if name not in ("prune", "schemes", "batch_size")}


def check_corpora(heads: Heads, perplexity: Perplexity | None) -> None:
    """Raise ValueError where pruned models and cells are measured on two data sets of the hub: `fetch` keeps one."""
    texts = [found for found in (perplexity, heads.prune.perplexity if heads.prune else None) if found is not None]
    named = [found.model_dump(include=IDENTITY) for found in texts if found.corpus.startswith("hub:")]
    if len(named) == 2 and named[0] != named[1]:
        raise ValueError(
            "perplexity and heads.prune.perplexity name two data sets of the hub, and only one is kept for machines "
            "without internet: name the same one, or give one of them as a file"
        )


def check_heads(heads: Heads, schemes: list[str]) -> None:
    """Raise ValueError where `heads.schemes` names a scheme that the study's matrix lacks."""
    for name in heads.schemes:
        if name not in schemes:
            raise ValueError(f"heads.schemes names {name!r}, which is not in the matrix: {', '.join(schemes)}")


def score_names(study: Any) -> list[str]:
    """Names of the records of `score_heads`: every variant at the reference and at `heads.schemes`."""
    from gainwatt.study.cells import Cell, variants

    if study.heads is None:
        return []
    names = dict.fromkeys([study.quantize.reference, *study.heads.schemes])
    return [Cell(variant, scheme).name for variant in variants(study) for scheme in names]


def prune_names(study: Any) -> list[str]:
    """Names of the records of `prune_heads`: every variant at the reference, where the study prunes."""
    from gainwatt.study.cells import Cell, variants

    if study.heads is None or study.heads.prune is None:
        return []
    return [Cell(variant, study.quantize.reference).name for variant in variants(study)]
