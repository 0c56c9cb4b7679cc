"""The tiny model with its tokenizer, and requests to it."""

from __future__ import annotations

import pytest

from factories import QUESTIONS
from gainwatt.engines.base import Request
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


@pytest.fixture
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")


@pytest.fixture(scope="module")
def requests(tokenizer):
    texts = [question * (1 + i % 3) for i, question in enumerate(QUESTIONS[:7])]
    return [Request(i, tuple(tokenizer(text)["input_ids"])) for i, text in enumerate(texts)]
