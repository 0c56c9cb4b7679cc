"""The whole chain on real GSM8K items with the small model: `pytest -m gsm8k --gsm8k-dir FOLDER`.

Accuracy is near zero, and that is not what is tested: format, columns and the number of items are.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gainwatt.record import read_records

ROOT = Path(__file__).parents[1]
ITEMS = 16

pytestmark = pytest.mark.gsm8k

OVERRIDES = [
    f"data.test_limit={ITEMS}", "data.train_limit=64", "train.prompts=32", "train.seeds=[0]", "train.max_steps=2",
    "train.zero_variance_patience_steps=9", "train.max_prompt_tokens=1500", "embedded.warm_start.steps=30",
    "quantize.calibration_items=8", "quantize.awq_grid_points=3", "evaluate.max_new_tokens=24", "energy.idle_s=0",
    "evaluate.max_prompt_tokens=1500",
]  # fmt: skip


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    folder = request.config.getoption("--gsm8k-dir")
    if folder is None:
        pytest.skip("give the folder of train.jsonl and test.jsonl: --gsm8k-dir FOLDER")
    out = tmp_path_factory.mktemp("gsm8k")
    overrides = [*OVERRIDES, f"data.source={Path(folder).resolve()}", f"paths.results={out}"]
    config = ["--config", "study=config/demo.yaml", f"set={json.dumps(overrides)}"]
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", "--show-failed-logs", *config]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out / "demo"


def test_every_cell_answers_the_real_items(results):
    with (results / "tables" / "accuracy_matrix.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert rows
    for row in rows:
        assert row["status"] == "ok"
        assert int(row["num_examples"]) == ITEMS
        assert 0 <= float(row["accuracy"]) <= 1
        assert float(row["reference_nll_per_token"]) > 0
        assert int(row["reference_ppl_token_count"]) > ITEMS


def test_the_golds_are_those_of_the_data_set(results, request):
    from pyarrow import parquet

    source = Path(request.config.getoption("--gsm8k-dir")) / "test.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()[:ITEMS]]
    for record in read_records(results / "records", "evaluate_gsm8k"):
        items = parquet.read_table(Path(record["path"]).with_name(record["outputs"]["items"]["file"])).to_pydict()
        assert items["question"] == [row["question"] for row in rows]
        assert items["gold"] == [row["answer"].split("####")[1].strip() for row in rows]
        assert all(length <= 24 for length in items["tokens"])
