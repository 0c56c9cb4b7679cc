"""What the rules ask of a study (src/gainwatt/workflow.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from factories import ROOT, study_content, write_study
from gainwatt import workflow
from gainwatt.errors import InputError
from gainwatt.study import Layout, Study


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The choice of a study is handed on through the environment; leave the tests' own alone."""
    for name in (workflow.STUDY_VARIABLE, workflow.OVERRIDES_VARIABLE, "PYTHONPATH"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def file(tmp_path):
    return write_study(tmp_path, study_content(tmp_path))


def study_with(**sections):
    content = study_content(Path("out"), **sections)
    return Study.model_validate(content)


@pytest.mark.parametrize("value", ["cost.pue=1.5", ["cost.pue=1.5"], '["cost.pue=1.5"]'])
def test_the_choice_reaches_the_scripts(file, value):
    study = workflow.study_from_config({"study": str(file), "set": value}, ROOT)
    assert study.cost.pue == 1.5
    assert os.environ[workflow.STUDY_VARIABLE] == str(file)
    assert json.loads(os.environ[workflow.OVERRIDES_VARIABLE]) == ["cost.pue=1.5"]
    assert os.environ["PYTHONPATH"] == str(ROOT / "src")


def test_pythonpath_is_added_to_once(file, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/mine{os.pathsep}{ROOT / 'src'}")
    for _ in range(2):
        workflow.study_from_config({"study": str(file)}, ROOT)
    assert os.environ["PYTHONPATH"] == f"{ROOT / 'src'}{os.pathsep}/mine"


@pytest.mark.parametrize("value", [5, "5", {"cost": 1}, None])
def test_a_bad_override_is_named(file, value):
    with pytest.raises(InputError, match="cannot read the override"):
        workflow.study_from_config({"study": str(file), "set": value}, ROOT)


def test_an_unknown_config_key_is_named():
    with pytest.raises(InputError, match="--config has no key 'stduy'") as caught:
        workflow.study_from_config({"stduy": "x"}, ROOT)
    assert "study=FILE" in caught.value.hint


@pytest.mark.parametrize(("slurm", "given", "expected"), [("7", None, "1"), ("7", "0", "0"), (None, None, None)])
def test_jobs_of_slurm_do_not_ask_the_hub(file, monkeypatch, slurm, given, expected):
    for name, value in (("SLURM_JOB_ID", slurm), ("HF_HUB_OFFLINE", given)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    workflow.study_from_config({"study": str(file)}, ROOT)
    assert os.environ.get("HF_HUB_OFFLINE") == expected
    os.environ.pop("HF_HUB_OFFLINE", None)


@pytest.mark.parametrize(
    ("slurm", "given", "expected"),
    [
        (None, {}, None),
        ("7", {}, ""),
        ("7", {"CUDA_VISIBLE_DEVICES": "1"}, "1"),
        ("7", {"SLURM_STEP_GPUS": "1"}, None),
    ],
)
def test_a_job_of_slurm_without_gpus_sees_none(file, monkeypatch, slurm, given, expected):
    for name in ("SLURM_JOB_ID", *workflow.GIVEN_GPUS):
        monkeypatch.setenv(name, "")  # so that the test leaves none behind
        monkeypatch.delenv(name)
    for name, value in (given | ({"SLURM_JOB_ID": slurm} if slurm else {})).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    workflow.study_from_config({"study": str(file)}, ROOT)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected


def test_resources_grow_with_the_attempt():
    grow = workflow.growing(100)
    assert [grow(None, attempt=n) for n in (1, 2, 3)] == [100, 200, 300]


def test_interpreters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workflow.interpreter(study_with(), "train") == sys.executable
    vllm = study_with(resources={"train": {"environment": "vllm"}})
    assert workflow.interpreter(vllm, "train") == ".envs/vllm/bin/python"
    (tmp_path / ".envs/core/bin").mkdir(parents=True)
    (tmp_path / ".envs/core/bin/python").touch()
    assert workflow.interpreter(study_with(), "train") == ".envs/core/bin/python"
    assert workflow.interpreter(study_with(environments={"core": "/opt/python"}), "train") == "/opt/python"


def test_a_scheme_brings_its_own_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_with(resources={"quantize": {"environment": "other"}, "evaluate": {"environment": "other"}})
    assert workflow.environment_of(study, "quantize", "awq-w4g128-autoawq") == "autoawq"
    assert workflow.environment_of(study, "evaluate", "awq-w4g128-autoawq") == "autoawq"
    assert workflow.environment_of(study, "quantize", "gguf-q4_0") == "llamacpp"
    assert workflow.environment_of(study, "quantize", "bnb-nf4") == "other"
    assert workflow.environment_of(study, "quantize") == "other"
    assert workflow.interpreter(study, "quantize", "gguf-q4_0") == ".envs/llamacpp/bin/python"
    vllm = study_with(evaluate={"engine": "vllm"}, environments={"vllm": "/opt/vllm/python"})
    assert workflow.interpreter(vllm, "evaluate", "awq-w4g128-autoawq") == "/opt/vllm/python"
    assert workflow.environment_of(vllm, "evaluate", "gguf-q4_0") == "core"  # says itself that vLLM cannot load it


def test_missing_environments_are_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workflow.lacking(study_with()) is None
    quantize = {"reference": "fp32", "schemes": ["bnb-nf4", "awq-w4g128-autoawq", "gguf-q4_0"]}
    said = workflow.lacking(study_with(quantize=quantize))
    assert "make env NAME=autoawq && make env NAME=llamacpp" in said
    here = {"autoawq": "/opt/autoawq/python", "llamacpp": "/opt/llamacpp/python"}
    assert workflow.lacking(study_with(quantize=quantize, environments=here)) is None


def test_a_missing_interpreter_is_named_in_the_log(tmp_path):
    log = tmp_path / "log"
    command = workflow.with_interpreter("{params.python} -c 'print(7)' > {log} 2>&1")
    leased = f"{sys.executable} -m gainwatt.lease --gpus 0 -- "
    for python, code, text in (
        ("/no/such/python", 4, "make env NAME=autoawq"),
        (f"{leased}/no/such/python", 4, "there is no interpreter /no/such/python"),
        (sys.executable, 0, "7"),
        (f"{leased}{sys.executable}", 0, "7"),
    ):
        params = SimpleNamespace(python=python, environment="autoawq")
        done = subprocess.run(["bash", "-c", command.format(params=params, log=log)], capture_output=True, check=False)
        assert done.returncode == code
        assert text in log.read_text()


def test_a_job_leases_as_many_gpus_as_it_asks_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = (study_with(resources={"train": {"gpus": n}}) for n in (1, 2))
    assert workflow.leased(study_with(), "train") == sys.executable
    lease = f"{sys.executable} -m gainwatt.lease --gpus"
    assert workflow.leased(one, "train") == f"{lease} 1 -- {sys.executable}"
    assert workflow.leased(two, "train") == f"{lease} 2 -- {sys.executable}"
    assert workflow.leased(two, "train", gpus=1) == f"{lease} 1 -- {sys.executable}"


def test_sources(tmp_path):
    assert workflow.local_sources(study_with()) == []
    assert workflow.base_stage(study_with()) == "warm_start"
    local = study_with(data={"source": "/data"}, model={"source": "/model"})
    assert workflow.local_sources(local) == ["/data/train.jsonl", "/data/test.jsonl"]
    assert workflow.base_stage(local) == "fetch_model"


def test_records_and_fetched():
    study = study_with()
    layout = Layout.of(study)
    found = workflow.records(study, layout)
    assert len(found) == len(set(found)) == 4 + 2
    assert f"{layout.results}/records/evaluate_gsm8k/grpo-s0.bnb-nf4.json" in found
    assert [Path(p).stem for p in workflow.fetched(study, layout)] == ["train", "test", "sft", "validation"]
    local = study_with(model={"source": "/model"})
    assert workflow.fetched(local, layout)[-1].endswith("checkpoints/base/dense/manifest.json")
    texts = study_with(perplexity={"corpus": "hub:o/n", "revision": "abc"}, tasks={"names": ["hellaswag"]})
    assert [Path(p).name for p in workflow.fetched(texts, layout)[-2:]] == ["corpus.jsonl", "fetched.json"]
    pruned = study_with(heads={"prune": {"perplexity": {"corpus": "hub:o/n", "revision": "abc"}}})
    assert Path(workflow.fetched(pruned, layout)[-1]).name == "corpus.jsonl"
    own = study_with(perplexity={"corpus": "data:test"})
    assert workflow.fetched(own, layout) == workflow.fetched(study, layout)


def test_two_data_sets_of_the_hub_are_refused():
    other = {"prune": {"perplexity": {"corpus": "hub:o/other", "revision": "abc"}}}
    with pytest.raises(ValueError, match="name two data sets of the hub"):
        study_with(perplexity={"corpus": "hub:o/n", "revision": "abc"}, heads=other)


def test_environments_that_a_study_needs():
    assert workflow.environments_of(study_with()) == ["core"]
    many = study_with(
        tasks={"names": ["hellaswag"]}, resources={"train": {"environment": "vllm"}},
        quantize={"reference": "fp32", "schemes": ["awq-w4g128-autoawq"]},
    )  # fmt: skip
    assert workflow.environments_of(many) == ["core", "autoawq", "lm-eval", "vllm"]
