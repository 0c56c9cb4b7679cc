"""Joules of processes that were killed reach the record of the one that ends the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gainwatt.energy import EnergyMeter
from gainwatt.energy.journal import PERIOD_S

from .conftest import CURVES, FakeGpus, constant

Fake = Callable[..., FakeGpus]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "work" / "energy.journal.json"


def killed(gpus: FakeGpus, journal: Path, seconds: float) -> EnergyMeter:
    """A meter that is never stopped."""
    meter = gpus.meter()
    meter.start()
    meter.keep_journal(journal, "same work")
    gpus.runtime.sleep(seconds)
    assert gpus.runtime.loop is not None
    gpus.runtime.loop.running = False
    assert meter.problems == []
    return meter


def finished(gpus: FakeGpus, journal: Path, seconds: float = 5.0) -> EnergyMeter:
    meter = gpus.meter()
    meter.start()
    meter.keep_journal(journal, "same work")
    gpus.runtime.sleep(seconds)
    meter.stop()
    assert meter.problems == []
    return meter


def test_a_killed_process_leaves_its_joules(fake_gpus: Fake, journal: Path) -> None:
    gpus = fake_gpus(CURVES["ramp"])
    first = killed(gpus, journal, 80.0)
    block = finished(gpus, journal).summary()
    earlier = block["earlier_segments"]
    assert (earlier["count"], earlier["complete"]) == (1, False)
    start = first.start_s or 0.0
    # Snapshots come every 30 s: after 80 s the last one holds 60 s.
    assert earlier["seconds"] == pytest.approx(2 * PERIOD_S, abs=2.5)
    truth = gpus.truth_j(start, start + earlier["seconds"])
    assert earlier["gross_j"] == pytest.approx(truth, rel=0.01)
    assert earlier["devices"] == {"gpu:0": pytest.approx(truth, rel=0.01)}
    assert "the true energy is higher" in earlier["note"]
    assert block["gross_j"] < 0.2 * earlier["gross_j"]
    json.dumps(block, allow_nan=False)


def test_segments_add_up_and_the_file_goes_with_the_record(fake_gpus: Fake, journal: Path) -> None:
    gpus = fake_gpus(constant(300.0), constant(100.0))
    killed(gpus, journal, 35.0)
    killed(gpus, journal, 65.0)
    meter = finished(gpus, journal)
    earlier = meter.summary()["earlier_segments"]
    assert earlier["count"] == 2
    assert earlier["seconds"] == pytest.approx(90.0, abs=8.0)
    assert earlier["devices"]["gpu:0"] == pytest.approx(300.0 * earlier["seconds"], rel=0.01)
    assert earlier["devices"]["gpu:1"] == pytest.approx(100.0 * earlier["seconds"], rel=0.01)
    assert earlier["gross_j"] == pytest.approx(sum(earlier["devices"].values()))
    meter.forget_journal()
    assert not journal.exists()
    assert "earlier_segments" not in finished(gpus, journal).summary()


def test_a_process_that_was_stopped_in_order_is_whole(fake_gpus: Fake, journal: Path) -> None:
    gpus = fake_gpus(constant(300.0))
    first = finished(gpus, journal, 12.0)
    earlier = finished(gpus, journal).summary()["earlier_segments"]
    assert earlier["complete"]
    assert earlier["gross_j"] == pytest.approx(first.summary()["gross_j"], rel=0.01)
    assert "ended in order" in earlier["note"]


@pytest.mark.parametrize("statement", ["unsupported counter", "counter_stick 0.1", "unsupported power"])
def test_without_one_of_both_readings(fake_gpus: Fake, journal: Path, statement: str) -> None:
    gpus = fake_gpus(constant(300.0), statements=[[statement]])
    killed(gpus, journal, 62.0)
    earlier = finished(gpus, journal).summary()["earlier_segments"]
    if statement == "unsupported power":
        # The counter alone is read every two seconds.
        assert earlier["gross_j"] == pytest.approx(300.0 * earlier["seconds"], rel=0.05)
    else:
        assert earlier["gross_j"] == pytest.approx(300.0 * earlier["seconds"], rel=0.01)


def test_a_journal_of_other_work_does_not_count(fake_gpus: Fake, journal: Path) -> None:
    gpus = fake_gpus(constant(300.0))
    killed(gpus, journal, 40.0)
    meter = gpus.meter()
    meter.start()
    meter.keep_journal(journal, "other settings")
    gpus.runtime.sleep(5.0)
    meter.stop()
    assert "earlier_segments" not in meter.summary()
    assert len(json.loads(journal.read_text(encoding="utf-8"))["segments"]) == 1


def test_a_lost_board_makes_the_segment_null(fake_gpus: Fake, journal: Path) -> None:
    gpus = fake_gpus(constant(300.0), statements=[["unsupported counter", "fail_at all 5 50 15"]])
    killed(gpus, journal, 40.0)
    gpus.runtime.sleep(20.0)
    earlier = finished(gpus, journal).summary()["earlier_segments"]
    assert earlier["gross_j"] is None
    assert earlier["devices"] == {"gpu:0": None}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "other"}', '{"kind": "gainwatt-energy-journal", "segments": [{}]}']
)
def test_a_journal_that_cannot_be_read_is_named_and_harmless(fake_gpus: Fake, journal: Path, text: str) -> None:
    journal.parent.mkdir(parents=True)
    journal.write_text(text, encoding="utf-8")
    gpus = fake_gpus(constant(300.0))
    earlier = finished(gpus, journal).summary()["earlier_segments"]
    assert (earlier["gross_j"], earlier["complete"]) == (None, False)
    assert "could not be read" in earlier["note"]


def test_a_journal_that_cannot_be_written_is_reported_and_harmless(fake_gpus: Fake, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    gpus = fake_gpus(constant(300.0))
    meter = gpus.meter()
    meter.start()
    meter.keep_journal(blocked / "energy.json", "same work")
    gpus.runtime.sleep(40.0)
    meter.stop()
    block = meter.summary()
    assert block["gross_j"] == pytest.approx(300.0 * block["window_s"], rel=0.01)
    assert "journal" in block["null_reasons"]["meter"]


def test_no_meter_no_joules_and_no_trouble(journal: Path) -> None:
    meter = EnergyMeter(idle_s=0.0, rapl=False, environ={"CUDA_VISIBLE_DEVICES": ""})
    with meter:
        meter.keep_journal(journal, "same work")
    assert json.loads(journal.read_text(encoding="utf-8"))["segments"][0]["gross_j"] is None
    meter.forget_journal()
    meter.forget_journal()
    assert not journal.exists()


def test_a_process_that_is_killed_for_good(fake_library: Path, tmp_path: Path, journal: Path) -> None:
    """A real process with the real clock and thread, ended by SIGKILL; the next one names its joules."""
    script = tmp_path / "script.txt"
    script.write_text("clock real\ndevice GPU-a Fake H200\npoint 0 200\npoint 99 200\n", encoding="ascii")
    code = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from gainwatt.energy import EnergyMeter\n"
        "meter = EnergyMeter(idle_s=0.0, rapl=False)\n"
        "meter.start()\n"
        "meter.keep_journal(Path(sys.argv[1]), 'same work')\n"
        "time.sleep(float(sys.argv[2]))\n"
        "meter.stop()\n"
        "print(json.dumps(meter.summary()['earlier_segments']))\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    env |= {
        "LD_LIBRARY_PATH": str(fake_library.parent),
        "GAINWATT_FAKE_NVML": str(script),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"),
    }
    command = [sys.executable, "-c", code, str(journal)]
    with subprocess.Popen([*command, "600"], env=env) as process:
        try:
            for _ in range(600):
                if journal.exists():
                    break
                time.sleep(0.1)
        finally:
            process.kill()
    assert journal.exists()
    done = subprocess.run([*command, "0.3"], env=env, capture_output=True, text=True, check=True)
    earlier = json.loads(done.stdout)
    assert (earlier["count"], earlier["complete"]) == (1, False)
    assert earlier["gross_j"] == pytest.approx(200.0 * earlier["seconds"], rel=0.05)
