"""The benchmark of load clients: its judgement of made-up rounds, and its own arm against the scripted server."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from serving.mock import start_mock

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("serving_peers")
    for name in ("serving_peers", "serving_arms"):
        sys.modules.pop(name, None)


def rows(**changes: float) -> dict[str, float]:
    even = {
        "output_tok_s": 100.0, "ttft_p50_ms": 50.0, "tpot_p50_ms": 10.0, "ttft_mean_ms": 50.0, "ttft_p99_ms": 60.0,
        "tpot_mean_ms": 10.0, "tpot_p99_ms": 11.0, "cpu_ms_per_request": 1.0, "others_share": 0.0,
    }  # fmt: skip
    return even | changes


@pytest.mark.parametrize(
    ("other", "passed"),
    [
        ({}, True),
        ({"output_tok_s": 97.2, "ttft_p50_ms": 51.4, "tpot_p50_ms": 10.25, "cpu_ms_per_request": 9.0}, True),
        ({"ttft_p50_ms": 52.0}, False),
        ({"tpot_p50_ms": 9.6}, False),
        ({"output_tok_s": 96.0}, False),
        ({"cpu_ms_per_request": 0.9}, False),
    ],
)
def test_passed_means_within_three_percent_and_no_more_cpu_time(peers, other, passed):
    judged = peers.judge([{"gainwatt": rows(), "other": rows(**other)}] * 3)
    assert judged["passed"] == passed


def test_difference_is_the_median_of_the_rounds_and_all_of_them_are_kept(peers):
    rounds = [{"gainwatt": rows(output_tok_s=value), "other": rows()} for value in (101.0, 102.0, 150.0)]
    judged = peers.judge(rounds)
    assert judged["ours_against"]["other"]["output_tok_s"] == pytest.approx(0.02)
    assert judged["ours_against"]["other"]["of_each_round"]["output_tok_s"] == pytest.approx([0.01, 0.02, 0.5])
    settings = {"requests": 4, "tokens": 3, "concurrency": 2, "rounds": 3, "note": "A note."}
    truth = {"ttft_p50_ms": 50, "ttft_p99_ms": 60, "tpot_ms": 10}
    found = {"judged": judged, "settings": settings, "cores": 2, "what": "x", "truth": truth}
    text = peers.table(found)
    assert "| other | 100.0 (+2.00%) | 50.00 (+0.00%) |" in text
    assert text.endswith("A note.\n")


def test_own_arm_sends_the_prompts_and_counts_its_cpu_time(peers, tmp_path):
    arms = sys.modules["serving_arms"]
    peers.write_prompts(tmp_path / "prompts.jsonl", 9, 5, 4, 0)
    with start_mock() as server:
        load = arms.Load(f"http://127.0.0.1:{server.port}", "mock", tmp_path, tmp_path / "prompts.jsonl", 6, 2, 4)
        row = arms.ours(BENCHMARKS / "serving_peers.py").run(load, tmp_path / "run")
        seen = [each["prompt"] for each in server.log()]
    assert (row["completed"], row["output_tokens"]) == (6, 24)
    assert row["cpu_s"] > 0
    assert len(set(seen)) == 6
    assert all(prompt.startswith("Question ") for prompt in seen)


def test_an_arm_that_fails_shows_the_end_of_its_log(peers, tmp_path):
    arms = sys.modules["serving_arms"]
    peers.write_prompts(tmp_path / "prompts.jsonl", 2, 5, 4, 0)
    load = arms.Load("http://127.0.0.1:1", "mock", tmp_path, tmp_path / "prompts.jsonl", 2, 1, 4)
    broken = arms.Arm("broken", lambda *_: [sys.executable, "-c", "raise SystemExit('no server')"], lambda _: {})
    with pytest.raises(SystemExit, match="broken ended with 1:\nno server"):
        broken.run(load, tmp_path / "run")
