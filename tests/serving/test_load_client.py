"""The client against a scripted server in a process of its own. Delays are lower bounds: nothing is ever too early."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from gainwatt.errors import InputError
from gainwatt.serving.client import run_load
from gainwatt.serving.percentiles import summarise
from gainwatt.serving.request_log import RequestJournal
from gainwatt.serving.requests import Limits, Request, Slo, Target
from gainwatt.serving.schedule import poisson_schedule, steady_window
from serving.mock import start_mock

ALL = Limits(max_error_share=None)


def load(target, prompts, *, concurrency=4, timeout_s=30.0, stop_when=ALL, tokens=3, **options):
    requests = [Request(i, prompt, tokens) for i, prompt in enumerate(prompts)]
    return run_load(target, requests, concurrency=concurrency, timeout_s=timeout_s, stop_when=stop_when, **options)


@pytest.fixture(scope="module")
def mock():
    with start_mock() as server:
        yield server


def test_times_are_those_of_the_server_and_never_before_it_wrote():
    with start_mock() as server:
        delays = [10, 20, 30, 40]
        prompts = [f"ttft_ms={ms} itl_ms=5,20" for ms in delays]
        result = load(server.target, prompts, tokens=5)
        written = {row["prompt"]: row for row in server.log()}
    assert [row.status for row in result.log] == ["ok"] * 4
    for row in sorted(result.log, key=lambda row: row.id):
        told = written[prompts[row.id]]
        assert row.ttft_ms >= delays[row.id]
        assert row.e2e_ms >= delays[row.id] + 5 + 20 + 5 + 20
        assert row.tpot_ms * 4 == pytest.approx(row.e2e_ms - row.ttft_ms)
        assert sum(row.itl_ms) == pytest.approx(row.e2e_ms - row.ttft_ms)
        assert row.scheduled_ns <= row.sent_ns
        assert row.scheduled_ns <= told["received_ns"] <= row.first_ns
        # A chunk is stamped when it was read, and it cannot have been read before it was written.
        assert len(told["chunk_ns"]) == len(row.chunk_ns) == 5
        assert all(wrote <= read for wrote, read in zip(told["chunk_ns"], row.chunk_ns, strict=True))


def test_known_distribution_comes_out_in_order():
    """Nine of ten requests answer after 1 ms, every tenth after 400 ms: p50 and p95 lie on different sides."""
    with start_mock() as server:
        prompts = [f"ttft_ms={400 if i % 10 == 9 else 1} n={i}" for i in range(40)]
        row = summarise(load(server.target, prompts, concurrency=40, tokens=2), Slo(ttft_ms=399.0))
    assert row["ttft_p95_ms"] >= 400
    assert row["ttft_p99_ms"] >= row["ttft_p95_ms"] >= row["ttft_p90_ms"] >= row["ttft_p50_ms"] >= 1
    assert row["completed"] == 40
    assert row["slo_met"] <= 36


def test_closed_loop_never_has_more_under_way_than_slots(mock):
    sent: list[int] = []
    ended: list[int] = []
    result = load(
        mock.target, ["itl_ms=1"] * 30, concurrency=5,
        on_event=lambda kind, row: (sent if kind == "sent" else ended).append(row.id),
    )  # fmt: skip
    assert result.in_flight_max == 5
    assert sorted(sent) == sorted(ended) == list(range(30))
    rows = sorted(result.log, key=lambda row: row.scheduled_ns)
    for row in rows[5:]:  # scheduled the moment another one ended
        assert row.scheduled_ns in {other.ended_ns for other in rows}
    assert any(row.reused for row in rows)
    start, end = steady_window(result.log, 5)
    assert sum(row.sent_ns <= start for row in rows) >= 5
    assert max(row.sent_ns for row in rows) < end


def test_open_loop_sends_at_the_scheduled_times_however_long_answers_take(mock):
    times = poisson_schedule(200.0, 20, seed=1)
    requests = [Request(i, "ttft_ms=300", 1, scheduled_s=at) for i, at in enumerate(reversed(times))]
    result = run_load(mock.target, requests, concurrency=None, timeout_s=30, stop_when=ALL)
    first = min(row.scheduled_ns for row in result.log)
    due = sorted((row.scheduled_ns - first) / 1e9 for row in result.log)
    assert due == pytest.approx([at - times[0] for at in times], abs=1e-6)
    assert all(row.sent_ns >= row.scheduled_ns for row in result.log)
    assert result.in_flight_max > 4  # nobody waited for an answer


def test_latency_counts_from_the_schedule_not_from_the_sending(mock):
    """A client that is held up must not hide it: 100 ms of its own are in the TTFT, not in the TTFT from sending."""
    import time

    def hold(kind, row):
        if kind == "sent" and row.id == 0:
            time.sleep(0.1)

    requests = [Request(0, "a", 1, scheduled_s=0.0), Request(1, "b", 1, scheduled_s=0.01)]
    result = run_load(mock.target, requests, concurrency=None, timeout_s=30, stop_when=ALL, on_event=hold)
    late = next(row for row in result.log if row.id == 1)
    assert late.slip_ms >= 80
    assert late.ttft_ms >= 80
    assert late.ttft_ms == pytest.approx(late.sent_ttft_ms + late.slip_ms)
    assert result.slip_ms["max"] >= 80


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("status=500", "http_500"),
        ("status=429", "http_429"),
        ("close=1", "closed"),
        ("cut=2", "cut"),
        ("garbage=1", "malformed"),
        ("error=1", "server_error"),
        ("plain=1", "malformed"),
        ("stall=0", "timeout"),
        ("stall=2", "timeout"),
        ("chunked=0 cut=1", "malformed"),  # without length and chunks the end of a connection looks regular
    ],
)
def test_each_fault_is_named_and_the_others_go_on(mock, prompt, kind):
    result = load(mock.target, ["x", prompt, "x", "x"], concurrency=2, timeout_s=1.5 if "stall" in prompt else 30)
    by_id = {row.id: row for row in result.log}
    assert (by_id[1].status, by_id[1].error_kind) == ("error", kind)
    assert by_id[1].error
    assert [by_id[i].status for i in (0, 2, 3)] == ["ok"] * 3
    row = summarise(result)
    assert row["errors"] == {kind: 1}
    assert row["error_share"] == 0.25
    assert row["status"] == "ok"  # no limit was set


def test_what_arrived_before_a_cut_is_kept(mock):
    result = load(mock.target, ["cut=2 usage=running per_chunk=3"], tokens=30)
    assert len(result.log[0].chunk_ns) == 2
    assert (result.log[0].tokens, result.log[0].tokens_from) == (6, "running_usage")


@pytest.mark.parametrize("prompt", ["chunked=0", "split=1", "split=7", "itl_ms=0", "usage=last"])
def test_every_framing_is_read(mock, prompt):
    result = load(mock.target, [prompt] * 3, concurrency=1)
    assert [(row.status, row.tokens, row.tokens_from) for row in result.log] == [("ok", 3, "usage")] * 3


@pytest.mark.parametrize(
    ("prompt", "tokens", "source", "chunk_tokens"),
    [
        ("usage=end per_chunk=4", 10, "usage", None),
        ("usage=running per_chunk=4", 10, "usage", [4, 4, 2]),
        ("usage=none per_chunk=4 ids=1", 10, "token_ids", [4, 4, 2]),
        ("usage=none per_chunk=4", 3, "chunks", None),  # a lower bound, and called so
    ],
)
def test_several_tokens_in_a_chunk_are_not_counted_as_one(mock, prompt, tokens, source, chunk_tokens):
    result = load(mock.target, [prompt], tokens=10)
    row = result.log[0]
    assert (row.tokens, row.tokens_from, row.chunk_tokens) == (tokens, source, chunk_tokens)
    summary = summarise(result)
    assert summary["tokens_from"] == {source: 1}
    assert summary["chunks"] == 3
    assert summary["tokens_per_chunk"] == pytest.approx(tokens / 3)


def test_text_is_counted_where_the_server_tells_no_number(mock):
    result = load(mock.target, ["usage=none per_chunk=4"], tokens=10, count_tokens=lambda text: text.count("w"))
    assert (result.log[0].tokens, result.log[0].tokens_from) == (10, "tokenizer")


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = load(Target(f"http://127.0.0.1:{port}/v1", "mock"), ["x"] * 50, stop_when=Limits())
    assert [row.error_kind for row in result.log] == ["refused"]
    assert "1 requests failed, 1.00% of 50 planned ones allowed" in result.ended_early
    assert "refused" in result.ended_early
    row = summarise(result)
    assert row["status"] == "failed"
    assert row["ttft_p50_ms"] is None
    assert row["null_reasons"]["ttft_p50_ms"] == "no request ended well"


def test_server_killed_in_the_middle_leaves_what_was_measured(tmp_path):
    journal = RequestJournal(tmp_path / "cell.jsonl", "this cell")
    with start_mock("--itl-ms", "2") as server:
        prompts = ["x"] * 8 + ["die=1"] + ["x"] * 91
        result = load(
            server.target, prompts, concurrency=4, stop_when=Limits(max_error_share=0.01), on_event=journal.on_event
        )
        assert server.process.wait() == -signal.SIGKILL
    journal.close()
    row = summarise(result)
    assert row["status"] == "failed"
    assert "requests failed" in row["ended_early"]
    assert row["completed"] >= 4
    assert row["completed"] + row["failed"] + row["unfinished"] == row["requests"] < 100
    assert row["ttft_p50_ms"] is not None
    kept = RequestJournal(tmp_path / "cell.jsonl", "this cell")
    kept.close()
    assert kept.log == []
    ended = [row for row in result.log if row.status != "unfinished"]
    assert sorted(kept.earlier, key=lambda row: row.id) == sorted(ended, key=lambda row: row.id)


def test_client_killed_in_the_middle_leaves_what_had_ended(mock, tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from gainwatt.serving.client import run_load
from gainwatt.serving.request_log import RequestJournal
from gainwatt.serving.requests import Limits, Request, Target

journal = RequestJournal(Path({str(tmp_path / "cell.jsonl")!r}), "cell")

def on_event(kind, row):
    journal.on_event(kind, row)
    if len(journal.log) == 7:
        os.kill(os.getpid(), signal.SIGKILL)

requests = [Request(i, "x", 3) for i in range(50)]
target = Target({mock.target.base_url!r}, "mock")
run_load(target, requests, concurrency=2, timeout_s=30, stop_when=Limits(), on_event=on_event)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    journal = RequestJournal(tmp_path / "cell.jsonl", "cell")
    journal.close()
    assert [(row.status, row.tokens, len(row.chunk_ns)) for row in journal.earlier] == [("ok", 3, 3)] * 7


def test_limit_of_time_ends_a_load_and_keeps_what_is_under_way(mock):
    result = load(mock.target, ["ttft_ms=1 itl_ms=1 stall=2"] * 2, stop_when=Limits(max_s=1.0))
    assert result.ended_early == "the load took longer than 1 s"
    assert [row.status for row in result.log] == ["unfinished"] * 2
    assert [len(row.chunk_ns) for row in result.log] == [2, 2]
    assert [row.tokens_from for row in result.log] == ["chunks"] * 2


def test_limit_of_requests_under_way_ends_an_open_loop(mock):
    requests = [Request(i, "stall=0", 1, scheduled_s=i * 0.001) for i in range(50)]
    result = run_load(mock.target, requests, concurrency=None, timeout_s=30, stop_when=Limits(max_in_flight=10))
    assert result.ended_early == "saturated: 11 requests under way, 10 allowed"
    assert len(result.log) == 11


def test_errors_in_a_row(mock):
    result = load(
        mock.target, ["x"] * 3 + ["status=500"] * 40, concurrency=1,
        stop_when=Limits(max_error_share=None, max_errors_in_a_row=4),
    )  # fmt: skip
    assert "5 requests failed one after another, the last one http_500" in result.ended_early
    assert sum(row.status == "error" for row in result.log) == 5


def test_connection_that_the_server_closed_while_idle_is_opened_again():
    """A server that closes after each answer although it kept the connection: no request fails."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
    body = b'data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    held = []

    def answer_once(listener):
        for _ in range(3):
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer % (len(body), body))
            held.append(connection)
            if connection.recv(65536):  # the next request comes over the connection that is about to be cut
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_once, args=(listener,), daemon=True)
        thread.start()
        target = Target(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "m")
        result = load(target, ["a", "b", "c"], concurrency=1)
    assert [row.status for row in result.log] == ["ok"] * 3


def test_state_of_the_process_is_put_back(mock):
    load(mock.target, ["x"])
    assert gc.isenabled()
    descriptors = len(os.listdir("/proc/self/fd"))
    load(mock.target, ["x"] * 20, concurrency=20)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_an_error_of_the_caller_comes_through_and_closes_the_connections(mock):
    descriptors = len(os.listdir("/proc/self/fd"))

    def full(kind, row):
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="disk is full"):
        load(mock.target, ["x"] * 5, on_event=full)
    assert len(os.listdir("/proc/self/fd")) == descriptors
