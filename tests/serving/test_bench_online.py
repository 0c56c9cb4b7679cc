"""Loads on a scripted server: what is sent, what is kept when it dies, and how the capacity is found."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest

from gainwatt.serving.energy import Idle
from gainwatt.serving.online import (
    CellFailedError,
    OnlineRun,
    Probes,
    Runner,
    capacity,
    hit_rate,
    next_rate,
)
from gainwatt.serving.online_columns import capacity_numbers, online_numbers
from gainwatt.serving.prompts import Prompts, Source
from gainwatt.serving.request_log import RequestJournal
from gainwatt.serving.roofs import Roofs
from gainwatt.study.serving import Online, Serve
from gainwatt.study.serving_cells import Load
from serving.mock import start_mock

ONLINE = Online(
    concurrency=(2,), requests_per_client=3, requests_per_rate=6, capacity=True, capacity_probes=2, timeout_s=20
)  # fmt: skip
SERVE = Serve(
    repeats=2, warmup_batches=1, fixed_prompt_tokens=5, fixed_new_tokens=4, max_model_tokens=64, online=ONLINE
)  # fmt: skip
NO_ROOFS = Roofs(None, None, "fp32", "not measured")


class Phases:
    """A job that keeps the names of its phases and has no meter."""

    def __init__(self):
        self.names = []

    def phase(self, name, **_):
        self.names.append(name)
        return contextlib.nullcontext()

    @staticmethod
    def energy_between(start_s, end_s):
        return {"gross_j": None, "flags": [], "reason": "no meter"}


class Place:
    """A runner on a mock server, with all that it keeps."""

    def __init__(self, mock, folder, load, *, serve=SERVE, clean=True, hits=0):
        self.looked_up = {"queries": 0, "hits": 0}
        self.hits = hits
        self.job, self.load, self.serve = Phases(), load, serve
        self.journal = RequestJournal(folder / "requests.jsonl", "same work")
        self.probes = Probes(folder / "probes.jsonl", "same work")
        server = SimpleNamespace(
            spec=SimpleNamespace(engine="transformers"), base_url=mock.target.base_url, model="mock", headers={},
            prefix_hits=self.prefix_hits, log_tail=lambda lines: "its last words",
        )  # fmt: skip
        prompts = Prompts(Source((), tuple(range(3, 99))), serve, load)
        self.runner = Runner(server, prompts, serve, self.job, self.journal, lambda: clean)
        self.run = OnlineRun()

    def prefix_hits(self):
        self.looked_up = {"queries": self.looked_up["queries"] + 10, "hits": self.looked_up["hits"] + self.hits}
        return self.looked_up

    def numbers(self):
        return online_numbers(
            self.run, self.load, self.serve.online, Idle(), NO_ROOFS, self.job.energy_between, weight_bytes=None
        )[0]


CLOSED = Load("online", "fixed", "closed", 2)


def test_a_closed_loop_warms_up_measures_and_asks_the_prompts_alone(tmp_path):
    with start_mock("--ttft-ms", "10", "--itl-ms", "2") as mock:
        place = Place(mock, tmp_path, CLOSED)
        place.runner.run(place.run)
        seen = mock.log()
    assert place.job.names == ["warm_up", "measure", "measure", "prefill"]
    assert len(seen) == 2 + 12 + 6
    metrics = place.numbers().metrics
    assert (metrics["requests"], metrics["completed"], metrics["generated_tokens"]) == (12, 12, 48)
    assert metrics["new_tokens_mean"] == 4.0
    assert metrics["ttft_p50_ms"] >= 10
    assert metrics["tpot_p50_ms"] is not None
    assert metrics["steady_windows"] == 2
    assert metrics["steady_tok_s"] > 0
    assert metrics["goodput_requests_per_s"] == pytest.approx(metrics["requests_per_s"])
    assert (len(place.run.measure), len(place.run.prefill)) == (2, 1)


def test_arrivals_follow_the_rate_and_are_the_same_each_time(tmp_path):
    load = Load("online", "fixed", "poisson", 100.0)
    with start_mock("--ttft-ms", "5", "--itl-ms", "1") as mock:
        place, again = Place(mock, tmp_path / "a", load), Place(mock, tmp_path / "b", load)
        place.runner.run(place.run)
        times = [r.scheduled_s for r in again.runner._timed(100.0, "repeat 0")]
    first = place.run.measure[0]
    due = [(row.scheduled_ns - first.log[0].scheduled_ns) / 1e9 for row in first.log]
    assert due == pytest.approx([t - times[0] for t in times], abs=1e-6)
    assert place.job.names == ["warm_up", "measure", "measure"]
    assert place.numbers().reasons["prefill_tok_s"]


def test_seed_load_and_repeat_each_change_the_arrivals(tmp_path):
    def times(seed, rate, purpose):
        serve = SERVE.model_copy(update={"seed": seed})
        server = SimpleNamespace(spec=SimpleNamespace(engine="transformers"), base_url="", model="m", headers={})
        prompts = Prompts(Source((), (3, 4)), serve, Load("online", "fixed", "poisson", rate))
        timed = Runner(server, prompts, serve, None, None, None)._timed(rate, purpose)
        return [round(request.scheduled_s * rate, 6) for request in timed]

    drawn = [times(0, 2.0, "repeat 0"), times(1, 2.0, "repeat 0"), times(0, 3.0, "repeat 0"), times(0, 2.0, "repeat 1")]
    assert len({tuple(each) for each in drawn}) == 4


def test_the_roof_of_a_closed_loop_is_that_of_all_its_clients(tmp_path):
    seen = []

    class Seen(Roofs):
        def numbers(self, *, batch, **values):
            seen.append(batch)
            return super().numbers(batch=batch, **values)

    with start_mock("--ttft-ms", "5", "--itl-ms", "1") as mock:
        load = Load("online", "fixed", "closed", 3)
        online = ONLINE.model_copy(update={"requests_per_client": 1})
        place = Place(mock, tmp_path, load, serve=SERVE.model_copy(update={"online": online}))
        place.runner.run(place.run)
    for row in [row for result in place.run.measure for row in result.log]:
        row.chunk_ns = [row.scheduled_ns + 1000]  # a run of which the steady state is a small part
    online_numbers(
        place.run, load, online, Idle(), Seen(None, None, "fp32"), place.job.energy_between, weight_bytes=None
    )
    assert seen == [3]


def test_a_rate_that_overloads_the_server_is_missed_and_no_failure_of_the_search(tmp_path):
    load = Load("online", "fixed", "capacity", None)
    with start_mock("--ttft-ms", "2", "--itl-ms", "1") as mock:
        place = Place(mock, tmp_path, load)
        send, kinds = place.runner._send, ["timeout", "refused"]

        def too_much(requests, clients, limits):
            result = send(requests, clients, limits)
            if clients is not None:
                return result
            result.log[-1].status, result.log[-1].error_kind = "error", kinds.pop(0)
            return dataclasses.replace(result, ended_early="1 requests failed")

        place.runner._send = too_much
        with pytest.raises(CellFailedError):  # by the second probe, whose server is gone
            place.runner.search(place.run, place.probes)
    assert [probe["met"] for probe in place.run.probes] == [None, False]


def test_a_server_that_dies_fails_the_cell_and_keeps_what_was_logged(tmp_path):
    serve = SERVE.model_copy(update={"online": ONLINE.model_copy(update={"requests_per_client": 40})})
    with start_mock("--ttft-ms", "5", "--itl-ms", "1") as mock:
        place = Place(mock, tmp_path, CLOSED, serve=serve)
        send = place.runner._send

        def dying(requests, clients, limits):
            if len(place.run.measure) == 1:
                mock.kill()
            return send(requests, clients, limits)

        place.runner._send = dying
        with pytest.raises(CellFailedError, match="requests failed") as ended:
            place.runner.run(place.run)
    assert "its last words" in ended.value.hint
    assert len(place.run.measure) == 2
    metrics = place.numbers().metrics
    assert metrics["completed"] == 80
    assert metrics["failed"] >= 1
    assert metrics["error_share"] > 0
    assert len(place.journal.log) >= 80


def test_hits_in_the_cache_of_earlier_prompts_are_counted_and_a_dirty_server_is_told(tmp_path):
    with start_mock("--ttft-ms", "1", "--itl-ms", "1") as mock:
        place = Place(mock, tmp_path, CLOSED, clean=False, hits=3)
        place.runner.run(place.run)
    metrics = place.numbers().metrics
    assert (metrics["prefix_queries"], metrics["prefix_hits"], metrics["cleaned"]) == (30, 9, False)
    assert metrics["prefix_hit_rate"] == 0.3


def test_the_search_begins_at_half_of_a_burst_and_goes_on_behind_a_kill(tmp_path):
    load = Load("online", "fixed", "capacity", None)
    with start_mock("--ttft-ms", "5", "--itl-ms", "1") as mock:
        place = Place(mock, tmp_path, load)
        place.runner.search(place.run, place.probes)
        assert [probe["kind"] for probe in place.run.probes] == ["burst", "poisson", "poisson"]
        burst, first, _ = (probe["rate_per_s"] for probe in place.run.probes)
        assert first == burst / 2
        # The file lost its last row: that rate alone is tried again.
        path = tmp_path / "probes.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        again = Place(mock, tmp_path, load)
        again.runner.search(again.run, again.probes)
    assert again.job.names == ["warm_up", "probe"]
    assert again.run.probes[:2] == place.run.probes[:2]
    metrics = capacity_numbers(again.run, ONLINE).metrics
    assert metrics["burst_requests_per_s"] == burst
    assert len(metrics["probes"]) == 3


def probe(rate, met):
    return {"rate_per_s": rate, "met": met}


@pytest.mark.parametrize(
    ("probes", "following"),
    [
        ([], 50.0),
        ([probe(50.0, False)], 25.0),
        ([probe(50.0, True)], 100.0),
        ([probe(50.0, True), probe(100.0, False)], 75.0),
        ([probe(50.0, True), probe(100.0, True)], 125.0),
        ([probe(50.0, True), probe(100.0, False), probe(75.0, True)], 87.5),
    ],
)
def test_the_next_rate_halves_what_is_left(probes, following):
    assert next_rate([{"rate_per_s": 100.0, "met": None}, *probes], 100.0) == following


def test_a_rate_counts_as_carried_only_below_every_one_that_was_missed():
    burst = {"rate_per_s": 100.0, "met": None}
    assert capacity([burst, probe(50.0, True), probe(60.0, False), probe(70.0, True)]) == (50.0, 60.0)
    assert capacity([burst, probe(50.0, False)]) == (None, 50.0)
    assert capacity([burst, probe(50.0, True)]) == (50.0, None)


def test_look_ups_that_nobody_counts_are_unknown():
    assert hit_rate(None, {"queries": 1, "hits": 1}) == {"queries": None, "hits": None}
