"""From prompts to the scores of every head: tokens, contrasts, rows and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gainwatt.errors import InputError
from gainwatt.gsm8k.prompt import chat_prompt
from gainwatt.heads.modules import Head, HeadLayer
from gainwatt.heads.pairs import Frame, Pair, by_length, by_rank, common_frame, halves
from gainwatt.heads.prompts import GENERAL, MATCHED, REASONING, PromptSet, vocabulary_cosine
from gainwatt.heads.tv import NULL_BINS, Contrast, contrast
from gainwatt.stats.rank import spearman
from gainwatt.study.heads import Heads

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT_HALF = "split_half"
COLUMNS = ("layer_idx", "head_idx", "tv_distance", "mean_activation_reasoning", "mean_activation_general")
"""The first columns of a head's row, those of powerbench's head_scorer.py (github.com/Skrisps26/powerbench)."""
_SHOWN = 10
Row = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """Prompts in tokens by index, the indices of each kind, and what all prompts share."""

    sequences: dict[int, tuple[int, ...]]
    kinds: dict[str, list[int]]
    frame: Frame
    cut: int

    def lengths(self, kind: str) -> dict[int, int]:
        """Index -> the prompt's own tokens, of one kind."""
        return {index: self.frame.own(len(self.sequences[index])) for index in self.kinds[kind]}


def encode(tokenizer: Any, sets: dict[str, PromptSet], settings: Heads) -> Encoded:
    """Tokens of every prompt, through the chat template where the study says so, cut at `max_tokens`.

    Raises InputError where a prompt keeps no token of its own.
    """
    sequences: dict[int, tuple[int, ...]] = {}
    kinds: dict[str, list[int]] = {}
    lost: list[bool] = []
    for kind, found in sets.items():
        for text in found.texts:
            if settings.chat_template:
                ids = tokenizer(chat_prompt(tokenizer, text, "{question}"), add_special_tokens=False)["input_ids"]
            else:
                ids = tokenizer(text)["input_ids"]
            kinds.setdefault(kind, []).append(len(sequences))
            sequences[len(sequences)] = tuple(int(token) for token in ids[: settings.max_tokens])
            lost.append(len(ids) > settings.max_tokens)
    frame = common_frame(list(sequences.values()), lost)
    return Encoded(sequences, kinds, frame, sum(lost))


def pairings(encoded: Encoded, seed: int) -> dict[str, list[Pair]]:
    """The pairs of each contrast; the reasoning prompt comes first. Raises InputError for fewer than 2 pairs."""
    reasoning = encoded.lengths(REASONING)
    found = {GENERAL: by_length(reasoning, encoded.lengths(GENERAL))}
    if MATCHED in encoded.kinds:
        lengths = reasoning | encoded.lengths(MATCHED)
        found[MATCHED] = by_rank(encoded.kinds[REASONING], encoded.kinds[MATCHED], lengths)
    found[SPLIT_HALF] = halves(reasoning, seed)
    for name, pairs in found.items():
        if len(pairs) < 2:
            raise InputError(f"the contrast {name} has {len(pairs)} pair(s) of prompts", "give more prompts")
    return found


def contrasts(values: dict[int, NDArray[Any]], encoded: Encoded, settings: Heads) -> dict[str, Contrast]:
    """Every contrast over what was read; `values` by prompt has the shape (tokens, heads)."""
    return {
        name: contrast(
            values, pairs, encoded.frame,
            bins=settings.bins, permutations=settings.permutations, seed=settings.seed,
        )
        for name, pairs in pairings(encoded, settings.seed).items()
    }  # fmt: skip


