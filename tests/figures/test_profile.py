"""Figures of the inference profile, from synthetic records."""

from __future__ import annotations

import pytest
from matplotlib import pyplot

from gainwatt.figures.profile import describe_batch, profile_batch, shown
from gainwatt.figures.roofline import describe_roofline, limits, points, profile_roofline
from gainwatt.study import Layout
from gainwatt.tables.results import Results
from profiling.profile_records import profile_study, write_profile


@pytest.fixture(params=[True, False], ids=["metered", "unmetered"])
def results(tmp_path, request):
    study = profile_study(tmp_path)
    write_profile(study, metered=request.param)
    yield Results.load(study, Layout.of(study)), request.param
    pyplot.close("all")


def test_latency_and_energy_over_the_batch(results):
    found, metered = results
    left, right = profile_batch(found).axes
    assert left.get_title("left") == "Latency"
    assert right.get_title("left") == ("Energy" if metered else "Throughput")
    lines = [line for line in right.get_lines() if len(line.get_xdata()) == 2]
    assert len(lines) >= 4
    first = list(lines[0].get_ydata())
    assert first[0] > first[1] if metered else first[0] < first[1]
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "64"]
    text = describe_batch(found)
    assert ("gross joules" in text["caption"]) == metered
    assert "bnb-int8" in text["alt"]


def test_every_point_is_under_its_roof(results):
    found, _ = results
    (axes,) = profile_roofline(found).axes
    assert len(points(found)) == 4 * 2 * 2
    assert limits(found) == {"fp16": (4300.0, 790.0)}
    for _, _, intensity, speed in points(found):
        assert speed < min(intensity * 4300 / 1000, 790)
    assert "FLOP/B" in axes.get_xlabel()
    assert "790" in describe_roofline(found)["alt"]


def test_nothing_is_drawn_without_cells(results):
    found, _ = results
    bare = Results(found.study.model_copy(update={"profile": None}), found.folder)
    assert shown(bare) == {}
    assert profile_batch(bare) is None
    assert profile_roofline(bare) is None
