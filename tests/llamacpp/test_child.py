"""A worker that dies, hangs or lacks memory is a result with a reason, and takes nothing else along."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gainwatt.llamacpp.arms import arms_of
from gainwatt.llamacpp.child import ArmError, Child, spec_of, usable_threads
from gainwatt.llamacpp.suites import Prompt
from gainwatt.study.llamacpp import LlamaCpp

WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
SECTION = LlamaCpp(backends=("cpu", "gpu"), threads=1, suites=("sd",))
CPU, GPU = arms_of(SECTION)


def loaded(text, *, arm=CPU, reply_s=20.0):
    with Child(arm, reply_s, WORKER) as child:
        child.ask("load", **spec_of(SECTION, arm, "x.gguf", [Prompt("sd", "a", text, "manual")]))
        return child.ask("run", suite="sd", kind="generate", window_s=0.0)


def test_a_worker_answers():
    assert loaded("fine")["groups"][0]["generated_tokens"] == 128


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("DIE", "oom", "was killed during 'load'"),
        ("ABORT", "unavailable", "crashed during 'load' (signal 6): GGML_ASSERT: it broke"),
        ("ALLOC", "oom", "failed to allocate buffer"),
    ],
)
def test_a_worker_that_dies(text, status, said):
    with pytest.raises(ArmError) as caught:
        loaded(text)
    assert caught.value.status == status
    assert said in caught.value.what


def test_a_worker_that_hangs_is_stopped():
    with pytest.raises(ArmError, match=r"no answer to 'load' within 0\.5 s"):
        loaded("HANG", reply_s=0.5)


def test_a_worker_that_says_no():
    with pytest.raises(ArmError, match="no GPU"):
        loaded("fine", arm=GPU)


def test_a_worker_that_talks_nonsense():
    with pytest.raises(ArmError, match="with no JSON"), Child(CPU, 10, [sys.executable, "-c", "print('hello')"]):
        pass


def test_without_llama_cpp_the_real_worker_is_unavailable(monkeypatch):
    source = Path(__file__).parents[2] / "src"
    monkeypatch.setenv("PYTHONPATH", str(source))
    code = "import sys; sys.modules['llama_cpp'] = None; from gainwatt.llamacpp import worker; worker.main()"
    with pytest.raises(ArmError, match="llama-cpp-python cannot be used"), Child(CPU, 30, [sys.executable, "-c", code]):
        pass


def test_more_threads_than_there_are():
    section = LlamaCpp(ablation_threads=(100_000,))
    arm = next(arm for arm in arms_of(section) if arm.threads)
    with pytest.raises(ArmError, match=f"100000 threads are asked for, and this process may use {usable_threads()}"):
        spec_of(section, arm, "x", [])


def test_a_cpu_arm_does_not_see_the_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = (
        "import os, json; print(json.dumps({'gpu': os.environ.get('CUDA_VISIBLE_DEVICES'), "
        "'omp': os.environ.get('OMP_NUM_THREADS')}), flush=True); input()"
    )
    seen = []
    for arm in (CPU, GPU):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        child = Child(arm, 20, [sys.executable, "-c", code])
        monkeypatch.setattr(child, "_read", lambda doing, child=child: seen.append(child._line(doing)))
        with child:
            pass
    assert [b'"gpu": ""' in line for line in seen] == [True, False]
    assert all(b'"omp": null' in line for line in seen)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
