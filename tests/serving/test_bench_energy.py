"""Joules and seconds of windows whose truth is known."""

from __future__ import annotations

import pytest

from gainwatt.serving.energy import NO_DECODE, Idle, Part, energy_numbers, idle_of, protocol, speed_numbers, steady_part
from gainwatt.serving.requests import LoadResult, RequestLog, Slo

S = 1_000_000_000
IDLE = Idle(at_rest_w=80.0, loaded_w=120.0, reason=None)


def part(seconds=10.0, tokens=1000.0, watts=500.0, **values):
    known = {"prompt_tokens": 2000.0, "firsts": 10.0, "requests": 10.0, "good": 5.0, "gross_j": watts * seconds}
    return Part(seconds=seconds, tokens=tokens, **{**known, **values})


def test_joules_per_token_request_and_good_request():
    metrics = energy_numbers([part(), part(watts=300.0)], [], IDLE).metrics
    assert metrics["gross_j"] == 8000.0
    assert metrics["power_mean_w"] == 400.0
    assert metrics["gross_j_per_token"] == 4.0
    assert metrics["net_j_per_token"] == pytest.approx((8000 - 80 * 20) / 2000)
    assert metrics["above_loaded_idle_j_per_token"] == pytest.approx((8000 - 120 * 20) / 2000)
    assert metrics["gross_j_per_request"] == 400.0
    assert metrics["gross_j_per_good_request"] == 800.0


def test_prefill_and_decode_make_up_the_whole():
    alone = Part(seconds=4.0, tokens=40.0, prompt_tokens=8000.0, firsts=40.0, requests=40.0, gross_j=1600.0)
    measured = [part()]
    metrics = energy_numbers(measured, [alone], IDLE).metrics
    assert metrics["prefill_gross_j_per_prompt_token"] == 0.2
    prefill_j, decode_j = 0.2 * 2000, metrics["decode_gross_j_per_token"] * (1000 - 10)
    assert prefill_j + decode_j == pytest.approx(5000.0)
    speeds = speed_numbers(measured, [alone]).metrics
    assert speeds["prefill_tok_s"] == 2000.0
    assert speeds["decode_tok_s"] == pytest.approx(990 / (10.0 - 2000 / 2000))


def test_a_prefill_that_took_more_than_the_whole_leaves_no_decode():
    alone = part(tokens=10.0, prompt_tokens=100.0)
    found = energy_numbers([part()], [alone], IDLE)
    assert found.metrics["decode_gross_j_per_token"] is None
    assert found.reasons["decode_gross_j_per_token"] == NO_DECODE
    assert speed_numbers([part()], [alone]).reasons["decode_tok_s"] == NO_DECODE


def test_without_joules_every_number_says_why():
    found = energy_numbers([part(gross_j=None, reason="GPU is lost")], [], Idle())
    names = [name for name in found.metrics if "_j" in name or name.endswith("_w")]
    assert all(found.metrics[name] is None and found.reasons[name] for name in names)
    assert {found.reasons[name] for name in ("gross_j", "gross_j_per_token")} == {"GPU is lost"}


def test_windows_below_idle_power_have_no_net_energy():
    found = energy_numbers([part(watts=100.0)], [], IDLE)
    assert found.metrics["net_j_per_token"] is not None
    assert found.metrics["above_loaded_idle_j_per_token"] is None
    assert "less than idle" in found.reasons["above_loaded_idle_j_per_token"]


def test_idle_power_is_the_sum_over_devices_and_null_where_one_has_none():
    devices = [{"idle_before_w": 80.0, "idle_after_w": 120.0}, {"idle_before_w": 5.0, "idle_after_w": None}]
    found = idle_of({"devices": devices, "null_reasons": {"net_j": "lost"}})
    assert (found.at_rest_w, found.loaded_w, found.reason) == (85.0, None, "lost")
    assert idle_of({"devices": [], "null_reasons": {}}).reason


