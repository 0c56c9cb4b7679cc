"""Calibration text is a seeded sample of solved training items."""

from __future__ import annotations

import pytest

from factories import study_content, write_items
from gainwatt.errors import InputError
from gainwatt.gsm8k.data import read_items
from gainwatt.gsm8k.prompt import solved_chat
from gainwatt.modeling import load_tokenizer
from gainwatt.quantization.calibration import load_calibration
from gainwatt.study import Study


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture
def calibration(tmp_path, tokenizer):
    data = write_items(tmp_path / "data", train=9) / "train.jsonl"

    def load(**quantize):
        settings = {"schemes": [], "reference": "fp32", "calibration_items": 4, **quantize}
        return load_calibration(Study.model_validate(study_content(tmp_path, quantize=settings)), data, tokenizer)

    return load


def test_texts_are_solved_items_without_repeats(calibration, tokenizer, tmp_path):
    found = calibration()
    solved = {
        tuple(tokenizer(solved_chat(tokenizer, item.question, item.solution, "{question}"))["input_ids"])
        for item in read_items(tmp_path / "data" / "train.jsonl")
    }
    assert len({tuple(ids) for ids in found.token_ids}) == 4
    assert {tuple(ids) for ids in found.token_ids} <= solved
    assert found.tokens == sum(map(len, found.token_ids))


def test_the_seed_decides(calibration):
    assert calibration() == calibration()
    assert calibration().sha256 != calibration(calibration_seed=1).sha256


def test_the_limit_cuts(calibration):
    assert {len(ids) for ids in calibration(calibration_max_tokens=5).token_ids} == {5}


def test_too_few_items_are_named(calibration):
    with pytest.raises(InputError, match=r"train\.jsonl has 9 items, and quantize\.calibration_items asks for 10"):
        calibration(calibration_items=10)
