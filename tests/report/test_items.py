"""What stands behind the page of items."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from factories import study_content, write_all_records, write_study, write_table
from gainwatt.report import items
from gainwatt.report.material import Material
from gainwatt.study import Cell, Layout, load_study


@pytest.fixture
def material(tmp_path):
    study = load_study(write_study(tmp_path, study_content(tmp_path, train={"seeds": [0, 1]})))
    write_all_records(study, n=12)
    return lambda: Material.read(study, Layout.of(study), "study.yaml")


def test_the_pairs_that_matter(study):
    groups = dict(items.pair_groups(study))
    assert groups["What GRPO changed"] == [
        (Cell("base", "fp32"), Cell("grpo-s0", "fp32")), (Cell("base", "bnb-nf4"), Cell("grpo-s0", "bnb-nf4")),
    ]  # fmt: skip
    assert groups["What quantization changed"][0] == (Cell("base", "fp32"), Cell("base", "bnb-nf4"))
    assert groups["From the base to the trained and quantized model"] == [
        (Cell("base", "fp32"), Cell("grpo-s0", "bnb-nf4"))
    ]


def test_items_are_in_one_order_whatever_the_file_has(material):
    before = items.read_items(material())
    record = material().records["evaluate_gsm8k"][0]
    from pathlib import Path

    from gainwatt.tables.results import read_sidecar

    columns = read_sidecar(record, "items")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)][::-1]
    entry = write_table(Path(record["path"]).with_suffix(".items.parquet"), rows)
    plain = json.loads(Path(record["path"]).read_text("utf-8"))
    plain["outputs"]["items"] = entry
    Path(record["path"]).write_text(json.dumps(plain), "utf-8")
    after = items.read_items(material())
    assert after.questions == before.questions
    assert {cell: found.correct for cell, found in after.answers.items()} == {
        cell: found.correct for cell, found in before.answers.items()
    }


def test_cells_that_cannot_be_shown_say_why(material):
    found = material()
    names = {(r["cell"]["variant"], r["cell"]["scheme"]): r for r in found.records["evaluate_gsm8k"]}
    names["base", "bnb-nf4"] |= {"status": "oom", "reason": "too large"}
    names["grpo-s0", "fp32"]["outputs"] = {}
    names["grpo-s1", "fp32"]["outputs"]["items"]["sha256"] = "0" * 64
    found.records["evaluate_gsm8k"].remove(names["grpo-s1", "bnb-nf4"])
    why = dict(items.read_items(found).left_out)
    assert why["base.bnb-nf4"] == "oom: too large"
    assert "names no items file" in why["grpo-s0.fp32"]
    assert "is not the file that" in why["grpo-s1.fp32"]
    assert why["grpo-s1.bnb-nf4"] == "it has not been measured yet"


def test_other_questions_are_not_paired(material):
    from pathlib import Path

    from gainwatt.tables.results import read_sidecar

    found = material()
    record = found.records["evaluate_gsm8k"][-1]
    columns = read_sidecar(record, "items")
    columns["prompt_sha256"] = ["0" * 64] * 12
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    record["outputs"]["items"] = write_table(Path(record["path"]).with_suffix(".items.parquet"), rows)
    data = items.read_items(found)
    assert len(data.answers) == 5
    assert data.left_out[0][1] == "it was asked other questions than the cells before it"


def answers(text, n=10):
    return items.Answers(Cell("base", "fp32"), "f", "1" * n, {"text": [text] * n, "answer": ["1"] * n})


def test_small_answers_are_plain_and_large_ones_compressed():
    (small, large), cut = items.embedded([answers("a<b"), answers("long </script> " * 1000)])
    assert cut is None
    assert small[0] == "json"
    assert "<" not in small[1]
    assert json.loads(small[1])["text"][0] == "a<b"
    assert large[0] == "gzip"
    assert json.loads(gzip.decompress(base64.b64decode(large[1])))["text"][0].startswith("long </script>")


def test_answers_are_cut_until_they_fit_and_their_end_stays():
    import random

    noise = random.Random(0)
    text = "".join(noise.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(20_000)) + "#### 7"
    blocks, cut = items.embedded([answers(text)], limit=2_000)
    assert cut == 1000 or cut < 1000
    raw = blocks[0][1] if blocks[0][0] == "json" else gzip.decompress(base64.b64decode(blocks[0][1]))
    shown = json.loads(raw)["text"][0]
    assert shown.endswith("#### 7")
    assert "characters left out" in shown
    assert len(shown) < cut + 60
