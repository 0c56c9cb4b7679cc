from __future__ import annotations

import pytest

from gainwatt.embedded import model, problems, tokenizer, warm_start


@pytest.fixture(scope="session")
def rows():
    return problems.generate(split="sft", n=200, seed=0, max_repeats=None)


@pytest.fixture(scope="session")
def small_tokenizer(rows):
    return tokenizer.train_tokenizer(warm_start.texts(rows), 640)


@pytest.fixture
def make_model(small_tokenizer):
    def make(seed=0):
        return model.build_model(small_tokenizer, intermediate_size=128, layers=1, heads=2, kv_heads=1, seed=seed)

    return make
