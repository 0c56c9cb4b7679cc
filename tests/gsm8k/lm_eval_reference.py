"""Run by an interpreter that has lm-eval: its two GSM8K filters and its exact match on texts from the standard input.

Reads {"texts": [...], "golds": [...]} as JSON and writes {filter: [[extract, match], ...]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lm_eval
import yaml
from lm_eval.api.metrics import exact_match_fn
from lm_eval.filters.extraction import RegexFilter


def main() -> None:
    given = json.load(sys.stdin)
    task = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text("utf-8"))
    metric = {key: task["metric_list"][0][key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    found = {}
    for entry in task["filter_list"]:
        options = {key: value for key, value in entry["filter"][0].items() if key != "function"}
        extracts = RegexFilter(**options).apply([[text] for text in given["texts"]], [{} for _ in given["texts"]])
        rows = []
        for gold, (extract,) in zip(given["golds"], extracts, strict=True):
            match = exact_match_fn(predictions=[extract], references=[gold], **metric)["exact_match"]
            rows.append([extract, bool(match)])
        found[entry["name"]] = rows
    json.dump({"version": lm_eval.__version__, "filters": found}, sys.stdout)


if __name__ == "__main__":
    main()
