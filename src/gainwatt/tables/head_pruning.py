"""The pruning curve: each point against the unpruned model, and against random heads at the same share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gainwatt.heads.prune import BASELINE
from gainwatt.record import Record
from gainwatt.stats.intervals import wilson
from gainwatt.stats.multiple import holm
from gainwatt.stats.paired import paired_difference
from gainwatt.stats.ratio import Ratio, bootstrap_ratio
from gainwatt.stats.resample import bootstrap_means, percentile_interval
from gainwatt.tables.cost import energy_notes, phase_energy
from gainwatt.tables.perplexity import Blocks, blocks
from gainwatt.tables.results import Results, made_once, read_sidecar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Row = dict[str, Any]
PRUNING = "prune_heads"
_POINT = ("strategy", "percent", "draw", "n_pruned_heads", "removable_parameters")


@dataclass(frozen=True)
class Curve:
    """One record's points by name, with each point's answers (right or wrong), tokens and blocks of text."""

    points: dict[str, Row]
    correct: dict[str, NDArray[Any]]
    tokens: dict[str, list[int]]
    blocks: dict[str, Blocks]

    @property
    def baseline(self) -> str:
        """The unpruned model's point."""
        return next(name for name, row in self.points.items() if row["strategy"] == BASELINE)

    def draws(self, percent: float) -> list[str]:
        """The points of random heads at a share."""
        return [n for n, row in self.points.items() if row["strategy"] == "random" and row["percent"] == percent]


@made_once
def head_pruning(results: Results) -> list[Row]:
    """One row per variant and point; of several random draws also their mean (`draw` empty).

    `difference` is accuracy minus that of the unpruned model on the same items (paired bootstrap, exact McNemar,
    Holm over the points of the variant), `nll_minus_none` the same in nats per token over the same blocks of text;
    `*_minus_random` compares with random heads at the same share, over items and draws. Joules are those of generating
    the answers: switched-off heads are still computed, so that they change with the length of the answers only.
    """
    rows: list[Row] = []
    for name, record in results.branches.get(PRUNING, {}).items():
        variant, _, scheme = name.partition(".")
        if record["status"] != "ok":
            rows.append({"variant": variant, "scheme": scheme, "status": record["status"], "reason": record["reason"]})
            continue
        curve = _read(record)
        mine = [_row(results, record, curve, point) for point in curve.points]
        tested = [row for row in mine if row["mcnemar_p"] is not None]
        for row, adjusted in zip(tested, holm([row["mcnemar_p"] for row in tested]), strict=True):
            row["mcnemar_p_holm"] = adjusted
        for percent in sorted({row["percent"] for row in mine if row["strategy"] == "random"}):
            mine.append(_mean_of_draws(results, curve, percent, mine))
        place = {row["strategy"]: i for i, row in reversed(list(enumerate(mine)))}
        mine.sort(key=lambda row: (row["percent"], place[row["strategy"]], row["draw"] is not None, row["draw"] or 0))
        rows += [{"variant": variant, "scheme": scheme, "status": "ok"} | row | {"reason": None} for row in mine]
    return rows


def _read(record: Record) -> Curve:
    import numpy as np

    points = read_sidecar(record, "points")
    items, windows = read_sidecar(record, "items"), read_sidecar(record, "windows")
    names = points["point"]
    by_item = {name: _of(items, name) for name in names}
    return Curve(
        points={name: {key: values[i] for key, values in points.items()} for i, name in enumerate(names)},
        correct={name: np.array(columns["correct"], dtype=np.int8) for name, columns in by_item.items()},
        tokens={name: columns["tokens"] for name, columns in by_item.items()},
        blocks={name: blocks(_of(windows, name)) for name in names},
    )


def _of(columns: dict[str, list[Any]], point: str) -> dict[str, list[Any]]:
    """The rows of one point, by index."""
    places = [i for i, name in enumerate(columns["point"]) if name == point]
    places.sort(key=columns["index"].__getitem__)
    return {name: [values[i] for i in places] for name, values in columns.items()}


