"""The accuracy matrix, what quantization changed item by item, and whether the gain survives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gainwatt.record import Record
from gainwatt.stats.intervals import wilson
from gainwatt.stats.multiple import holm
from gainwatt.stats.paired import paired_difference
from gainwatt.stats.power import ItemsNeeded, items_needed
from gainwatt.stats.survival import Survival, gain_survival
from gainwatt.study import BASE, Cell, evaluation_cells, schemes, trained_variants, variants
from gainwatt.tables.results import Results, made_once

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = dict[str, Any]

_COPIED = (
    "parse_rate", "prompt_leak_rate", "completion_chars_mean", "completion_tokens_mean", "hit_max_new_tokens_rate",
    "ended_with_eos_rate", "reference_nll_per_token", "reference_ppl", "reference_ppl_token_count",
)  # fmt: skip
_COPIED_LAST = (
    "format_compliance_rate", "accuracy_strict_match", "accuracy_flexible_extract", "branch_answer_tag_rate",
    "branch_hash_rate", "branch_phrase_rate", "branch_last_number_rate", "branch_none_rate",
    "strict_match_invalid_rate", "flexible_extract_invalid_rate",
)  # fmt: skip


@made_once
def accuracy_matrix(results: Results) -> list[Row]:
    """One row per cell; the published column order first, then interval, other scorers, parser branches, status."""
    rows = []
    for cell in evaluation_cells(results.study):
        record = results.evaluations.get(cell)
        metrics: Row = record["metrics"] if record else {}
        n, p = metrics.get("num_examples"), metrics.get("accuracy")
        interval = wilson(metrics["correct"], n, results.study.statistics.confidence) if n else None
        row: Row = {
            "variant": cell.variant,
            "precision": cell.scheme,
            "label": cell.name,
            "num_examples": n,
            "accuracy": p,
            "accuracy_stderr": (p * (1 - p) / n) ** 0.5 if n and p is not None else None,
            "correct": metrics.get("correct"),
            **{name: metrics.get(name) for name in _COPIED},
            "model": record["inputs"]["checkpoint"]["sha256"] if record and "checkpoint" in record["inputs"] else None,
            "predictions_path": record["outputs"].get("items", {}).get("file") if record else None,
            "accuracy_low": interval.low if interval else None,
            "accuracy_high": interval.high if interval else None,
            **{name: metrics.get(name) for name in _COPIED_LAST},
            **_generation(record),
            "status": record["status"] if record else "missing",
            "reason": record["reason"] if record else "not measured yet",
        }
        rows.append(row)
    return rows


def _generation(record: Record | None) -> Row:
    """Engine, its batch size at the end (a batch without enough memory was halved), and what happened on the way.

    An engine that lets requests join and leave a running batch has no batch size; its limit stands there.
    """
    settings: Row = record["settings"] if record else {}
    effective: Row = settings.get("effective", {})
    size = effective.get("batch_size_final", effective.get("batch_size"))
    return {
        "engine": record["cell"].get("engine") if record else None,
        "batch_size": effective.get("max_num_seqs") if size is None else size,
        "events": "; ".join(settings.get("events", [])) or None,
    }


@made_once
def paired_effects(results: Results) -> list[Row]:
    """What each quantized scheme changes for each variant, on the same items; p-values corrected by Holm."""
    return _with_holm([difference(results, before, after) for before, after in quantized_pairs(results)])


def quantized_pairs(results: Results) -> list[tuple[Cell, Cell]]:
    """The reference and the quantized cell of each variant and scheme, where both were measured."""
    reference, study = results.study.quantize.reference, results.study
    pairs = [(Cell(v, reference), Cell(v, scheme)) for v in variants(study) for scheme in study.quantize.schemes]
    return [pair for pair in pairs if all(cell in results.items for cell in pair)]


def gains(results: Results) -> list[Row]:
    """What GRPO changed under each scheme, one row per training seed; p-values corrected by Holm."""
    rows: list[Row] = []
    for scheme in schemes(results.study):
        for variant in trained_variants(results.study):
            pair = (Cell(BASE, scheme), Cell(variant, scheme))
            if all(cell in results.items for cell in pair):
                rows.append(difference(results, *pair))
    return _with_holm(rows)


def difference(results: Results, before: Cell, after: Cell) -> Row:
    """What changed from one measured cell to another on the same items, without correction for other comparisons."""
    settings = results.study.statistics
    found = paired_difference(
        results.correct[before],
        results.correct[after],
        draws=settings.bootstrap_draws,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    return {
        "from": before.name,
        "to": after.name,
        "n": found.n,
        "improved": found.improved,
        "worsened": found.worsened,
        "unchanged": found.n - found.improved - found.worsened,
        "difference": found.estimate,
        "difference_low": found.low,
        "difference_high": found.high,
        "mcnemar_p": found.p_value,
    }


def _with_holm(rows: list[Row]) -> list[Row]:
    for row, adjusted in zip(rows, holm([row["mcnemar_p"] for row in rows]), strict=True):
        row["mcnemar_p_holm"] = adjusted
    return rows


@made_once
def survivals(results: Results, *, each_seed: bool = True) -> list[Row]:
    """Gain survival of each scheme: all training seeds together first, then (with `each_seed`) each seed alone."""
    rows = []
    trained = trained_variants(results.study)
    for scheme in results.study.quantize.schemes:
        complete = [variant for variant in trained if _has_all(results, variant, scheme)]
        groups = [complete] if len(complete) == 1 or not each_seed else [complete, *([variant] for variant in complete)]
        for group in groups:
            if group:
                rows.append(_survival_row(results, scheme, group))
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_value_holm"] = adjusted
    return rows


def _has_all(results: Results, variant: str, scheme: str) -> bool:
    reference = results.study.quantize.reference
    wanted = (Cell(BASE, reference), Cell(BASE, scheme), Cell(variant, reference), Cell(variant, scheme))
    return all(cell in results.items for cell in wanted)


def _survival_row(results: Results, scheme: str, group: list[str]) -> Row:
    """Survival of one scheme for a group of trained variants, and how many items would settle it."""
    settings, reference = results.study.statistics, results.study.quantize.reference

    def correct(variant: str, name: str) -> NDArray[np.bool_]:
        return results.correct[Cell(variant, name)]

    import numpy as np

    scores = (
        correct(BASE, reference),
        np.stack([correct(variant, reference) for variant in group]),
        correct(BASE, scheme),
        np.stack([correct(variant, scheme) for variant in group]),
    )
    margin, confidence = settings.survival_margin, settings.confidence
    found = gain_survival(
        *scores, margin=margin, draws=settings.bootstrap_draws, confidence=confidence, seed=settings.seed
    )
    needed = items_needed(*scores, margin=margin, confidence=confidence)
    return {
        "scheme": scheme,
        "variants": "+".join(group),
        "items": found.n_items,
        "training_seeds": found.n_seeds,
        "delta_reference": found.delta_ref,
        "delta_quantized": found.delta_q,
        "gain_survival": found.survival,
        "gain_survival_low": found.low,
        "gain_survival_high": found.high,
        "stderr_items": found.item_variance**0.5,
        "stderr_training_seeds": None if found.seed_variance is None else found.seed_variance**0.5,
        "margin": margin,
        "verdict": found.verdict,
        "p_value": found.p_value,
        "p_method": found.p_method,
        "items_needed_within_margin": needed.within_margin,
        "why": found.why,
        **_gains_and_items(found, needed),
    }


def _gains_and_items(found: Survival, needed: ItemsNeeded) -> Row:
    """Intervals of the two gains, and the items that effects of the observed size need at 80 % power."""
    return {
        "delta_reference_low": found.delta_ref_interval.low,
        "delta_reference_high": found.delta_ref_interval.high,
        "delta_quantized_low": found.delta_q_interval.low,
        "delta_quantized_high": found.delta_q_interval.high,
        "items_needed_gain_paired": needed.paired,
        "items_needed_gain_unpaired": needed.unpaired,
        "items_needed_survival": needed.survival,
        "items_needed_null_reason": "; ".join(f"{name}: {why}" for name, why in needed.reasons.items()) or None,
    }


def changed_items(results: Results) -> list[Row]:
    """Every item that a quantized scheme answered better or worse than the reference."""
    rows = []
    reference = results.study.quantize.reference
    for variant in variants(results.study):
        for scheme in results.study.quantize.schemes:
            before, after = results.items.get(Cell(variant, reference)), results.items.get(Cell(variant, scheme))
            if before is None or after is None:
                continue
            for i, index in enumerate(before["index"]):
                if before["correct"][i] != after["correct"][i]:
                    rows.append(
                        {
                            "variant": variant,
                            "index": index,
                            "target_answer": before["gold"][i],
                            "reference_answer": before["answer"][i],
                            "quant_precision": scheme,
                            "quant_answer": after["answer"][i],
                            "reference_correct": before["correct"][i],
                            "quant_correct": after["correct"][i],
                            "quant_change": "improved" if after["correct"][i] else "worsened",
                            "question": before["question"][i],
                        }
                    )
    return rows
