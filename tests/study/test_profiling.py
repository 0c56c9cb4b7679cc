from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factories import study_content
from gainwatt.errors import InputError
from gainwatt.study import Study
from gainwatt.study.profiling_cells import Load, arms, find_group, group_names, groups, loads, section

SCHEMES = {"reference": "bf16", "schemes": ["fp16", "bnb-int8", "bnb-nf4"]}


def study_of(folder: Path, profile: dict[str, Any] | None, **sections: Any) -> Study:
    return Study.model_validate(study_content(folder, quantize=SCHEMES, profile=profile, **sections))


def labels(study: Study) -> list[list[str]]:
    return [[arm.label for arm in group.arms] for group in groups(study)]


def test_a_study_without_the_section_profiles_nothing(tmp_path: Path):
    study = study_of(tmp_path, None)
    assert group_names(study) == []
    assert study.settings("profile_inference")["profile"] is None
    with pytest.raises(InputError, match="no section profile"):
        section(study)


def test_every_scheme_meets_the_baseline(tmp_path: Path):
    study = study_of(tmp_path, {})
    assert labels(study) == [["fp16", "bf16"], ["fp16", "bnb-int8"], ["fp16", "bnb-nf4"]]
    assert group_names(study) == ["base.bf16", "base.bnb-int8", "base.bnb-nf4"]
    assert find_group(study, "base.bf16").arms[0].label == "fp16"


def test_more_arms_share_a_process(tmp_path: Path):
    study = study_of(tmp_path, {"together": 2})
    assert labels(study) == [["fp16", "bf16", "bnb-int8"], ["fp16", "bnb-nf4"]]
    assert group_names(study)[0] == "base.bf16+bnb-int8"


def test_the_baseline_alone_is_a_group(tmp_path: Path):
    study = study_of(tmp_path, {"schemes": []})
    assert group_names(study) == ["base.fp16"]


def test_modes_and_attention_change_one_at_a_time(tmp_path: Path):
    profile = {"schemes": ["bnb-nf4"], "modes": ["eager", "compile"], "attention": ["sdpa", "eager"]}
    assert [arm.label for arm in arms(study_of(tmp_path, profile))] == [
        "fp16", "bnb-nf4", "fp16~compile", "fp16~eager-attention",
    ]  # fmt: skip
    varied = study_of(tmp_path, {**profile, "varied": ["bnb-nf4"]})
    assert [(a.label, a.mode, a.attention) for a in arms(varied)][2:] == [
        ("bnb-nf4~compile", "compile", "sdpa"),
        ("bnb-nf4~eager-attention", "eager", "eager"),
    ]


def test_an_environment_of_its_own_makes_a_group_of_its_own(tmp_path: Path):
    content = study_content(
        tmp_path,
        quantize={"reference": "bf16", "schemes": ["awq-w4g128-autoawq", "bnb-nf4"]},
        profile={"together": 8},
    )
    study = Study.model_validate(content)
    assert {(group.name, group.environment) for group in groups(study)} == {
        ("base.bf16+bnb-nf4", "core"),
        ("base.awq-w4g128-autoawq", "autoawq"),
    }


def test_gguf_is_left_to_llama_cpp(tmp_path: Path):
    content = study_content(tmp_path, quantize={"reference": "bf16", "schemes": ["gguf-q4_0"]}, profile={})
    assert group_names(Study.model_validate(content)) == ["base.bf16"]
    content["profile"] = {"schemes": ["gguf-q4_0"]}
    with pytest.raises(ValidationError, match="does not read gguf-q4_0"):
        Study.model_validate(content)


def test_loads_are_every_combination(tmp_path: Path):
    study = study_of(tmp_path, {"batches": [4, 1], "prompt_tokens": [8, 16], "new_tokens": [2]})
    assert loads(study) == [Load(1, 8, 2), Load(4, 8, 2), Load(1, 16, 2), Load(4, 16, 2)]
    assert Load(4, 16, 2).name == "b4-p16-n2"


def test_one_more_arm_leaves_the_records_of_the_others(tmp_path: Path):
    few, more = study_of(tmp_path, {"schemes": ["bf16"]}), study_of(tmp_path, {"schemes": ["bf16", "bnb-nf4"]})
    assert few.settings_sha256("profile_inference") == more.settings_sha256("profile_inference")
    other = study_of(tmp_path, {"schemes": ["bf16"], "window_s": 6})
    assert other.settings_sha256("profile_inference") != few.settings_sha256("profile_inference")


def test_a_long_name_is_cut_and_stays_one_of_a_kind(tmp_path: Path):
    profile = {
        "together": 99, "modes": ["eager", "static", "compile", "cuda-graphs"], "attention": ["sdpa", "eager", "flash"],
        "varied": ["bnb-int8", "bnb-nf4", "bf16"],
    }  # fmt: skip
    names = group_names(study_of(tmp_path, profile))
    assert len(names) == 1
    assert len(names[0]) < 120
    profile["varied"] = ["bnb-int8", "bnb-nf4"]
    assert group_names(study_of(tmp_path, profile)) != names


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"repeats": 5}, "even number"),
        ({"baseline": "bnb-nf4"}, "quantized"),
        ({"baseline": "fp61"}, "did you mean 'fp16'"),
        ({"schemes": ["fp8"]}, "add it to quantize.schemes"),
        ({"variants": ["grpo-s9"]}, "has no 'grpo-s9'"),
        ({"schemes": ["bf16"], "varied": ["bnb-nf4"]}, "not profiled"),
        ({"batches": [1, 1]}, "names one twice"),
        ({"modes": []}, "at least 1"),
        ({"batch": [1]}, "batch"),
    ],
)
def test_what_cannot_be_is_an_error_before_any_work(tmp_path: Path, profile: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        study_of(tmp_path, profile)


def test_an_unknown_group_names_all(tmp_path: Path):
    with pytest.raises(InputError, match=r"base\.bnb-nf4"):
        find_group(study_of(tmp_path, {}), "base.nope")


def test_the_first_mode_and_attention_decide_what_is_measured(tmp_path: Path):
    def sha256(**profile: Any) -> str:
        return study_of(tmp_path, {"schemes": ["bnb-nf4"], **profile}).settings_sha256("profile_inference")

    assert sha256(modes=["static"]) != sha256()  # the labels of the arms say nothing of it
    assert sha256(attention=["eager"]) != sha256()
    assert sha256(modes=["eager", "static"], attention=["sdpa", "eager"]) == sha256()  # further arms, other names
