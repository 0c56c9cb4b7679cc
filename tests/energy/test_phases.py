from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.phase_report import LISTED_PER_PATH
from gainwatt.energy.phases import PhaseLog

from .conftest import FakeGpus, constant

Fake = Callable[..., FakeGpus]


def test_nested_phases_have_paths_depths_and_energies(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 100.0), (5.0, 100.0), (5.001, 500.0), (100.0, 500.0)])
    meter = gpus.meter()
    meter.start()
    with meter.phase("train"):
        with meter.phase("rollout"):
            gpus.runtime.sleep(5.0 - gpus.runtime.now())
        with meter.phase("update"):
            gpus.runtime.sleep(4.0)
    meter.stop()
    found = {phase["path"]: phase for phase in meter.phases()}
    assert [phase["path"] for phase in meter.phases()] == ["train", "train/rollout", "train/update"]
    assert found["train/update"]["depth"] == 1
    for phase in found.values():
        start = (meter.start_s or 0.0) + phase["start_s"]
        truth = gpus.truth_j(start, start + phase["seconds"])
        # The step of 400 W lies on the border: its sample interval of 0.1 s is split as if power had ramped.
        assert phase["energy"]["gross_j"] == pytest.approx(truth, abs=0.5 * 0.1 * 400.0)
    parts = found["train/rollout"]["energy"]["gross_j"] + found["train/update"]["energy"]["gross_j"]
    assert parts == pytest.approx(found["train"]["energy"]["gross_j"], rel=1e-3)
    json.dumps(meter.phases(), allow_nan=False)


@pytest.mark.parametrize("seconds", [2.0, 2.73, 6.0])
def test_a_published_window_uses_counter_edges(fake_gpus: Fake, seconds: float) -> None:
    gpus = fake_gpus(constant(100.0), statements=[["power_tick 0.1"]])
    meter = gpus.meter()
    meter.start()
    gpus.runtime.sleep(1.234)
    with meter.phase("generate", short_ok=False):
        gpus.runtime.sleep(seconds)
    meter.stop()
    (phase,) = meter.phases()
    assert phase["energy"]["method"] == "counter"
    assert phase["seconds"] == pytest.approx(seconds, abs=0.01)
    assert phase["energy"]["gross_j"] == pytest.approx(100.0 * phase["seconds"], rel=0.01)
    assert ("short" in phase["energy"]["flags"]) == (seconds < 5.0)
    texts = meter.summary()["flag_texts"]
    assert set(phase["energy"]["flags"]) <= set(texts)
    assert all(texts.values())


def test_waiting_for_ticks_is_outside_of_the_window(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(100.0))
    meter = gpus.meter()
    meter.start()
    before = gpus.runtime.now()
    with meter.phase("generate", short_ok=False):
        gpus.runtime.sleep(1.0)
    spent = gpus.runtime.now() - before
    meter.stop()
    assert meter.phases()[0]["seconds"] == pytest.approx(1.0, abs=0.01)
    assert 1.0 < spent < 1.3


