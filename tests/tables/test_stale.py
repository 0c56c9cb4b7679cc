"""A record of other settings is found; one that only lacks a newer setting is not refused for it."""

from __future__ import annotations

import pytest

from factories import base_record, study_content, write_all_records
from gainwatt.errors import RecordError
from gainwatt.study import Layout, Study
from gainwatt.tables.results import Results
from gainwatt.tables.stale import Freshness, Stale, refuse


def made(folder, **sections):
    return Study.model_validate(study_content(folder, **sections))


def record_of(study, stage, **changed):
    return base_record(study, stage, {"variant": "base"}, **changed) | {"path": "p.json"}


def differing(record, study):
    return [(found.setting, found.recorded, found.wanted) for found in Freshness(study).differences(record)]


def test_the_same_study_differs_in_nothing(tmp_path):
    study = made(tmp_path)
    for stage in ("evaluate_gsm8k", "train_grpo", "quantize", "diagnose_weights"):
        assert differing(record_of(study, stage), study) == []


def test_what_does_not_decide_a_stage_does_not_count(tmp_path):
    record = record_of(made(tmp_path), "evaluate_gsm8k")
    assert differing(record, made(tmp_path, train={"seeds": [0, 1, 2], "max_steps": 7})) == []


@pytest.mark.parametrize(
    ("stage", "sections", "found"),
    [
        ("evaluate_gsm8k", {"evaluate": {"batch_size": 3}}, [("evaluate.batch_size", 16, 3)]),
        ("train_grpo", {"train": {"max_steps": 3}}, [("train.max_steps", 250, 3)]),
        (
            "train_grpo",
            {"model": {"source": "embedded", "dtype": "bf16"}, "data": {"source": "embedded"}},
            [("model.dtype", "fp32", "bf16"), ("data.prompt_template",)],
        ),
    ],
)
def test_changed_settings_are_named(tmp_path, stage, sections, found):
    others = differing(record_of(made(tmp_path), stage), made(tmp_path, **sections))
    assert len(others) == len(found)
    for wanted in found:
        assert any(other[: len(wanted)] == wanted for other in others)


def test_a_section_that_came_or_went_counts(tmp_path):
    plain, lora = made(tmp_path), made(tmp_path, train={"seeds": [0], "lora": {"r": 4}})
    (found,) = differing(record_of(plain, "train_grpo"), lora)
    assert (found[0], found[1], found[2]["r"]) == ("train.lora", None, 4)
    (found,) = differing(record_of(lora, "train_grpo"), plain)
    assert (found[0], found[1]["r"], found[2]) == ("train.lora", 4, None)


def test_a_setting_newer_than_the_record_counts_only_where_it_is_not_the_default(tmp_path):
    record = record_of(made(tmp_path), "evaluate_gsm8k", inputs={"settings": {"sha256": "of an earlier version"}})
    del record["settings"]["evaluate"]["repetition_penalty"]
    assert differing(record, made(tmp_path)) == []
    changed = made(tmp_path, evaluate={"repetition_penalty": 1.1})
    assert differing(record, changed) == [("evaluate.repetition_penalty", None, 1.1)]
    record["settings"].pop("model.dtype")
    assert ("model.dtype", None, "fp32") in differing(record, made(tmp_path))


def test_a_setting_that_the_study_has_no_more_does_not_count(tmp_path):
    record = record_of(made(tmp_path), "evaluate_gsm8k", inputs={"settings": {"sha256": "of an earlier version"}})
    record["settings"]["evaluate"]["gone"] = 1
    assert differing(record, made(tmp_path)) == []


def test_refusal_names_some_and_counts_the_rest():
    refuse([])
    with pytest.raises(RecordError, match=r"9 record\(s\)") as caught:
        refuse([Stale(f"r{i}.json", "evaluate.batch_size", 8, 16) for i in range(9)])
    assert "r0.json: evaluate.batch_size was 8, and the study says 16" in caught.value.what
    assert "and 4 more" in caught.value.what
    assert "--set evaluate.batch_size=8" in caught.value.hint


def test_loading_refuses_or_remembers(tmp_path):
    write_all_records(made(tmp_path))
    other = made(tmp_path, evaluate={"max_new_tokens": 3})
    with pytest.raises(RecordError, match=r"evaluate\.max_new_tokens was 512, and the study says 3"):
        Results.load(other, Layout.of(other))
    found = Results.load(other, Layout.of(other), allow_stale=True)
    assert {stale.setting for stale in found.stale} == {"evaluate.max_new_tokens"}
    assert len(found.stale) == 4
