"""A real server of llama.cpp on the tiny model, where it is installed.

pytest -m llamacpp --llamacpp-python FILE tests/serving/test_server_llamacpp.py
"""

from __future__ import annotations

import shutil

import pytest

from factories import QUESTIONS
from gainwatt.engines.base import Request
from gainwatt.engines.endpoint import EndpointEngine
from gainwatt.engines.transformers import TransformersEngine
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.serving.adapters.base import has_package
from gainwatt.serving.server import ServerSpec, serve

pytestmark = pytest.mark.llamacpp


def test_its_answers_are_those_of_the_engine_in_the_process(request, tiny_folder, tiny_checkpoint, tmp_path):
    python = request.config.getoption("--llamacpp-python")
    if python is None:
        pytest.skip("needs --llamacpp-python FILE, an interpreter with llama.cpp")
    if shutil.which("llama-server") is None and not has_package(python, "starlette_context"):
        pytest.skip("neither llama-server nor the server of llama-cpp-python is installed")
    spec = ServerSpec(
        tiny_folder, "fp32", "llamacpp", api_key="sesame", max_model_len=512, max_num_seqs=2, python=python
    )
    tokenizer = load_tokenizer(tiny_folder)
    requests = [Request(i, tuple(tokenizer(text)["input_ids"])) for i, text in enumerate(QUESTIONS[:8])]
    own = TransformersEngine(
        load_model(tiny_checkpoint, get_scheme("fp32"), "fp32"), tokenizer, batch_size=4, max_new_tokens=2,
        repetition_penalty=1.0,
    )  # fmt: skip
    with serve(spec, log=tmp_path / "log", ready_s=120) as server:
        engine = EndpointEngine(
            server.base_url, server.model, tokenizer, concurrency=2, max_new_tokens=2, headers=server.headers,
            facts=lambda: server.facts,
        )  # fmt: skip
        engine.warm_up(requests)
        left, right = ({x.index: x for batch in e.generate(requests) for x in batch} for e in (own, engine))
        memory = server.facts["memory_mib"]
    # Two tokens: llama.cpp keeps keys and values in 16 bits, and an untrained model is undecided at many a token.
    assert sum((left[i].text, left[i].tokens) == (right[i].text, right[i].tokens) for i in left) >= 7
    assert all(memory[part] > 0 for part in ("weights", "kv_cache", "activations", "reserved"))
    assert server.stopped["clean"]
    assert "sesame" not in (tmp_path / "log").read_text("utf-8")
