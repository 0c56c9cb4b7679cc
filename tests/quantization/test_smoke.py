"""Every engine that should read a checkpoint is tried; what it said is kept, and never left out."""

from __future__ import annotations

import json
import sys

import pytest

from factories import study_content
from gainwatt.errors import InputError
from gainwatt.quantization import smoke as module
from gainwatt.quantization.smoke import kernel_lines, smoke
from gainwatt.schemes import Loader, Scheme, get_scheme
from gainwatt.study import Study

IDS = [5, 6, 7]


@pytest.fixture
def study(tmp_path):
    def of(**sections):
        return Study.model_validate(study_content(tmp_path, **sections))

    return of


@pytest.fixture
def scheme():
    """A scheme that transformers and, in another environment, vLLM read, on a CPU too."""
    loaders = (Loader("transformers", "core"), Loader("vllm", "vllm"))
    return Scheme("two-engines", "llmcompressor", 16, loaders)


def other_python(folder, body):
    """An `interpreter` that, called as `-m MODULE TASK ANSWER`, does `body`."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport json, sys\ntask = json.load(open(sys.argv[3]))\n{body}\n")
    path.chmod(0o755)
    return str(path)


ANSWER = (
    "print('INFO Using MacheteLinearKernel for CompressedTensorsWNA16')\n"
    "json.dump({'status': 'ok', 'tokens': 2, 'token_ids': task['prompt_ids'][:2], 'kernels': {'A/B': 3},"
    " 'loaded_bytes': 8}, open(sys.argv[4], 'w'))"
)


def test_an_engine_of_another_environment_runs_in_its_interpreter(study, scheme, tiny_checkpoint, tmp_path):
    python = other_python(tmp_path, ANSWER)
    here, there = smoke(study(environments={"vllm": python}), tiny_checkpoint, scheme, IDS)
    assert (here["engine"], here["status"], here["kernels"]) == ("transformers", "ok", {"Linear[float32]": 15})
    assert here["loaded_bytes"] == here["used_bytes"]
    assert (there["engine"], there["status"], there["tokens"]) == ("vllm", "ok", 2)
    assert there["kernels"] == {"A/B": 3}
    assert there["chosen"] == ["MacheteLinearKernel for CompressedTensorsWNA16"]
    assert isinstance(there["text"], str)


def test_an_environment_that_is_not_there_is_said(study, scheme, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, there = smoke(study(), tiny_checkpoint, scheme, IDS)
    assert there["status"] == "unavailable"
    assert "make env NAME=vllm" in there["reason"]


FAILURES = ["sys.exit('ValueError: cannot load this')", "print('no answer')"]


@pytest.mark.parametrize("body", FAILURES)
def test_a_failing_engine_is_kept_where_another_worked(study, scheme, tiny_checkpoint, tmp_path, body):
    settings = study(environments={"vllm": other_python(tmp_path, body)})
    here, there = smoke(settings, tiny_checkpoint, scheme, IDS)
    assert (here["status"], there["status"]) == ("ok", "failed")
    assert there["reason"].startswith("exit code")


def test_the_engine_of_the_evaluation_must_not_fail(study, scheme, tiny_checkpoint, tmp_path):
    python = other_python(tmp_path, FAILURES[0])
    settings = study(environments={"vllm": python}, evaluate={"engine": "vllm"})
    with pytest.raises(InputError, match="does not work with vllm: exit code 1: ValueError: cannot load this"):
        smoke(settings, tiny_checkpoint, scheme, IDS)


def test_an_interpreter_that_cannot_be_started_is_a_failure(study, scheme, tiny_checkpoint):
    _, there = smoke(study(environments={"vllm": "/no/such/python"}), tiny_checkpoint, scheme, IDS)
    assert there["status"] == "failed"
    assert "/no/such/python" in there["reason"]


def test_no_engine_at_all_is_an_error(study, tiny_checkpoint, tmp_path):
    only = Scheme("one-engine", "llmcompressor", 16, (Loader("vllm", "vllm"),))
    with pytest.raises(InputError, match="does not work with vllm"):
        smoke(study(environments={"vllm": "/no/such/python"}), tiny_checkpoint, only, IDS)


def test_nothing_to_try_is_an_error_too(study, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    only = Scheme("one-engine", "llmcompressor", 16, (Loader("vllm", "vllm"),))
    with pytest.raises(InputError, match="no engine on this machine could load"):
        smoke(study(), tiny_checkpoint, only, IDS)


def test_the_task_says_type_and_length(study, scheme, tiny_checkpoint, tmp_path):
    told = tmp_path / "told.json"
    body = f"json.dump(task, open({str(told)!r}, 'w'))\n{ANSWER}"
    smoke(study(environments={"vllm": other_python(tmp_path, body)}), tiny_checkpoint, scheme, IDS)
    task = json.loads(told.read_text())
    assert task["folder"] == str(tiny_checkpoint.folder.resolve())
    assert (task["dtype"], task["tokens"], task["prompt_ids"]) == ("fp32", 8, IDS)


def test_a_gpu_that_is_too_old_or_absent_is_the_reason():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert module._unavailable(get_scheme("fp8").loader("vllm")) == "no GPU"
    assert module._unavailable(get_scheme("fp8").loader("transformers")) is None


def test_kernels_are_read_from_vllms_log():
    log = (
        "INFO 11-21 [compressed_tensors_wNa16.py:114] Using MacheteLinearKernel for CompressedTensorsWNA16\n"
        "INFO 11-21 [__init__.py:601] Selected CutlassFP8ScaledMMLinearKernel for CompressedTensorsW8A8Fp8\n"
        "INFO 11-21 Using MacheteLinearKernel for CompressedTensorsWNA16\n"
        "WARNING 11-21 [base.py:313] Using None for EOS token id because tokenizer is not initialized\n"
    )
    assert kernel_lines(log) == [
        "MacheteLinearKernel for CompressedTensorsWNA16",
        "CutlassFP8ScaledMMLinearKernel for CompressedTensorsW8A8Fp8",
    ]


@pytest.mark.vllm
def test_a_real_vllm_loads_and_generates(request, study, scheme, tiny_checkpoint):
    python = request.config.getoption("--vllm-python")
    if not python:
        pytest.skip("needs --vllm-python")
    settings = study(environments={"vllm": python}, model={"source": "embedded", "dtype": "bf16"})
    _, there = smoke(settings, tiny_checkpoint, scheme, IDS)
    assert (there["status"], there["tokens"]) == ("ok", 8), there["reason"]
    assert there["kernels"]["UnquantizedLinearMethod"] == 2 * 4