def test_thousands_of_short_phases_read_no_counter_and_stay_small(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    meter = gpus.meter()
    meter.start()
    start_calls = gpus.calls(0, 1)
    for _ in range(1500):
        with meter.phase("rollout"):
            gpus.runtime.sleep(0.015)
        with meter.phase("update"):
            gpus.runtime.sleep(0.005)
    assert gpus.calls(0, 1) - start_calls < 30
    meter.stop()
    totals = {entry["path"]: entry for entry in meter.summary()["phase_totals"]}
    assert totals["rollout"]["count"] == 1500
    assert totals["rollout"]["not_listed"] == 1500 - LISTED_PER_PATH
    assert totals["rollout"]["gross_j"] == pytest.approx(200.0 * totals["rollout"]["seconds"], rel=1e-3)
    assert totals["update"]["gross_j"] == pytest.approx(200.0 * totals["update"]["seconds"], rel=1e-3)
    assert len(meter.phases()) == 2 * LISTED_PER_PATH
    assert len(meter.phases(limit=None)) == 3000
    assert [phase["index"] for phase in meter.phases()[:4]] == [0, 0, 1, 1]


def test_a_long_phase_uses_the_counter_inside(fake_gpus: Fake) -> None:
    gpus = fake_gpus([(0.0, 100.0), (40.0, 600.0), (100.0, 100.0), (300.0, 100.0)])
    meter = gpus.meter()
    meter.start()
    with meter.phase("train"):
        gpus.runtime.sleep(110.0)
    meter.stop()
    (phase,) = meter.phases()
    start = (meter.start_s or 0.0) + phase["start_s"]
    assert phase["energy"]["method"] == "counter"
    assert phase["energy"]["gross_j"] == pytest.approx(gpus.truth_j(start, start + phase["seconds"]), rel=0.01)


def test_a_phase_below_idle_has_no_net_and_says_why(fake_gpus: Fake) -> None:
    # The work is above idle in the mean, and one phase of it is below.
    gpus = fake_gpus([(0.0, 100.0), (8.0, 100.0), (8.01, 400.0), (18.0, 400.0), (18.01, 96.5), (99.0, 96.5)])
    meter = gpus.meter(idle_s=4.0)
    meter.start()
    gpus.runtime.sleep(8.0 - gpus.runtime.now())
    with meter.phase("work"):
        gpus.runtime.sleep(9.9)
    gpus.runtime.sleep(0.5)
    with meter.phase("wait"):
        gpus.runtime.sleep(2.0)
    meter.stop()
    work, wait = meter.phases()
    assert work["energy"]["net_j"] == pytest.approx(2970.0, rel=0.02)
    assert "net_reason" not in work["energy"]
    assert wait["energy"]["gross_j"] == pytest.approx(193.0, rel=0.01)
    assert wait["energy"]["net_j"] is None
    assert "less than the idle power of 100.0 W explains" in wait["energy"]["net_reason"]
    assert "below_idle" in wait["energy"]["flags"]
    totals = {total["path"]: total for total in meter.summary()["phase_totals"]}
    assert totals["wait"]["net_j"] is None
    assert "explains" in totals["wait"]["net_reason"]
    assert totals["work"]["net_j"] == pytest.approx(2970.0, rel=0.02)
    assert set(totals["wait"]["flags"]) <= set(meter.summary()["flag_texts"])


def test_a_total_over_noisy_occurrences_keeps_its_net(fake_gpus: Fake) -> None:
    # Every other occurrence lies below idle by its noise; together they are above it.
    levels = [(6.5 + 0.5 * number, 130.0 if number % 2 else 90.0) for number in range(40)]
    curve = [(0.0, 100.0), (6.5, 100.0)]
    for start, watts in levels:
        curve += [(start + 1e-6, watts), (start + 0.5, watts)]
    gpus = fake_gpus([*curve, (40.0, 100.0), (99.0, 100.0)])
    meter = gpus.meter(idle_s=3.0)
    meter.start()
    gpus.runtime.sleep(7.5 - gpus.runtime.now())
    for _ in range(20):
        with meter.phase("step"):
            gpus.runtime.sleep(0.5)
    meter.stop()
    (total,) = meter.summary()["phase_totals"]
    assert any(phase["energy"]["net_j"] is None for phase in meter.phases())
    assert total["net_j"] == pytest.approx(20 * 0.5 * 10.0, rel=0.1)


def test_phases_without_a_meter_and_outside_of_start_and_stop(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(100.0))
    meter = gpus.meter()
    with meter.phase("before"):
        pass
    meter.start()
    gpus.runtime.sleep(1.0)
    meter.stop()
    gpus.runtime.sleep(5.0)
    with meter.phase("after", short_ok=False):
        gpus.runtime.sleep(1.0)
    found = {phase["name"]: phase for phase in meter.phases()}
    assert found["after"]["energy"]["gross_j"] is None
    assert found["after"]["energy"]["reason"]


def test_paths_of_three_levels() -> None:
    log = PhaseLog()
    assert [log.enter(name).path for name in ("a", "b", "c")] == ["a", "a/b", "a/b/c"]
    log.leave(log.paths["a/b/c"])
    assert log.enter("d").path == "a/b/d"


def test_phases_that_close_out_of_order_keep_the_others_names(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    meter = gpus.meter()
    meter.start()
    first, second = meter.phase("first"), meter.phase("second")
    for phase in (first, second):
        phase.__enter__()
        gpus.runtime.sleep(1.0)
    first.__exit__(None, None, None)
    with meter.phase("inside"):
        gpus.runtime.sleep(1.0)
    second.__exit__(None, None, None)
    with meter.phase("behind"):
        gpus.runtime.sleep(1.0)
    meter.stop()
    found = {phase["path"]: phase["energy"]["gross_j"] for phase in meter.phases()}
    assert found == {
        "first": pytest.approx(400.0, rel=0.01),
        "first/second": pytest.approx(400.0, rel=0.01),
        "first/second/inside": pytest.approx(200.0, rel=0.01),
        "behind": pytest.approx(200.0, rel=0.01),
    }


def test_a_phase_that_closes_on_another_thread_raises_nothing(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    meter = gpus.meter()
    meter.start()
    phase = meter.phase("work")
    phase.__enter__()
    raised: list[Exception] = []

    def leave() -> None:
        try:
            phase.__exit__(None, None, None)
        except Exception as error:  # noqa: BLE001 - any is one too many
            raised.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    meter.stop()
    assert raised == []
    assert [entry["path"] for entry in meter.phases()] == ["work"]


def test_marks_of_occurrences_that_are_not_listed_reach_the_total(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(200.0))
    gpus.runtime.starved = [(15.0, 20.0)]
    meter = gpus.meter()
    meter.start()
    for _ in range(LISTED_PER_PATH + 2300):
        with meter.phase("step"):
            gpus.runtime.sleep(0.01)
    meter.stop()
    (total,) = meter.summary()["phase_totals"]
    assert total["method"] == "integral"
    assert "gap" in total["flags"]
    assert not any("gap" in phase["energy"]["flags"] for phase in meter.phases())


def test_every_thread_has_its_own_nesting() -> None:
    log = PhaseLog()
    outer = log.enter("main")
    paths = []

    def work() -> None:
        paths.append(log.enter("helper").path)
        log.leave(log.paths["helper"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outer.path == "main"
    assert paths == ["helper"]


def test_on_a_machine_without_any_meter(tmp_path: object) -> None:
    meter = EnergyMeter(idle_s=5.0, rapl=False, environ={"CUDA_VISIBLE_DEVICES": ""})
    begin = time.monotonic()
    with meter, meter.phase("load"), meter.phase("shards", short_ok=False):
        pass
    assert time.monotonic() - begin < 4.0
    block = meter.summary()
    assert block["boundary"] == []
    assert block["gross_j"] is None
    assert block["null_reasons"]["gpu_board"]
    assert block["null_reasons"]["gross_j"]
    assert [phase["path"] for phase in meter.phases()] == ["load", "load/shards"]
    assert all(phase["energy"]["gross_j"] is None and phase["energy"]["reason"] for phase in meter.phases())
    json.dumps([block, meter.phases()], allow_nan=False)
