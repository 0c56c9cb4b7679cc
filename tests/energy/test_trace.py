from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from gainwatt.energy import EnergyMeter
from gainwatt.energy.figure import draw_trace, label_rows
from gainwatt.energy.trace import COLUMNS, write_trace
from gainwatt.errors import InputError

from .conftest import FakeGpus, constant

Fake = Callable[..., FakeGpus]


@pytest.fixture
def measured(fake_gpus: Fake) -> EnergyMeter:
    gpus = fake_gpus(constant(300.0), constant(200.0), statements=[["throttle 2 4 4"], []])
    meter = gpus.meter(idle_s=1.0)
    meter.start()
    with meter.phase("load"):
        gpus.runtime.sleep(2.0)
    with meter.phase("generate"):
        gpus.runtime.sleep(3.0)
    meter.stop()
    return meter


def test_trace_has_every_sample_of_every_device(measured: EnergyMeter, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    assert measured.write_trace(path)
    table = pq.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert len(rows) == sum(len(track.times) for track in measured.tracks)
    first = [row for row in rows if row["device"] == "gpu:0"]
    assert all(row["power_w"] == 300.0 for row in first)
    assert first[0]["time_s"] < -1.0
    assert any(row["throttle_reasons"] == 4 for row in first)
    assert any(row["energy_counter_j"] is not None for row in first)
    assert any(row["temperature_c"] is None for row in first)
    assert {row["sm_clock_mhz"] for row in first} == {None, 1500.0}
    assert {row["memory_used_mib"] for row in first} == {None, 4096.0}
    assert b"started_unix_s" in table.schema.metadata


def test_no_sample_no_file(tmp_path: Path) -> None:
    meter = EnergyMeter(idle_s=0.0, rapl=False, environ={"CUDA_VISIBLE_DEVICES": ""})
    meter.start()
    meter.stop()
    assert not meter.write_trace(tmp_path / "trace.parquet")
    assert not draw_trace(meter, tmp_path / "trace.svg")
    assert list(tmp_path.iterdir()) == []


def test_figure_is_the_same_file_twice(measured: EnergyMeter, tmp_path: Path) -> None:
    assert draw_trace(measured, tmp_path / "one.svg")
    assert draw_trace(measured, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_bytes()
    assert text == (tmp_path / "two.svg").read_bytes()
    assert text.startswith(b"<?xml")


def test_lines_of_every_board_lie_inside_the_frame(
    measured: EnergyMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[float], float]] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        axes = figure.axes[0]
        seen.append(({max(line.get_ydata()) for line in axes.get_lines()}, axes.get_ylim()[1]))

    monkeypatch.setattr(Figure, "savefig", keep)
    assert draw_trace(measured, tmp_path / "x.svg")
    ((heights, top),) = seen
    for device in measured.summary()["devices"]:
        assert {device["idle_before_w"], device["power_limit_w"]} - {None} <= heights
    assert top > 1.05 * max(heights)


def test_unknown_ending_is_an_error(measured: EnergyMeter, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown ending '\.bmp'"):
        draw_trace(measured, tmp_path / "trace.bmp")


def test_a_long_trace_is_averaged_and_keeps_its_energy(measured: EnergyMeter, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    assert write_trace(measured.tracks, path, measured.start_s, 0.0, rows_max=20)
    table = pq.read_table(path)
    joined = int(table.schema.metadata[b"samples_per_row"])
    longest = max(len(track.times) for track in measured.tracks)
    assert joined == -(-longest // 20)
    rows = [row for row in table.to_pylist() if row["device"] == "gpu:1"]
    assert len(rows) <= 20
    assert all(row["power_w"] == pytest.approx(200.0) for row in rows)
    assert [row["time_s"] for row in rows] == sorted(row["time_s"] for row in rows)
    assert {row["sm_clock_mhz"] for row in rows} == {None, 1500.0}


def test_labels_that_would_touch_stand_in_rows():
    assert label_rows([5, 12, 14, 20], [2, 2.4, 2.4, 1]) == [0, 0, 1, 0]
    assert label_rows([1, 1, 1], [1, 1, 1]) == [0, 1, 2]
    assert label_rows([], []) == []
