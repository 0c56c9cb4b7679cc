"""Options and fixtures of the whole suite: real GSM8K by option, a tiny checkpoint, study files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from factories import QUESTIONS, study_content, write_study
from gainwatt.checkpoint import Checkpoint, read_manifest, write_manifest
from gainwatt.study import Study, load_study

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--lm-eval-python", metavar="FILE", help="a python with lm-eval, e.g. .envs/lm-eval/bin/python")
    parser.addoption("--gsm8k-dir", metavar="DIR", help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.addoption("--qwen-dir", metavar="DIR", help="folder with the weights of Qwen2.5-1.5B-Instruct")
    parser.addoption("--autoawq-python", metavar="FILE", help="interpreter with AutoAWQ (for -m autoawq)")
    parser.addoption("--llamacpp-python", metavar="FILE", help="interpreter with llama.cpp (for -m llamacpp)")
    parser.addoption(
        "--vllm-python", metavar="FILE", help="interpreter with vLLM, e.g. .envs/vllm-cpu/bin/python (for -m vllm)"
    )


@pytest.fixture(scope="session")
def lm_eval_python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has lm-eval; skipped without the option."""
    found = request.config.getoption("--lm-eval-python")
    if not found:
        pytest.skip("needs --lm-eval-python, see `make test-lm-eval`")
    return str(found)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Qwen2 model and a tokenizer with chat template, saved with its manifest. Do not change it."""
    from gainwatt.embedded.model import build_model
    from gainwatt.embedded.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "dense"
    tokenizer = train_tokenizer(QUESTIONS, 400)
    model = build_model(
        tokenizer, hidden_size=128, intermediate_size=256, layers=2, heads=4, kv_heads=2, max_tokens=2048, seed=0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_manifest(folder / "manifest.json", variant="base", scheme="dense")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_folder: Path) -> Checkpoint:
    return read_manifest(tiny_folder / "manifest.json")


@pytest.fixture
def study_file(tmp_path: Path, tiny_folder: Path):
    """Call with changed sections to write a study of the tiny model under tmp_path; returns the file's path."""

    def write(**sections: object) -> Path:
        return write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, **sections})

    return write


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study without any file behind it: embedded data and model."""
    return load_study(write_study(tmp_path, study_content(tmp_path)))
