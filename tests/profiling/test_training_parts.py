"""The parts of a step: one after the other, each once, with a peak of memory of its own."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.profiling.training_parts import PARTS, StepWatch, peak_rss_mib, reset_peak_rss


@pytest.fixture
def watched():
    """A watch, and the names of phases in the order in which they were entered and left."""
    events = []

    @contextlib.contextmanager
    def phase(name):
        events.append(f"+{name}")
        yield
        events.append(f"-{name}")

    return StepWatch(phase), events


def test_parts_follow_each_other_inside_the_step(watched):
    watch, events = watched
    watch.begin()
    with watch.rollout():
        pass
    watch.enter("update")
    watch.enter("update")  # the second pass of the same update
    watch.enter("optimizer")
    row = watch.end()
    assert events == [
        "+step", "+rollout", "-rollout", "+score", "-score", "+update", "-update", "+optimizer", "-optimizer", "-step",
    ]  # fmt: skip
    assert all(row[f"{part}_s"] >= 0 for part in PARTS)
    assert sum(row[f"{part}_s"] for part in PARTS) <= row["step_s"]
    assert watch.occurrences == {"step": 0, **dict.fromkeys(PARTS, 0)}


def test_a_rollout_that_fails_stays_the_part_that_runs(watched):
    watch, _ = watched
    watch.begin()
    with pytest.raises(MemoryError), watch.rollout():
        raise MemoryError
    assert watch.part == "rollout"
    row = watch.end()
    assert row["rollout_s"] is not None
    assert (row["score_s"], row["update_s"]) == (None, None)
    watch.begin()
    watch.enter("update")
    watch.end()
    assert watch.occurrences == {"step": 1, "update": 0}


def test_the_meter_sees_the_same_numbers_of_occurrences():
    meter = EnergyMeter(idle_s=0, rapl=False)
    watch = StepWatch(meter.phase)
    with meter:
        for _ in range(3):
            watch.begin()
            with watch.rollout():
                pass
            watch.end()
    listed = [entry["index"] for entry in meter.phases() if entry["path"] == "step/rollout"]
    assert listed == [0, 1, 2]
    assert watch.occurrences["rollout"] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="proc(5)")
def test_a_peak_does_not_report_the_one_before():
    if not reset_peak_rss():
        pytest.skip("the kernel does not reset the peak")
    before = peak_rss_mib()
    large = np.ones(64 * 2**20 // 8)
    high = peak_rss_mib()
    del large
    assert reset_peak_rss()
    assert high > before + 50
    assert peak_rss_mib() < high - 50