def head_rows(layers: Sequence[HeadLayer], found: dict[str, Contrast], norms: Sequence[float] | None) -> list[Row]:
    """One row per head, the largest distance first; equal ones by layer and head."""
    heads = [(layer, head) for layer in layers for head in range(layer.heads)]
    main, matched = found[GENERAL], found.get(MATCHED)
    rows = []
    for i, (layer, head) in enumerate(heads):
        values = (layer.layer, head, main.tv[i], main.mean_first[i], main.mean_second[i])
        row: Row = dict(zip(COLUMNS, (*values[:2], *map(float, values[2:])), strict=True))
        row |= {"kv_head_idx": layer.kv_head(head), "o_proj_norm": norms[i] if norms else None}
        row["mean_activation_matched"] = float(matched.mean_second[i]) if matched else None
        for name, result in found.items():
            row |= {f"{field}_{name}": float(getattr(result, field)[i]) for field in _FIELDS}
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["tv_distance"], row["layer_idx"], row["head_idx"]))


_FIELDS = ("tv", "crossfit", "stderr", "null_mean", "null_q95", "p", "q", "p_family")


def difference_rows(heads: Sequence[Head], found: Contrast) -> list[Row]:
    """Every pair's difference of histograms by head, pairs × bins in one list: what comparisons of models need."""
    return [
        {"layer_idx": head.layer, "head_idx": head.head, "pairs": len(found.differences), "differences": values}
        for head, values in zip(heads, _flat(found), strict=True)
    ]


def _flat(found: Contrast) -> list[list[float]]:
    flat: list[list[float]] = found.differences.swapaxes(0, 1).reshape(found.differences.shape[1], -1).tolist()
    return flat


def null_rows(found: dict[str, Contrast]) -> list[Row]:
    """How often relabelled distances fell where, over all heads."""
    return [
        {"contrast": name, "tv_from": i / NULL_BINS, "tv_to": (i + 1) / NULL_BINS, "count": int(count)}
        for name, result in found.items()
        for i, count in enumerate(result.null_counts)
        if count
    ]


def summarize(
    rows: Sequence[Row], found: dict[str, Contrast], encoded: Encoded, sets: dict[str, PromptSet], settings: Heads
) -> dict[str, Any]:
    """Metrics of a cell. `heads_above_null_*` count heads with q at most the study's rate."""
    metrics: dict[str, Any] = {
        "heads": len(rows),
        "prompts": len(encoded.sequences),
        "prompts_cut": encoded.cut,
        "prompt_tokens": sum(map(len, encoded.sequences.values())),
        "shared_tokens_before": encoded.frame.before,
        "shared_tokens_after": encoded.frame.after,
        "tv_depth_spearman": spearman([row["layer_idx"] for row in rows], [row["tv_distance"] for row in rows]),
        "tv_crossfit_spearman": spearman(
            [row["tv_distance"] for row in rows], [row["crossfit_general"] for row in rows]
        ),
    }
    for name, pairs in pairings(encoded, settings.seed).items():
        result = found[name]
        above = int((result.q <= settings.fdr).sum())
        metrics |= {
            f"pairs_{name}": len(pairs),
            f"compared_tokens_{name}": 2 * sum(pair.tokens for pair in pairs),
            f"heads_above_null_{name}": above,
            f"heads_above_null_{name}_share": above / len(rows),
            f"heads_p_family_{name}": int((result.p_family <= settings.fdr).sum()),
            f"tv_max_{name}": float(result.tv.max()),
            f"tv_mean_{name}": float(result.tv.mean()),
            f"null_tv_mean_{name}": float(result.null_mean.mean()),
            f"p_floor_{name}": result.p_floor,
        }
        if name != SPLIT_HALF:
            metrics[f"vocabulary_cosine_{name}"] = vocabulary_cosine(sets[REASONING].texts, sets[name].texts)
            metrics[f"tokens_uncut_ratio_{name}"] = _ratio(encoded, name)
    metrics["top_heads"] = [_label(row) for row in rows[:_SHOWN]]
    metrics["bottom_heads"] = [_label(row) for row in rows[::-1][:_SHOWN]]
    return metrics


def _ratio(encoded: Encoded, name: str) -> float:
    """Mean own tokens of the reasoning prompts over those of the other kind, before pairs are cut."""
    one, two = encoded.lengths(REASONING), encoded.lengths(name)
    return (sum(one.values()) / len(one)) / (sum(two.values()) / len(two))


def _label(row: Row) -> str:
    return f"L{row['layer_idx']}H{row['head_idx']}"
