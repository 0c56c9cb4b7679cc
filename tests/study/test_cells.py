"""Cells of a study and where their files lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from gainwatt.errors import InputError
from gainwatt.study import (
    Cell,
    Layout,
    Study,
    check_cell,
    evaluation_cells,
    quantization_cells,
    quantized_schemes,
    schemes,
    training_seed,
    variants,
)


@pytest.fixture
def study():
    return Study.model_validate(
        {
            "study": "tiny",
            "data": {"source": "embedded"},
            "model": {"source": "embedded"},
            "train": {"seeds": [7, 3]},
            "quantize": {"reference": "bf16", "schemes": ["bnb-nf4", "fp16"]},
            "paths": {"results": "out", "scratch": "/scratch"},
        }
    )


def test_the_matrix_is_the_product_base_and_reference_first(study):
    assert variants(study) == ["base", "grpo-s7", "grpo-s3"]
    assert schemes(study) == ["bf16", "bnb-nf4", "fp16"]
    cells = evaluation_cells(study)
    assert len(cells) == len(set(cells)) == 9
    assert cells[0] == Cell("base", "bf16")
    assert cells[-1].name == "grpo-s3.fp16"


def test_only_quantized_cells_need_a_checkpoint_of_their_own(study):
    assert quantized_schemes(study) == ["bnb-nf4"]
    assert [cell.name for cell in quantization_cells(study)] == ["base.bnb-nf4", "grpo-s7.bnb-nf4", "grpo-s3.bnb-nf4"]


def test_seeds_of_variants(study):
    assert training_seed(study, "grpo-s3") == 3
    for wrong in ("base", "grpo-s30", "grpo-s"):
        with pytest.raises(InputError, match="trains no variant") as caught:
            training_seed(study, wrong)
        assert "grpo-s7, grpo-s3" in caught.value.hint


def test_cells_are_checked(study):
    assert check_cell(study, "grpo-s7", "fp16") == Cell("grpo-s7", "fp16")
    with pytest.raises(InputError, match="has no variant 'grpo-s1'"):
        check_cell(study, "grpo-s1", "fp16")
    with pytest.raises(InputError, match="has no scheme 'awq-w4g128'") as caught:
        check_cell(study, "base", "awq-w4g128")
    assert "bf16, bnb-nf4, fp16" in caught.value.hint


def test_layout(study):
    layout = Layout.of(study)
    assert layout.record("quantize", "a.b") == Path("out/tiny/records/quantize/a.b.json")
    assert layout.sidecar("quantize", "a.b", "trace") == Path("out/tiny/records/quantize/a.b.trace.parquet")
    assert layout.data("test") == Path("out/tiny/data/test.jsonl")
    assert layout.manifest("base") == Path("/scratch/tiny/checkpoints/base/dense/manifest.json")
    assert layout.manifest("base", "fp16") == layout.manifest("base", "dense")
    assert layout.manifest("base", "bnb-nf4") == Path("/scratch/tiny/checkpoints/base/bnb-nf4/manifest.json")
    assert layout.work("train_grpo", "grpo-s7") == Path("/scratch/tiny/work/train_grpo/grpo-s7")
    assert layout.tables == Path("out/tiny/tables")
    assert layout.log("s", "c").suffix == ".log"
    assert layout.benchmark("s", "c").suffix == ".tsv"


def test_without_scratch_everything_is_in_the_results_folder(study):
    alone = study.model_copy(update={"paths": study.paths.model_copy(update={"scratch": None})})
    layout = Layout.of(alone)
    assert layout.scratch == layout.results == Path("out/tiny")


def test_no_two_cells_share_a_file(study):
    layout = Layout.of(study)
    cells = evaluation_cells(study)
    assert len({layout.record("evaluate_gsm8k", cell.name) for cell in cells}) == len(cells)
    assert len({layout.manifest(cell.variant, cell.scheme) for cell in quantization_cells(study)}) == 3
