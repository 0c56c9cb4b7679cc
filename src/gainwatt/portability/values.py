"""What is read from the records of one machine: for each cell its values, and their ratio to the machine's baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.stats import Spread, spread
from gainwatt.profiling.ratios import QUANTITIES, RatioOf, paired
from gainwatt.record import Record
from gainwatt.schemes import SCHEMES
from gainwatt.tables.results import read_sidecar

Row = dict[str, Any]
UNITS = {
    "latency": "s", "throughput": "tokens/s", "gross_j_per_token": "J/token", "net_j_per_token": "J/token",
    "power": "W", "rollout": "s", "update": "s", "step": "s", "gross_j_per_rollout": "J", "net_j_per_rollout": "J",
    "gross_j_per_step": "J", "net_j_per_step": "J", "accuracy": "share of items",
}  # fmt: skip
_TRAINING: dict[str, Callable[[Row], float | None]] = {
    "rollout": lambda row: row["rollout_s"],
    "update": lambda row: row["update_s"],
    "step": lambda row: row["step_s"],
    "gross_j_per_rollout": lambda row: _each(row["gross_j_rollout"], row["completions"]),
    "net_j_per_rollout": lambda row: _each(row["net_j_rollout"], row["completions"]),
    "gross_j_per_step": lambda row: row["gross_j_step"],
    "net_j_per_step": lambda row: row["net_j_step"],
}
_FREE = {"steps", "warmup_steps", "seed"}
"""Keys of the section train_profile that change how much is measured, and not what."""


@dataclass
class Entry:
    """One quantity of one cell on one machine. `found` describes its values; `ratio` is to the machine's baseline."""

    stage: str
    workload: str
    arm: str
    quantity: str
    baseline: str
    found: Spread | None = None
    ratio: RatioOf | None = None
    below: float | None = None
    status: str = "ok"
    note: str = ""
    boundary: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the same cell of another machine shares."""
        return (self.stage, self.workload, self.arm, self.quantity)

    @property
    def energy(self) -> bool:
        """Whether it depends on what the meter saw."""
        return "_j_" in self.quantity or self.quantity == "power"


@dataclass
class Read:
    """Entries of one machine, and per stage the definitions that must agree between machines."""

    entries: list[Entry] = field(default_factory=list)
    definitions: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Stage -> what must agree -> the values that were found."""


def read_inference(records: Sequence[Record]) -> Read:
    """Records of profile_inference: every cell against the baseline of its own record, window by window."""
    read = Read()
    for record in records:
        cells = record["metrics"].get("cells") or []
        baselines = {_load(cell): cell for cell in cells if cell["baseline"]}
        for cell in cells:
            if not cell["baseline"]:
                read.entries += _inference(record, cell, baselines[_load(cell)])
        first = next((cell for cell in cells if cell["baseline"]), None)
        if first is not None:
            base = record["inputs"].get(f"checkpoint of {first['scheme']}", {}).get("sha256", "not named")
            # The labels of the arms name a mode or attention implementation only where it is not the baseline's.
            told = {"baseline": record["cell"]["baseline"], "mode": first["mode"], "attention": first["attention"]}
            told["model.dtype"] = str(record["settings"].get("model.dtype"))
            _define(read, "profile_inference", {**told, "model (SHA-256)": base})
    return read


def _inference(record: Record, cell: Row, baseline: Row) -> list[Entry]:
    entries = []
    for quantity, of in QUANTITIES.items():
        entry = Entry("profile_inference", _load(cell), f"{record['cell']['variant']}.{cell['arm']}", quantity,
                      baseline["arm"], boundary=_boundary(record))  # fmt: skip
        entries.append(entry)
        if cell["status"] != "ok" or baseline["status"] != "ok":
            entry.status = cell["status"] if cell["status"] != "ok" else baseline["status"]
            entry.note = str((cell if cell["status"] != "ok" else baseline)["reason"] or "")
            continue
        values = [value for value in map(of, cell["windows"]) if value is not None]
        entry.found, entry.ratio = spread(values), paired(cell, baseline, quantity)
        entry.below = spread([value for value in map(of, baseline["windows"]) if value is not None]).mean
        entry.note = entry.ratio.reason or ""
    return entries


def _load(cell: Row) -> str:
    return f"batch {cell['batch']}, {cell['prompt_tokens']} + {cell['new_tokens']} tokens"


def read_training(records: Sequence[Record], baseline: str) -> Read:
    """Records of profile_training: each type of the base against `baseline`, step by step on the same prompts."""
    read = Read()
    by_scheme = {str(record["cell"]["scheme"]): record for record in records}
    below = _steps(by_scheme[baseline]) if baseline in by_scheme else {}
    for scheme, record in by_scheme.items():
        _define(read, "profile_training", _training_definition(record))
        for quantity, of in _TRAINING.items() if scheme != baseline else ():
            entry = Entry("profile_training", _rollouts(record), scheme, quantity, baseline, boundary=_boundary(record))
            read.entries.append(entry)
            if record["status"] != "ok":
                entry.status, entry.note = record["status"], str(record["reason"])
                continue
            above = _steps(record)
            entry.found = spread([value for value in map(of, above.values()) if value is not None])
            pairs = [(of(above[n]), of(below[n])) for n in sorted(above.keys() & below.keys())]
            entry.below = spread([b for _, b in pairs if b is not None]).mean
            entry.ratio = _ratio(pairs, _why(record, below, baseline))
            entry.note = entry.ratio.reason or ""
    return read


def _rollouts(record: Record) -> str:
    train = record["settings"]["train"]
    return f"{train['num_generations']} rollouts a prompt, at most {train['max_completion_tokens']} tokens"


