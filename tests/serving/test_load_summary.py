"""Percentiles, windows, schedules and files of request logs whose numbers are known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.errors import InputError
from gainwatt.serving.percentiles import percentile, percentiles, summarise
from gainwatt.serving.request_log import RequestJournal, read_request_log, write_request_log
from gainwatt.serving.requests import LoadResult, RequestLog, Slo
from gainwatt.serving.schedule import poisson_schedule, steady_window

MS = 1_000_000
floats = st.floats(-1e6, 1e6)


def row(number: int, scheduled: float, ttft: float, gaps: list[float], *, slip: float = 0.0, **changes) -> RequestLog:
    """A request that ended well; all in ms."""
    at = [scheduled + slip + ttft]
    for gap in gaps:
        at.append(at[-1] + gap)
    chunk_ns = [round(each * MS) for each in at]
    values = {
        "sent_ns": round((scheduled + slip) * MS), "ended_ns": chunk_ns[-1] + MS, "chunk_ns": chunk_ns,
        "tokens": len(chunk_ns), "tokens_from": "usage", "prompt_tokens": 10, "finish_reason": "length",
        "status": "ok",
    }  # fmt: skip
    return RequestLog(number, round(scheduled * MS), **(values | changes))


def failed(number: int, scheduled: float, kind: str = "cut") -> RequestLog:
    return RequestLog(
        number, round(scheduled * MS), sent_ns=round(scheduled * MS), ended_ns=round(scheduled * MS) + MS,
        status="error", error_kind=kind, error="x",
    )  # fmt: skip


def result(log: list[RequestLog], *, seconds: float = 2.0, **changes) -> LoadResult:
    values = {
        "log": log, "started_ns": 0, "ended_ns": round(seconds * 1e9), "client_cpu_s": 0.5,
        "slip_ms": percentiles(each.slip_ms for each in log), "lag_ms": percentiles([]), "planned": len(log),
        "concurrency": 4, "in_flight_max": 4, "ended_early": None,
    }  # fmt: skip
    return LoadResult(**(values | changes))


@given(st.lists(floats, min_size=1), st.floats(0, 100))
def test_percentile_is_numpys(values, level):
    assert percentile(sorted(values), level) == pytest.approx(float(np.percentile(values, level)), rel=1e-9, abs=1e-6)


def test_percentiles_of_nothing_are_none():
    assert set(percentiles([None]).values()) == {None}


def test_known_latencies():
    # TTFT 1 … 100 ms from sending, 5 ms late each; two gaps of 10 ms and one of 40.
    log = [row(i, i * 10.0, i + 1.0, [10, 10, 40], slip=5.0) for i in range(100)]
    found = summarise(result(log), Slo(ttft_ms=55.0))
    assert found["ttft_p50_ms"] == pytest.approx(5 + 50.5)
    assert found["ttft_p90_ms"] == pytest.approx(5 + 90.1)
    assert found["ttft_p99_ms"] == pytest.approx(5 + 99.01)
    assert found["sent_ttft_p50_ms"] == pytest.approx(50.5)
    assert found["tpot_p50_ms"] == found["tpot_p99_ms"] == pytest.approx(20.0)
    assert found["itl_p50_ms"] == pytest.approx(10.0)
    assert found["itl_p90_ms"] == pytest.approx(40.0)
    assert found["itl_mean_ms"] == pytest.approx(20.0)
    assert found["e2e_max_ms"] == pytest.approx(5 + 100 + 60)
    assert found["slip_p99_ms"] == pytest.approx(5.0)
    assert found["output_tokens"] == 400
    assert found["output_tok_s"] == pytest.approx(200.0)
    assert found["total_tok_s"] == pytest.approx(700.0)
    assert found["requests_per_s"] == pytest.approx(50.0)
    assert (found["slo_met"], found["slo_met_share"], found["goodput_requests_per_s"]) == (50, 0.5, 25.0)
    assert found["client_cpu_ms_per_request"] == pytest.approx(5.0)
    assert found["null_reasons"].keys() == {name for name, value in found.items() if value is None} - {"ended_early"}


def test_a_failed_request_misses_the_slo_and_has_no_latency():
    found = summarise(result([row(0, 0, 5, [1]), failed(1, 0), failed(2, 0, "http_500")]), Slo(e2e_ms=100))
    assert (found["completed"], found["failed"], found["slo_met"]) == (1, 2, 1)
    assert found["slo_met_share"] == pytest.approx(1 / 3)
    assert found["errors"] == {"cut": 1, "http_500": 1}
    assert found["ttft_max_ms"] == 5


def test_slo_limits_each_latency_and_a_single_token_has_no_tpot():
    log = [row(0, 0, 5, [50]), row(1, 0, 5, [1]), row(2, 0, 5, [])]
    assert summarise(result(log), Slo(tpot_ms=10))["slo_met"] == 2
    assert summarise(result(log), Slo(e2e_ms=5.5))["slo_met"] == 1
    assert summarise(result(log[2:]))["null_reasons"]["tpot_p50_ms"] == "no answer had two tokens or more"
    assert "no service level" in summarise(result(log))["null_reasons"]["slo_met"]


def test_unknown_prompt_tokens_are_not_zero():
    found = summarise(result([row(0, 0, 5, [1]), row(1, 0, 5, [1], prompt_tokens=None)]))
    assert found["prompt_tokens"] is found["total_tok_s"] is None
    assert "did not tell" in found["null_reasons"]["total_tok_s"]


def test_an_early_end_is_a_failed_cell():
    found = summarise(result([row(0, 0, 5, [1])], ended_early="saturated", planned=9))
    assert (found["status"], found["ended_early"], found["planned"], found["requests"]) == ("failed", "saturated", 9, 1)
    assert summarise(result([]))["null_reasons"]["ttft_p50_ms"] == "no request was sent"


@given(st.floats(0.01, 1e4), st.integers(1, 300), st.integers(0, 10**6))
def test_poisson_schedule_keeps_its_rate(rate, n, seed):
    times = poisson_schedule(rate, n, seed)
    assert times == sorted(times) == poisson_schedule(rate, n, seed)
    assert len(times) == n
    assert times[0] >= 0
    assert times[-1] <= n / rate


def test_gaps_of_the_schedule_are_exponential():
    from scipy import stats

    gaps = np.diff(poisson_schedule(20.0, 20_000, 3))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 20)).pvalue > 0.01
    assert poisson_schedule(20.0, 10, 3) != poisson_schedule(20.0, 10, 4)


@pytest.mark.parametrize(("rate", "n"), [(0, 5), (-1, 5), (math.inf, 5), (math.nan, 5), (1.0, 0)])
def test_schedule_that_cannot_be(rate, n):
    with pytest.raises(InputError):
        poisson_schedule(rate, n, 0)


def test_steady_window_of_slots():
    # Two slots. First tokens at 10 and 20, the third request follows at 31, the fourth at 46; the third ends at 71.
    log = [row(0, 0, 10, [20]), row(1, 0, 20, [25]), row(2, 31, 10, [29]), row(3, 46, 10, [60])]
    assert [each.ended_ns // MS for each in log] == [31, 46, 71, 117]
    assert steady_window(log, 2) == (20 * MS, 71 * MS)
    assert steady_window(log, 4) == (56 * MS, 71 * MS)  # the slots fill when the queue is already empty
    assert steady_window(log, 5) is None
    assert steady_window(log[:1], 2) is None
    assert steady_window([], 2) is None


def test_steady_window_of_an_open_loop():
    log = [row(0, 0, 10, [20]), row(1, 50, 20, [25]), row(2, 90, 10, [29])]
    assert steady_window(log, None) == (31 * MS, 90 * MS)
    assert steady_window(log[:1], None) is None


def test_request_log_comes_back_as_it_was(tmp_path):
    log = [
        row(0, 0, 5, [1, 2], chunk_tokens=[1, 2, 3], reused=True),
        failed(1, 3),
        RequestLog(2, 5 * MS),
    ]
    write_request_log(tmp_path / "log.parquet", log)
    assert read_request_log(tmp_path / "log.parquet") == log
    import pandas as pd

    frame = pd.read_parquet(tmp_path / "log.parquet")
    assert frame.ttft_ms[0] == 5.0
    assert frame.tpot_ms[0] == pytest.approx(1.5)
    write_request_log(tmp_path / "none.parquet", [])
    assert read_request_log(tmp_path / "none.parquet") == []


def test_request_log_that_cannot_be_read(tmp_path):
    write_request_log(tmp_path / "log.parquet", [row(0, 0, 5, [1])] * 50)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "log.parquet").read_bytes()[:-9])
    import pandas as pd

    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "other.parquet")
    for name in ("cut", "other", "absent"):
        with pytest.raises(InputError, match=f"{name}.parquet"):
            read_request_log(tmp_path / f"{name}.parquet")


def test_journal_of_a_killed_load(tmp_path):
    path = tmp_path / "work" / "cell.jsonl"
    journal = RequestJournal(path, "cell a")
    journal.on_event("sent", row(0, 0, 5, [1]))
    journal.on_event("ended", row(0, 0, 5, [1]))
    journal.on_event("ended", failed(1, 2))
    journal.close()
    with path.open("a") as handle:
        handle.write('{"id": 2, "sched')
    again = RequestJournal(path, "cell a")
    assert again.earlier == journal.log == [row(0, 0, 5, [1]), failed(1, 2)]
    again.close()
    other = RequestJournal(path, "cell b")
    assert other.earlier == []
    other.close()
    other.remove()
    assert not path.exists()


def test_times_that_are_missing_are_none():
    empty = RequestLog(0, 5)
    names = ("slip_ms", "ttft_ms", "sent_ttft_ms", "e2e_ms", "tpot_ms", "first_ns", "last_ns")
    assert [getattr(empty, name) for name in names] == [None] * 7
    assert empty.itl_ms == []
    assert dataclasses.replace(row(0, 0, 5, [1]), tokens=1).tpot_ms is None
