"""Which engine evaluates what, and how long a sequence it must hold."""

from __future__ import annotations

import json

import pytest

from gainwatt.engines.start import context_tokens, engine_for, model_tokens, start_engine
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError, UnavailableError
from gainwatt.modeling import load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.study import load_study


def test_the_studys_engine_or_none(study_file):
    file = study_file(quantize={"reference": "fp32", "schemes": ["bnb-int8"]})
    assert engine_for(load_study(file), get_scheme("bnb-int8")) == "transformers"
    vllm = load_study(file, ["evaluate.engine=vllm"])
    assert engine_for(vllm, get_scheme("bf16")) == "vllm"
    with pytest.raises(UnavailableError, match="the engine vllm cannot load the scheme bnb-int8; transformers can"):
        engine_for(vllm, get_scheme("bnb-int8"))


def test_the_transformers_engine(study_file, tiny_checkpoint):
    study = load_study(study_file(evaluate={"batch_size": 3, "max_new_tokens": 5}))
    engine = start_engine(study, tiny_checkpoint, get_scheme("fp32"), load_tokenizer(tiny_checkpoint.folder))
    assert isinstance(engine, TransformersEngine)
    assert (engine.batch_size, engine.max_new_tokens) == (3, 5)


@pytest.mark.parametrize(
    ("evaluate", "tokens"),
    [
        ({"max_prompt_tokens": 100, "max_new_tokens": 50, "max_reference_tokens": 20}, 150),
        ({"max_prompt_tokens": 100, "max_new_tokens": 50, "max_reference_tokens": 60}, 161),
        ({"max_prompt_tokens": 100, "max_new_tokens": 50, "max_reference_tokens": 60, "reference_nll": False}, 150),
        ({"max_prompt_tokens": 3000}, 2048),
        ({"vllm": {"max_model_tokens": 77}}, 77),
    ],
)
def test_tokens_that_vllm_makes_room_for(study_file, tiny_folder, evaluate, tokens):
    assert model_tokens(load_study(study_file(evaluate=evaluate)), tiny_folder) == tokens


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"text_config": {"max_position_embeddings": 99}}, 99),
        ({}, None),
    ],
)
def test_context(tmp_path, config, tokens):
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert context_tokens(tmp_path) == tokens


@pytest.mark.parametrize("text", ["[]", "{", None])
def test_an_unreadable_config_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"cannot read .*config\.json"):
        context_tokens(tmp_path)