def _row(results: Results, record: Record, curve: Curve, name: str) -> Row:
    statistics, point, base = results.study.statistics, curve.points[name], curve.baseline
    confidence = statistics.confidence
    right = wilson(point["correct"], point["num_examples"], confidence)
    own = _nats(results, *curve.blocks[name])
    row: Row = {key: point[key] for key in _POINT}
    row |= {
        "num_examples": point["num_examples"], "correct": point["correct"], "accuracy": point["accuracy"],
        "accuracy_low": right.low, "accuracy_high": right.high, **_against_none(results, curve, name),
        "mcnemar_p_holm": None, **_against_random(results, curve, [name]),
        "perplexity": point["perplexity"], "perplexity_low": _exp(own.low), "perplexity_high": _exp(own.high),
        "nll_per_token": point["nll_per_token"],
    }  # fmt: skip
    more = _nats(results, *_difference(curve.blocks[base], curve.blocks[name])) if name != base else _NOTHING
    row |= {"nll_minus_none": more.estimate, "nll_minus_none_low": more.low, "nll_minus_none_high": more.high}
    row |= {"parse_rate": point["parse_rate"], "hit_max_new_tokens_rate": point["hit_max_new_tokens_rate"]}
    tokens = _tokens(results, curve, name)
    return row | tokens | _energy(record, point, name, tokens)


_NOTHING = Ratio(None, None, None)


def _against_none(results: Results, curve: Curve, name: str) -> Row:
    names = ("difference", "difference_low", "difference_high", "improved", "worsened", "mcnemar_p")
    if name == curve.baseline:
        return dict.fromkeys(names)
    settings = results.study.statistics
    found = paired_difference(
        curve.correct[curve.baseline], curve.correct[name],
        draws=settings.bootstrap_draws, confidence=settings.confidence, seed=settings.seed,
    )  # fmt: skip
    values = (found.estimate, found.low, found.high, found.improved, found.worsened, found.p_value)
    return dict(zip(names, values, strict=True))


def _against_random(results: Results, curve: Curve, names: Sequence[str]) -> Row:
    """One point minus the random draws at its share: accuracy over items and draws, nats over blocks of text."""
    import numpy as np

    keys = [f"{what}_minus_random{end}" for what in ("accuracy", "nll") for end in ("", "_low", "_high")]
    point = curve.points[names[0]]
    draws = curve.draws(point["percent"])
    if not draws or point["strategy"] in (BASELINE, "random"):
        return dict.fromkeys(keys)
    settings, name = results.study.statistics, names[0]
    values = np.stack([curve.correct[name] - curve.correct[draw] for draw in draws])
    drawn = bootstrap_means(values, draws=settings.bootstrap_draws, seed=settings.seed)
    interval = percentile_interval(drawn, settings.confidence)
    several = [_difference(curve.blocks[draw], curve.blocks[name]) for draw in draws]
    mean = [math.fsum(losses) / len(draws) for losses in zip(*(nll for nll, _ in several), strict=True)]
    nats = _nats(results, mean, several[0][1])
    found = (float(values.mean()), interval.low, interval.high, nats.estimate, nats.low, nats.high)
    return dict(zip(keys, found, strict=True))


