"""The hash of a stage's settings changes with the settings that decide its result, and with nothing else."""

from __future__ import annotations

import pytest

from gainwatt.errors import InputError
from gainwatt.study import Study, hub_id, is_hub
from gainwatt.study.model import SECTIONS_OF_STAGE

STAGES = sorted(SECTIONS_OF_STAGE)
CONTENT = {
    "study": "tiny",
    "data": {"source": "embedded"},
    "model": {"source": "embedded"},
    "train": {"seeds": [0]},
    "quantize": {"schemes": ["fp16", "bnb-nf4"]},
}


def made(**sections):
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in CONTENT.items()}
    for name, value in sections.items():
        content[name] = {**content.get(name, {}), **value} if isinstance(value, dict) else value
    return Study.model_validate(content)


def hashes(study):
    return {stage: study.settings_sha256(stage) for stage in STAGES}


def changed(**sections):
    before, after = hashes(made()), hashes(made(**sections))
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize(
    "sections",
    [
        {"description": "other words"},
        {"study": "renamed"},
        {"resources": {"train": {"gpus": 1}}},
        {"energy": {"sample_hz": 20.0}},
        {"paths": {"results": "elsewhere", "scratch": "/scratch"}},
        {"environments": {"core": "/usr/bin/python3"}},
        {"train": {"learning_rate": 1e-6}},  # the default, spelled out
        {"train": {"save_steps": 5, "zero_variance_patience_steps": 3, "vllm_gpu_memory_utilization": 0.5}},
        {"embedded": {"warm_start": {"save_steps": 3}}},
        {"model": {"thinking": None}},
    ],
)
def test_what_decides_no_result_changes_no_hash(sections):
    assert changed(**sections) == set()


@pytest.mark.parametrize(
    ("sections", "stages"),
    [
        ({"train": {"learning_rate": 2e-6}}, {"train_grpo", "train_sft_control", "profile_training"}),
        ({"train": {"lora": {"r": 4}}}, {"train_grpo", "profile_training"}),
        ({"evaluate": {"max_new_tokens": 9}}, {"evaluate_gsm8k", "evaluate_endpoint", "prune_heads"}),
        ({"diagnose": {"group_size": 64}}, {"diagnose_weights"}),
        ({"statistics": {"survival_margin": 0.03}}, {"make_tables", "make_figures"}),
        ({"cost": {"pue": 1.2}}, {"make_tables", "make_figures"}),
        ({"quantize": {"calibration_seed": 7}}, {"quantize", "diagnose_weights"}),
        ({"embedded": {"warm_start": {"steps": 7}}}, {"warm_start"}),
        (
            {"data": {"prompt_template": "Q: {question}"}},
            {
                "warm_start",
                "train_grpo",
                "profile_training",
                "train_sft_control",
                "quantize",
                "evaluate_gsm8k",
                "evaluate_endpoint",
                "diagnose_weights",
                "prune_heads",
                "benchmark_serving",
            },
        ),
        (
            {"model": {"dtype": "fp32"}},
            {
                "fetch_model",
                "profile_inference",
                "warm_start",
                "train_grpo",
                "profile_training",
                "quantize",
                "evaluate_gsm8k",
                "evaluate_endpoint",
                "diagnose_weights",
                "evaluate_perplexity",
                "evaluate_tasks",
                "score_heads",
                "prune_heads",
                "benchmark_serving",
                "train_sft_control",
            },
        ),
        ({"perplexity": {"corpus": "data:test"}}, {"evaluate_perplexity"}),
        ({"tasks": {"names": ["hellaswag"]}}, {"evaluate_tasks"}),
        ({"serve": {}}, {"benchmark_serving"}),
        ({"heads": {}}, {"score_heads"}),
        ({"heads": {"prune": {}}}, {"score_heads", "prune_heads"}),
        ({"llamacpp": {}}, {"fetch_gguf", "profile_llamacpp"}),
        ({"profile": {}}, {"profile_inference"}),
    ],
)
def test_a_setting_changes_its_own_stages_only(sections, stages):
    assert changed(**sections) == stages


def test_one_more_seed_or_scheme_leaves_the_cells_that_are_there():
    assert changed(train={"seeds": [0, 1]}) == set()
    assert changed(quantize={"schemes": ["fp16", "bnb-nf4", "awq-w4g128"]}) == {"make_tables", "make_figures"}


def test_settings_are_plain_json_values():
    settings = made().settings("train_grpo")
    assert set(settings) == {"train", "model", "data.prompt_template"}
    assert "seeds" not in settings["train"]
    assert settings["train"]["num_generations"] == 8
    assert "schemes" not in made().settings("quantize")["quantize"]


def test_a_study_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        made().evaluate.batch_size = 3


def test_the_template_holds_the_question_once():
    for template in ("no place", "{question} {question}"):
        with pytest.raises(ValueError, match="exactly once"):
            made(data={"prompt_template": template})


def test_the_name_cannot_leave_the_results_folder():
    for name in ("../x", "a/b", ".hidden", "", "Upper"):
        with pytest.raises(ValueError, match="study"):
            made(study=name)


def test_hub_ids():
    assert is_hub("hub:a/b")
    assert not is_hub("embedded")
    assert hub_id("hub:openai/gsm8k") == "openai/gsm8k"
    for bad in ("hub:a", "hub:a/b/c", "hub:a/b c", "a/b"):
        with pytest.raises(InputError, match="is not a hub source"):
            hub_id(bad)


@pytest.mark.parametrize(
    ("before", "after", "stages"),
    [
        ({}, {"schemes": ["bnb-nf4"], "batch_size": 2}, set()),
        ({"prune": {}}, {"prune": {"items": 9}}, {"prune_heads"}),
        ({"prune": {}}, {"prune": {}, "bins": 9}, {"score_heads"}),
    ],
)
def test_scores_of_heads_and_their_pruning_are_apart(before, after, stages):
    old, new = (hashes(made(heads=heads)) for heads in (before, after))
    assert {stage for stage in STAGES if old[stage] != new[stage]} == stages
