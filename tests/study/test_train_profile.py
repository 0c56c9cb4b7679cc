"""The section train_profile: what it refuses, the names of its records, and which of its keys decide a result."""

from __future__ import annotations

import pytest

from factories import study_content, write_study
from gainwatt.errors import InputError
from gainwatt.study import load_study
from gainwatt.study.branches import branch_records
from gainwatt.study.train_profile import STAGE, long_tail_threshold


def study(tmp_path, *overrides, **section):
    return load_study(write_study(tmp_path, study_content(tmp_path, train_profile=section)), overrides)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"bases": ["bnb-nf4", "bnb-nf4"]}, "names a type twice"),
        ({"bases": []}, "at least 1"),
        ({"bases": ["awq-w4g128"]}, "bnb-nf4"),
        ({"steps": 199, "warmup_steps": 2}, "at most 200"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"step": 5}, "did you mean 'steps'?"),
    ],
)
def test_mistakes_are_named(tmp_path, section, said):
    with pytest.raises(InputError) as caught:
        study(tmp_path, **section)
    assert said in str(caught.value)


def test_one_record_for_each_type_of_the_base(tmp_path):
    made = study(tmp_path, bases=["bnb-nf4", "fp16"])
    assert [name for stage, name in branch_records(made) if stage == STAGE] == ["base.bnb-nf4", "base.fp16"]
    assert not branch_records(study(tmp_path, "train_profile=null"))


def test_the_threshold_is_three_quarters_of_the_limit_unless_given(tmp_path):
    assert long_tail_threshold(study(tmp_path)) == 384
    assert long_tail_threshold(study(tmp_path, "train.max_completion_tokens=100")) == 75
    assert long_tail_threshold(study(tmp_path, long_tail_threshold_tokens=7)) == 7


@pytest.mark.parametrize(
    ("override", "decides"),
    [
        ("train_profile.bases=[fp32]", False), ("train_profile.save_steps=9", False), ("train.seeds=[5]", False),
        ("train.max_steps=7", False), ("published=powerbench", False), ("train_profile.steps=9", True),
        ("train_profile.long_tail_threshold_tokens=9", True), ("train.max_completion_tokens=99", True),
        ("train_profile.prompts=3", True),
    ],
)  # fmt: skip
def test_only_what_decides_a_result_makes_it_run_again(tmp_path, override, decides):
    before, after = study(tmp_path, steps=4), study(tmp_path, override, steps=4)
    assert (before.settings_sha256(STAGE) != after.settings_sha256(STAGE)) is decides


def test_other_stages_do_not_notice_the_section(tmp_path):
    without, with_it = study(tmp_path, "train_profile=null"), study(tmp_path, steps=4)
    for stage in ("train_grpo", "evaluate_gsm8k", "quantize", "make_tables"):
        assert without.settings_sha256(stage) == with_it.settings_sha256(stage)