def _mean_of_draws(results: Results, curve: Curve, percent: float, rows: list[Row]) -> Row:
    """The mean over random draws of a share, with the difference to the unpruned model over items and draws."""
    import numpy as np

    settings, base = results.study.statistics, curve.baseline
    names = curve.draws(percent)
    mine = [row for row in rows if row["strategy"] == "random" and row["percent"] == percent]
    mean: Row = dict.fromkeys(rows[0])
    for key in ("accuracy", "parse_rate", "hit_max_new_tokens_rate", "tokens_per_item", "gross_j_per_item"):
        known = [row[key] for row in mine if row[key] is not None]
        mean[key] = sum(known) / len(known) if len(known) == len(mine) else None
    mean |= {"strategy": "random", "percent": percent, "n_pruned_heads": mine[0]["n_pruned_heads"]}
    mean["num_examples"] = mine[0]["num_examples"]
    values = np.stack([curve.correct[name] - curve.correct[base] for name in names])
    drawn = bootstrap_means(values, draws=settings.bootstrap_draws, seed=settings.seed)
    interval = percentile_interval(drawn, settings.confidence)
    mean |= {"difference": float(values.mean()), "difference_low": interval.low, "difference_high": interval.high}
    several = [_difference(curve.blocks[base], curve.blocks[name]) for name in names]
    losses = [math.fsum(nll) / len(names) for nll in zip(*(nll for nll, _ in several), strict=True)]
    nats = _nats(results, losses, several[0][1])
    mean |= {"nll_minus_none": nats.estimate, "nll_minus_none_low": nats.low, "nll_minus_none_high": nats.high}
    known = [row["nll_per_token"] for row in mine if row["nll_per_token"] is not None]
    if len(known) == len(mine):
        mean["nll_per_token"] = sum(known) / len(known)
        mean["perplexity"] = _exp(mean["nll_per_token"])
    mean["null_reason"] = (
        f"mean of {len(mine)} draws; joules: {mine[0]['null_reason']}" if mine[0]["null_reason"] else None
    )
    return mean


def _difference(before: Blocks, after: Blocks) -> Blocks:
    return [b - a for a, b in zip(before[0], after[0], strict=True)], after[1]


def _nats(results: Results, nll: list[float], tokens: list[int]) -> Ratio:
    """Nats per token with an interval over blocks of text; nothing where a loss is no number."""
    if not all(math.isfinite(value) for value in nll):
        return _NOTHING
    if len(tokens) < 2:
        return Ratio(sum(nll) / sum(tokens), None, None, "one block")
    settings = results.study.statistics
    return bootstrap_ratio(
        nll, tokens, draws=settings.bootstrap_draws, confidence=settings.confidence, seed=settings.seed
    )


def _tokens(results: Results, curve: Curve, name: str) -> Row:
    """Mean length of the answers, with its interval, and how many tokens more than the unpruned model's."""
    settings = results.study.statistics
    options: dict[str, Any] = {
        "draws": settings.bootstrap_draws, "confidence": settings.confidence, "seed": settings.seed,
    }  # fmt: skip
    mine, base = curve.tokens[name], curve.tokens[curve.baseline]
    ones = [1] * len(mine)
    own = bootstrap_ratio(mine, ones, **options)
    more = (
        _NOTHING
        if name == curve.baseline
        else bootstrap_ratio([b - a for a, b in zip(base, mine, strict=True)], ones, **options)
    )
    return {
        "tokens_per_item": own.estimate, "tokens_per_item_low": own.low, "tokens_per_item_high": own.high,
        "tokens_minus_none": more.estimate, "tokens_minus_none_low": more.low, "tokens_minus_none_high": more.high,
    }  # fmt: skip


def _energy(record: Record, point: Row, name: str, per_item: Row) -> Row:
    """Joules of generating the answers of one point; their interval is that of the tokens, with which they go.

    Null where an earlier process, which was killed later, measured the point.
    """
    path = f"generate {name}"
    gross, net, _ = phase_energy(record, path)
    notes = energy_notes(record, path)
    if point["resumed"]:
        gross = net = None
        notes["null_reason"] = "measured before the run was interrupted"
    items, tokens = point["num_examples"], point["generated_tokens"]
    low, high = (per_item[f"tokens_per_item_{end}"] for end in ("low", "high"))
    of_token = None if gross is None or not tokens else gross / tokens
    return {
        "generate_s": point["generate_s"],
        "gross_j_per_item": None if gross is None else gross / items,
        "gross_j_per_item_low": None if of_token is None or low is None else of_token * low,
        "gross_j_per_item_high": None if of_token is None or high is None else of_token * high,
        "net_j_per_item": None if net is None else net / items,
        "gross_j_per_ktok": None if of_token is None else 1000 * of_token,
        "gross_j_per_correct": None if gross is None or not point["correct"] else gross / point["correct"],
        **notes,
    }


def _exp(value: float | None) -> float | None:
    return None if value is None or value > 700 else math.exp(value)
