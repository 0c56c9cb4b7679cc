"""Records of scores and of a pruning curve as the scripts write them, from values that are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from factories import base_record, checkpoint_input, energy_of, no_energy, phases_of, write_table
from gainwatt.evaluation.metrics import BRANCHES
from gainwatt.heads.modules import Head
from gainwatt.heads.prune import BASELINE, count, points
from gainwatt.heads.scores import _FIELDS, COLUMNS, difference_rows, null_rows
from gainwatt.heads.tv import Contrast, histogram_differences, permute
from gainwatt.record import file_sha256, text_sha256, write_record
from gainwatt.study import Cell, Layout, Study

LAYERS, HEADS, PAIRS, ITEMS = 3, 4, 12, 40
PLACES = [Head(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
DIFFERENT = 7
"""The head that differs in the general contrast."""


def _contrast(shift: float, seed: int, pairs: int) -> Contrast:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, pairs, 20, len(PLACES)))
    first[:, :, DIFFERENT] += shift
    found = permute(histogram_differences(list(first), list(second), 6), permutations=500, seed=0)
    return Contrast(**found, mean_first=first.mean(axis=(0, 1)), mean_second=second.mean(axis=(0, 1)))


def write_scores(study: Study, cell: Cell, *, shift: float = 3.0, dw: float | None = None, **changed: Any) -> None:
    """Scores of one cell; `dw` is the relative change of every head's weights, None for a base."""
    path = Layout.of(study).record("score_heads", cell.name)
    found = {
        "general": _contrast(shift, 11, PAIRS),
        "matched": _contrast(0, 22, PAIRS),
        "split_half": _contrast(0, 33, PAIRS // 2),
    }
    rows = []
    for i, head in enumerate(PLACES):
        main = found["general"]
        values = (head.layer, head.head, float(main.tv[i]), float(main.mean_first[i]), float(main.mean_second[i]))
        row: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
        row |= {"kv_head_idx": head.head // 2, "o_proj_norm": 1.0 + i, "mean_activation_matched": 0.0}
        for name, result in found.items():
            row |= {f"{field}_{name}": float(getattr(result, field)[i]) for field in _FIELDS}
        moved = {"dw_o_norm": dw, "dw_q_norm": dw, "dw_kv_norm": dw, "dw_norm": dw, "dw_relative": dw and dw * (1 + i)}
        rows.append(row | moved)
    rows.sort(key=lambda row: (-row["tv_distance"], row["layer_idx"], row["head_idx"]))
    tables = {"heads": rows, "pairs": difference_rows(PLACES, found["general"]), "null": null_rows(found)}
    fdr = study.heads.fdr if study.heads else 0.05
    metrics: dict[str, Any] = {
        "heads": len(PLACES), "attention_layers": LAYERS, "prompts": 36, "prompt_tokens": 900, "read_s": 1.0,
        "throughput_tok_s": 900.0, "peak_rss_mib": 400.0, "tokens_uncut_ratio_general": 1.1,
        "tokens_uncut_ratio_matched": 1.0, "dw_norm_total": dw,
    }  # fmt: skip
    for name, result in found.items():
        above = int((result.q <= fdr).sum())
        metrics |= {
            f"pairs_{name}": len(result.differences), f"heads_above_null_{name}": above,
            f"heads_above_null_{name}_share": above / len(PLACES), f"heads_p_family_{name}": above,
            f"tv_max_{name}": float(result.tv.max()), f"null_tv_mean_{name}": float(result.null_mean.mean()),
            f"p_floor_{name}": result.p_floor,
        }  # fmt: skip
    outputs = {name: write_table(path.with_suffix(f".{name}.parquet"), table) for name, table in tables.items()}
    record = base_record(
        study, "score_heads", {"variant": cell.variant, "scheme": cell.scheme}, metrics=metrics, outputs=outputs,
        null_reasons={} if dw else {"dw_norm_total": "the base is what changes are measured from"}, energy=no_energy(),
    )  # fmt: skip
    record["inputs"] |= {"checkpoint": checkpoint_input(cell), "tokens": {"sha256": "t" * 64}}
    record["inputs"] |= {
        f"prompts_{kind}": {"sha256": text_sha256(kind)} for kind in ("reasoning", "general", "matched")
    }
    record["settings"]["effective"] = {"heads_by_layer": [[layer, HEADS, 2, 16] for layer in range(LAYERS)]}
    write_record(path, record | changed)


def write_pruning(study: Study, variant: str, *, resumed: tuple[str, ...] = ()) -> None:
    """A curve: each point answers a few items less, the lowest distances cost least."""
    cell = Cell(variant, study.quantize.reference)
    layout = Layout.of(study)
    path = layout.record("prune_heads", cell.name)
    tables: dict[str, list[dict[str, Any]]] = {"points": [], "items": [], "windows": []}
    cost = {BASELINE: 0.0, "tv": 0.2, "random": 0.5, "magnitude": 0.4, "tv_highest": 0.9}
    for point in points(study.heads.prune):
        off = count(point.percent, len(PLACES))
        lost = round(cost[point.strategy] * point.percent / 100 * ITEMS) + (point.draw or 0)
        correct = [i >= 10 + lost for i in range(ITEMS)]
        before = text_sha256(variant)
        tables["points"].append(
            {
                "point": point.name, "strategy": point.strategy, "percent": float(point.percent), "draw": point.draw,
                "n_pruned_heads": off, "heads": [f"L{h.layer}H{h.head}" for h in PLACES[:off]],
                "removable_parameters": 100 * off, "num_examples": ITEMS, "correct": sum(correct),
                "accuracy": sum(correct) / ITEMS, "parse_rate": 1.0, "hit_max_new_tokens_rate": 0.0,
                "generated_tokens": 10 * ITEMS, "nll_per_token": 2.0 + lost / 100,
                "perplexity": float(np.exp(2.0 + lost / 100)),
                "tokens_scored": 400, "perplexity_s": 1.0, "generate_s": 2.0, "resumed": point.name in resumed,
                "weights_sha256_before": before, "weights_sha256_after": before,
                "weights_sha256_pruned": before if not off else text_sha256(f"{variant} {point.name}"),
            }
        )  # fmt: skip
        tables["items"] += [
            {
                "point": point.name, "index": i, "correct": right, "answer": "1", "branch": BRANCHES[1], "tokens": 10,
                "finish_reason": "stop",
            }
            for i, right in enumerate(correct)
        ]  # fmt: skip
        tables["windows"] += [
            {"point": point.name, "index": i, "document": i, "tokens": 10, "nll_sum": 20.0 + lost / 10 + i % 3}
            for i in range(40)
        ]
    outputs = {name: write_table(path.with_suffix(f".{name}.parquet"), table) for name, table in tables.items()}
    phases = {f"generate {row['point']}": (2.0, 200.0, 100.0) for row in tables["points"] if not row["resumed"]}
    energy = energy_of(phases)
    metrics = {"points": len(tables["points"]), "resumed_points": len(resumed), "weights_restored": True}
    record = base_record(
        study, "prune_heads", {"variant": variant, "scheme": cell.scheme}, metrics=metrics, outputs=outputs,
        energy=energy, phases=phases_of(energy),
    )  # fmt: skip
    scores = layout.record("score_heads", cell.name)
    record["inputs"] |= {"checkpoint": checkpoint_input(cell), "scores": {"sha256": file_sha256(scores)}}
    write_record(path, record)