def test_a_later_start_of_one_process_takes_the_rest_of_the_first():
    held = {"idle_before_w": 125.0, "idle_after_w": 128.0, "flags": ["idle_with_context"]}
    rest = {"idle_before_w": 81.0, "idle_after_w": 90.0, "flags": []}
    first = idle_of({"devices": [rest, rest]}, None)
    assert first == Idle(162.0, 180.0, None)
    assert idle_of({"devices": [rest, held]}, first.at_rest_w) == Idle(162.0, 218.0, None)
    alone = idle_of({"devices": [held]})
    assert (alone.at_rest_w, alone.loaded_w) == (None, 128.0)
    assert "never saw it at rest" in alone.reason
    part = Part(seconds=10.0, tokens=100.0, prompt_tokens=10.0, firsts=1.0, requests=1.0, gross_j=2000.0)
    found = energy_numbers([part], [], alone)
    assert found.metrics["net_j_per_token"] is None
    assert found.reasons["net_j_per_token"] == alone.reason
    assert found.metrics["above_loaded_idle_j_per_token"] == 7.2


def request(number, first_s, last_s, tokens, **values):
    """Tokens at equal distances, one a chunk."""
    step = (last_s - first_s) / (tokens - 1)
    chunks = [round((first_s + i * step) * S) for i in range(tokens)]
    known = {"scheduled_ns": 0, "sent_ns": round((first_s - 1) * S), "ended_ns": chunks[-1], "chunk_ns": chunks}
    return RequestLog(number, **known, tokens=tokens, prompt_tokens=100, status="ok", **values)


def test_the_steady_state_counts_what_lies_in_it():
    # Two clients: the second one has its first token at 2 s; the first end after the last sending is at 22.5 s.
    log = [request(0, 1.0, 11.0, 11), request(1, 2.0, 12.0, 11), request(2, 12.5, 22.5, 11), request(3, 13.5, 23.5, 11)]
    log[2].sent_ns, log[3].sent_ns = round(11.5 * S), round(12.5 * S)
    result = LoadResult(log, 0, 24 * S, 0.0, {}, {}, 4, 2, 2, None)
    spans = []

    def constant(start_s, end_s):
        spans.append((start_s, end_s))
        return {"gross_j": 300.0 * (end_s - start_s), "flags": ["short"]}

    found = steady_part(result, Slo(ttft_ms=3000.0), constant)
    assert spans == [(2.0, 22.5)]
    assert found.seconds == 20.5
    # Request 0 has 9 tokens after 2 s, 1 all but its first, 2 all 11, 3 those from 13.5 to 22.5 s.
    assert found.tokens == 9 + 10 + 11 + 10
    assert found.requests == pytest.approx(9 / 11 + 10 / 11 + 1 + 10 / 11)
    assert (found.firsts, found.prompt_tokens) == (2, 200)
    assert found.good == pytest.approx(9 / 11 + 10 / 11)
    assert found.gross_j == 300.0 * 20.5
    assert found.flags == ("short",)


def test_one_client_after_another_gives_the_true_joules_of_prefill_and_decode():
    # 4 requests, each 1 s of prefill at 500 W and 10 further tokens of 0.1 s at 200 W: 500 J and 20 J for each token.
    whole = [request(n, 2.0 * n + 1, 2.0 * n + 2, 11, finish_reason="length") for n in range(4)]
    alone = [
        RequestLog(
            n, 0, round(n * S), round((n + 1) * S), [round((n + 1) * S)], tokens=1, prompt_tokens=100, status="ok"
        )
        for n in range(4)
    ]

    def of(log, joules_between):
        return steady_part(LoadResult(log, 0, 9 * S, 0.0, {}, {}, 4, 1, 1, None), None, joules_between)

    def mixed(start_s, end_s):
        return {"gross_j": 200.0 * (end_s - start_s) + 300.0 * 3, "flags": []}  # the first prefill came before

    def prompts(start_s, end_s):
        return {"gross_j": 500.0 * (end_s - start_s), "flags": []}

    found = energy_numbers([of(whole, mixed)], [of(alone, prompts)], Idle()).metrics
    assert found["prefill_gross_j_per_prompt_token"] == pytest.approx(5.0)
    assert found["decode_gross_j_per_token"] == pytest.approx(20.0)


def test_a_run_without_a_steady_state_has_no_part():
    log = [request(0, 1.0, 2.0, 2)]
    assert steady_part(LoadResult(log, 0, 2 * S, 0.0, {}, {}, 1, 4, 1, None), None, dict) is None


def test_the_protocol_sees_tokens_and_its_gates():
    arm = protocol("measure", [part(seconds=10.0), part(seconds=2.0, tokens=100.0)], IDLE)
    passed = {gate.name: gate.passed for gate in arm.gates}
    assert passed == {"throughput": False, "power": True, "length": False, "repeats": False}
    assert arm.throughput.mean == pytest.approx((100.0 + 50.0) / 2)
