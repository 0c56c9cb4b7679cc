"""A small task of one's own in HellaSwag's format, made of a study's questions; it needs no hub."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

from gainwatt.atomic import write_text
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import Item

NAME = "question_endings"
_YAML = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {data}
output_type: multiple_choice
validation_split: validation
test_split: null
doc_to_text: "{{{{ctx}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "endings"
target_delimiter: "\\n"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def write_example(folder: Path, items: Sequence[Item], *, seed: int = 0) -> Path:
    """Write `question_endings.yaml` and `validation.jsonl` to `folder`; returns the yaml.

    Each question gets four endings: its solution, and three in which the last result and the answer are off by 1 to 9.
    The rows have the columns of HellaSwag, so that its own task reads them too. Raises InputError where no item has a
    whole number as its answer.
    """
    rng = random.Random(seed)  # noqa: S311 - endings, not secrets
    rows = [_row(item, rng) for item in items if re.fullmatch(r"\d+", item.gold)]
    if not rows:
        raise InputError("no question has a whole number as its answer", "give questions in GSM8K's format")
    data = folder / "validation.jsonl"
    write_text(data, "".join(json.dumps(row) + "\n" for row in rows))
    yaml = folder / f"{NAME}.yaml"
    write_text(yaml, _YAML.format(name=NAME, data=json.dumps(str(data.resolve()))))
    return yaml


def _row(item: Item, rng: random.Random) -> dict[str, object]:
    gold = int(item.gold)
    others = [gold + step for step in range(-9, 10) if step and gold + step >= 0]
    answers = [gold, *rng.sample(others, 3)]
    rng.shuffle(answers)
    endings = [_ending(item, answer) for answer in answers]
    return {
        "ind": item.index, "activity_label": "Word problem", "ctx_a": item.question, "ctx_b": "", "ctx": item.question,
        "endings": endings, "label": str(answers.index(gold)), "source_id": str(item.index), "split": "validation",
        "split_type": "indomain",
    }  # fmt: skip


def _ending(item: Item, answer: int) -> str:
    """The solution with `answer` in its last step and behind `####`."""
    steps, _, _ = item.solution.rpartition("####")
    lines = steps.rstrip().split("\n")
    lines[-1] = re.sub(rf"(?<!\d){re.escape(item.gold)}(?!\d)", str(answer), lines[-1])
    return "\n".join([*lines, f"#### {answer}"])
