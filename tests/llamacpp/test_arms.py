"""From the section to the arms: names, shared settings, no layer offloaded against all of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from factories import study_content
from gainwatt.errors import InputError
from gainwatt.llamacpp.arms import arms_of, record_names
from gainwatt.study import Study, load_study
from gainwatt.study.llamacpp import LlamaCpp


def made(**fields):
    return {arm.name: arm for arm in arms_of(LlamaCpp(**fields))}


def test_no_layers_and_all_layers_are_two_things():
    arms = made(ablation_gpu_layers=(0, 11))
    assert arms["gpu"].gpu_layers is None
    assert arms["gpu-l0"].gpu_layers == 0
    assert arms["gpu-l11"].gpu_layers == 11
    assert arms["cpu"].gpu_layers == 0
    assert made(gpu_layers=0)["gpu"].gpu_layers == 0


def test_an_ablation_that_names_the_main_setting_shares_its_arm():
    arms = made(threads=4, ablation_threads=(1, 4, 8), quant_types=("q4_0", "q8_0"), ablation_prompt_batch=(512,))
    assert set(arms) == {"cpu", "gpu", "cpu-t1", "cpu-t8", "cpu-q8_0", "gpu-q8_0"}
    assert dict(arms["cpu"].compared) == {
        "backends": "cpu", "threads": "4", "prompt_batch": "512", "type": "q4_0",
    }  # fmt: skip


def test_requests_at_once_are_compared_with_one():
    arms = made(backends=("cpu",), ablation_parallel=(4,))
    assert arms["cpu"].value("parallel") == "1"
    assert (arms["cpu-p4"].parallel, arms["cpu-p4"].prompt_batch) == (4, 512)


def test_ablations_may_run_fewer_suites():
    section = LlamaCpp(ablation_threads=(1,), ablation_suites=("ar",))
    arms = {arm.name: arm for arm in arms_of(section)}
    assert arms["cpu"].suites(section) == ("sd", "ar", "ng")
    assert arms["cpu-t1"].suites(section) == ("ar",)


def test_without_the_section_there_is_no_record(tmp_path):
    assert record_names(Study.model_validate(study_content(tmp_path))) == []
    study = Study.model_validate(study_content(tmp_path, llamacpp={"backends": ["cpu"]}))
    assert record_names(study) == ["session", "cpu"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quant_types": ("q4_9",)}, "no quantization type 'q4_9'"),
        ({"arm_type": "q8_0"}, "arm_type 'q8_0' is not among quant_types"),
        ({"source": "hub:a/b"}, "a hub source needs `revision`"),
        ({"source": "x.gguf", "quant_types": ("q4_0", "q8_0")}, "one file holds one type"),
        ({"backends": ("gpu",), "ablation_threads": (1,)}, "ablation_threads needs `cpu`"),
        ({"backends": ("cpu",), "ablation_gpu_layers": (1,)}, "ablation_gpu_layers needs `gpu`"),
        ({"ablation_threads": (1, 1)}, "names a value twice"),
        ({"suites": ("sd", "other")}, "neither a built-in suite"),
        ({"suites": ("a/x.jsonl", "b/x.jsonl")}, "has no name of its own"),
        ({"ablation_suites": ("xx",)}, "ablation_suites names 'xx'"),
        ({"templates": ({"name": "a", "suite": "zz", "text": "{x}", "variables": {"x": ("1",)}},)}, "which is not run"),
        ({"templates": ({"name": "a", "suite": "sd", "text": "no", "variables": {"x": ("1",)}},)}, "does not hold {x}"),
        ({"templates": ({"name": "a", "suite": "sd", "variables": {"x": ("1",)}},)}, "either text or file"),
        ({"max_new_tokens": 1}, "greater than or equal to 2"),
        ({"ablation_parallel": (1,)}, "greater than or equal to 2"),
    ],
)
def test_mistakes_name_what_is_wrong(fields, said):
    with pytest.raises(ValidationError, match=said.replace("{", r"\{").replace("}", r"\}")):
        LlamaCpp(**fields)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("llamacpp: {source: nowhere}", "names llamacpp.source: nowhere"),
        ("llamacpp: {suites: [none.jsonl]}", "llamacpp.suites.none.jsonl: none.jsonl"),
        ("llamacpp: {source: base, source: hub}", "the key 'source' stands in line"),
        ("llamacpp: {thread: 4}", "did you mean 'threads'?"),
    ],
)
def test_a_study_with_a_mistake_is_refused_by_name(tmp_path, section, said):
    path = tmp_path / "study.yaml"
    path.write_text(f"study: x\ndata: {{source: embedded}}\nmodel: {{source: embedded}}\n{section}\n")
    with pytest.raises(InputError) as caught:
        load_study(path)
    assert said in str(caught.value)
