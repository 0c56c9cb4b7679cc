"""Charts as drawings: right places, right words, nothing unescaped."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.report import charts, svg
from gainwatt.report.curves import running_mean
from gainwatt.report.linechart import MAX_POINTS, Line, line_chart, thinned
from gainwatt.report.page import asset
from gainwatt.report.rowchart import MAX_ROWS, NARROW, NEUTRAL, WIDE, Axis, Mark, Row, Zone, row_chart


def drawings(markup):
    return list(ElementTree.fromstring(f"<all>{markup}</all>"))  # noqa: S314 - our own drawing


def marks(drawing):
    return [element for element in drawing.iter() if element.get("class") == "mark"]


@given(st.text())
def test_whatever_somebody_wrote_is_one_text(text):
    plain = "".join(c for c in text if c == "\n" or c == "\t" or (ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000))
    plain = plain.replace("\ufffe", "").replace("\uffff", "")
    root = ElementTree.fromstring(svg.tag("text", plain, title=plain))  # noqa: S314 - our own drawing
    assert (root.text or "") == plain
    assert root.get("title").replace(" ", "").replace("\n", "") == plain.replace("\n", "").replace("\t", "").replace(
        " ", ""
    )


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 9))
def test_ticks_are_round_and_inside(low, width, about):
    high = low + width
    found = svg.ticks(low, high, about)
    assert all(low - width * 1e-6 - abs(low) * 1e-9 <= tick <= high + width * 1e-6 + abs(high) * 1e-9 for tick in found)
    assert len(found) <= about + 2


def test_a_mark_stands_where_its_value_is():
    rows = [Row("a", (Mark(5.0, "five", NEUTRAL, 2.5, 7.5),)), Row("b", text="out of memory", tone="oom")]
    wide, narrow = drawings(row_chart("t", rows, Axis("x", 0, 10, [(5, "zero")], [Zone(2, None, "safe", "here")])))
    for drawing, width in ((wide, WIDE), (narrow, NARROW)):
        assert drawing.get("viewBox").split()[2] == str(width)
        rule = next(e for e in drawing.iter("line") if e.get("class") == "rule zero")
        mark = marks(drawing)[0]
        dot = next(e for e in mark.iter("path") if e.get("class").startswith("dot"))
        assert float(dot.get("d")[1:].split()[0]) + 5 == pytest.approx(float(rule.get("x1")), abs=0.2)
        assert mark.get("tabindex") == "0"
        assert mark.get("aria-label") == mark.find("title").text == "five"
        assert "out of memory" in "".join(drawing.itertext())


def test_many_rows_are_cut():
    rows = [Row(str(i), (Mark(1.0, "x"),)) for i in range(MAX_ROWS + 20)]
    assert len(marks(drawings(row_chart("t", rows, Axis("x", 0, 2)))[0])) == MAX_ROWS


def test_accuracy_names_what_was_not_measured(study):
    rows = [
        {"variant": "base", "precision": "fp32", "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6,
         "correct": 5, "num_examples": 10},
        {"variant": "base", "precision": "bnb-nf4", "accuracy": None, "status": "oom"},
    ]  # fmt: skip
    text = "".join(drawings(charts.accuracy(study, rows).drawing)[0].itertext())
    assert "base, fp32: 50.0 % [40.0, 60.0], 5 of 10 items" in text
    assert "out of memory" in text
    assert text.count("not measured yet") == 2
    assert charts.accuracy(study, rows[1:]) is None


def test_energy_is_split_into_net_and_idle_or_not_at_all(study):
    rows = [
        {"variant": "base", "scheme": "fp32", "gross_j_per_correct": 10.0, "net_j_per_correct": 6.0,
         "s_per_correct": 1.0},
        {"variant": "base", "scheme": "bnb-nf4", "gross_j_per_correct": 8.0, "net_j_per_correct": None,
         "s_per_correct": None},
    ]  # fmt: skip
    energy, time = charts.costs(study, rows)
    tips = [mark.get("aria-label") for mark in marks(drawings(energy.drawing)[0])]
    assert tips == [
        "base, fp32: net 6 J per correct answer",
        "base, fp32: gross 10 J, of it idle power × time 4 J",
        "base, bnb-nf4: 8 J per correct answer",
    ]
    assert "not measured" in "".join(drawings(time.drawing)[0].itertext())
    assert charts.costs(study, [{"variant": "base", "scheme": "fp32"}]) == []


def test_many_jobs_are_summed_by_stage():
    rows = [{"stage": "s", "cell": str(i), "gross_j": 2.0, "net_j": 1.0 if i else None} for i in range(40)]
    label = marks(drawings(charts.energy(rows).drawing)[0])[0].get("aria-label")
    assert label == "40 jobs: gross 80 J; net not known"
    assert charts.energy([{"stage": "s", "cell": "c", "gross_j": None}]) is None


def test_curves_carry_their_values_and_keep_gaps():
    lines = [Line("a", [1, 2, 3], [1.0, None, 2.0], 0), Line("raw", [1, 2, 3], [1.0, 5.0, 2.0], 0, faint=True)]
    (drawing,) = drawings(line_chart("t", lines, "step", "reward"))
    data = json.loads(drawing.get("data-lines"))
    assert data["lines"] == [{"name": "a", "x": [1, 2, 3], "y": [1.0, None, 2.0]}]
    path = next(e for e in drawing.iter("path") if e.get("class") == "line s0")
    assert path.get("d").count("M") == 2
    assert line_chart("t", [Line("a", [1], [None], 0)], "step", "reward") == ""


def test_running_mean_and_thinning():
    assert running_mean([1.0, None, 3.0, 5.0], 2) == [1.0, 1.0, 3.0, 4.0]
    assert running_mean([None]) == [None]
    x, y = thinned([float(i) for i in range(1000)], [float(i) for i in range(1000)])
    assert len(x) == MAX_POINTS
    assert (x[0], x[-1], x == y) == (0.0, 999.0, True)


def test_a_variant_has_the_colour_and_symbol_of_the_figures(study):
    from gainwatt.figures.style import COLOURS, MARKERS, colour
    from gainwatt.study import variants

    css = asset("base.css")
    for place, variant in enumerate(variants(study)):
        series = charts.series_of(study, variant)
        if variant != "base":
            assert colour(study, variant) == COLOURS[series]
        shape = {0: "o", 1: "s", 2: "^", 3: "D"}[0 if series == NEUTRAL else (series + 1) % 4]
        assert shape == MARKERS[place]
    assert f"--s0: {COLOURS[0].lower()}" in css