def _steps(record: Record) -> dict[int, Row]:
    if "steps" not in record["outputs"]:
        return {}
    columns = read_sidecar(record, "steps")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {row["step"]: row for row in rows if row["status"] == "ok" and not row["warmup"]}


def _training_definition(record: Record) -> dict[str, str]:
    section = {name: value for name, value in record["settings"]["train_profile"].items() if name not in _FREE}
    return {
        "model (SHA-256)": record["inputs"]["base"]["sha256"],
        "data (SHA-256)": record["inputs"]["data"]["sha256"],
        "train": json.dumps(record["settings"]["train"], sort_keys=True),
        "train_profile": json.dumps(section, sort_keys=True),
        "long-tail threshold": str(record["metrics"].get("long_tail_threshold_tokens")),
    }


def read_evaluation(records: Sequence[Record], baseline: str) -> Read:
    """Records of evaluate_gsm8k, the base model's alone: accuracy on the same items, tokens per second, joules."""
    read = Read()
    base = {str(r["cell"]["scheme"]): r for r in records if r["cell"].get("variant") == "base" and r["status"] == "ok"}
    below = base.get(baseline)
    for scheme, record in base.items():
        _define(
            read, "evaluate_gsm8k",
            {
                "data (SHA-256)": record["inputs"]["data"]["sha256"], "engine": str(record["cell"].get("engine")),
                "model (SHA-256)": _model(record["inputs"]["checkpoint"]),
                "evaluate": json.dumps(record["settings"].get("evaluate"), sort_keys=True),
            },
        )  # fmt: skip
        if scheme == baseline:
            continue
        workload = f"{record['metrics']['num_examples']} items"
        for quantity, of in _EVALUATION.items():
            entry = Entry("evaluate_gsm8k", workload, f"base.{scheme}", quantity, baseline, boundary=_boundary(record))
            value = of(record)
            entry.found, entry.below = spread([] if value is None else [value]), None if below is None else of(below)
            reason = "one run each: no interval"
            if below is None:
                reason = f"no {baseline} baseline on this machine"
            elif value is None or not entry.below:
                reason = _no_joules(record) if entry.energy else "not measured"
            estimate = value / entry.below if value is not None and entry.below else None
            entry.ratio = RatioOf(estimate, None, None, 1 if estimate is not None else 0, reason)
            if quantity == "accuracy" and below is not None:
                entry.ratio = _accuracy_ratio(record, below)
            entry.note = entry.ratio.reason or ""
            read.entries.append(entry)
    return read


def _model(checkpoint: Row) -> str:
    """The unquantized checkpoint that an evaluated one is or was made of."""
    return str(checkpoint.get("parent_sha256") or checkpoint["sha256"])


def _accuracy_ratio(record: Record, below: Record) -> RatioOf:
    """Right answers over right answers on the same items, which are resampled together."""
    from gainwatt.stats.ratio import bootstrap_ratio

    columns = [read_sidecar(one, "items", ["index", "correct"]) for one in (record, below)]
    right = [dict(zip(c["index"], c["correct"], strict=True)) for c in columns]
    both = sorted(right[0].keys() & right[1].keys())
    found = bootstrap_ratio([float(right[0][i]) for i in both], [float(right[1][i]) for i in both])
    return RatioOf(found.estimate, found.low, found.high, len(both), found.reason)


def _j_per_token(kind: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        totals = record["energy"].get("phase_totals") or ()
        joules = next((total.get(kind) for total in totals if total["path"] == "generate"), None)
        tokens = record["metrics"].get("generated_tokens")
        return joules / tokens if joules is not None and tokens else None

    return of


_EVALUATION: dict[str, Callable[[Record], float | None]] = {
    "accuracy": lambda record: record["metrics"].get("accuracy"),
    "throughput": lambda record: record["metrics"].get("throughput_tok_s"),
    "gross_j_per_token": _j_per_token("gross_j"),
    "net_j_per_token": _j_per_token("net_j"),
}


def unquantized(records: Sequence[Record]) -> list[str]:
    """Unquantized schemes among the cells of records, in the order of their appearance."""
    names = dict.fromkeys(str(record["cell"].get("scheme")) for record in records)
    return [name for name in names if name in SCHEMES and SCHEMES[name].dense]


def _ratio(pairs: Sequence[tuple[float | None, float | None]], why: str) -> RatioOf:
    """Geometric mean of the pairs' ratios, with Student's interval on the logarithms."""
    logs = [math.log(a / b) for a, b in pairs if a is not None and b is not None and a > 0 and b > 0]
    if not logs or len(logs) < len(pairs):
        return RatioOf(None, None, None, 0, why)
    found = spread(logs)
    ends = [None if value is None else math.exp(value) for value in (found.mean, found.low, found.high)]
    return RatioOf(ends[0], ends[1], ends[2], found.n, None if found.n > 1 else "one pair of steps has no interval")


def _why(record: Record, below: dict[int, Row], baseline: str) -> str:
    if not below:
        return f"no {baseline} baseline on this machine"
    return str(record["null_reasons"].get("gross_j_per_step") or "a step has no value")


def _no_joules(record: Record) -> str:
    return str((record["energy"].get("null_reasons") or {}).get("gross_j") or "no joules of the generation")


def _each(joules: float | None, count: int) -> float | None:
    return None if joules is None or not count else joules / count


def _boundary(record: Record) -> str:
    return "+".join(record["energy"].get("boundary") or ()) or "none"


def _define(read: Read, stage: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        values_of = read.definitions.setdefault(stage, {}).setdefault(name, [])
        if value not in values_of:
            values_of.append(value)
