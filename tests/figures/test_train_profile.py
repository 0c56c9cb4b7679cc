"""Figures of the training profile and of several machines: made of records alone, the same bytes again."""

from __future__ import annotations

import pytest

from factories import study_content
from gainwatt.figures import machines, style, train_profile
from gainwatt.study import Layout, Study
from gainwatt.tables.results import Results
from train_profiles import write_profile


@pytest.fixture
def study(tmp_path):
    section = {"bases": ["bnb-nf4", "fp16"], "steps": 8, "warmup_steps": 1}
    return Study.model_validate(study_content(tmp_path, matrix=False, train_profile=section))


def results(study, **options):
    for weights in study.train_profile.bases:
        write_profile(study, weights, **options)
    return Results.load(study, Layout.of(study))


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def test_time_energy_and_lengths_are_drawn_and_the_same_bytes_again(study, tmp_path):
    found = results(study)
    contents = []
    for name in ("a", "b"):
        figure = train_profile.train_profile(found)
        assert titles(figure) == ["Time of a step", "Energy of a step", "Length of the rollouts"]
        names = style.save(figure, tmp_path / name, "x")
        contents.append([(tmp_path / name / file).read_bytes() for file in names])
    assert contents[0] == contents[1]


def test_bars_add_up_to_the_parts_and_the_threshold_is_drawn(study):
    found = results(study)
    figure = train_profile.train_profile(found)
    seconds = [patch.get_height() for patch in figure.axes[0].patches]
    metrics = found.branches["profile_training"]["base.bnb-nf4"]["metrics"]
    parts = [metrics[f"{part}_s_mean"] for part in ("rollout", "score", "update", "optimizer")]
    assert seconds[:4] == pytest.approx(parts)
    lines = [line.get_xdata()[0] for line in figure.axes[-1].lines if line.get_linestyle() == "--"]
    assert lines == [384]


def test_without_joules_there_is_no_energy_panel(study):
    figure = train_profile.train_profile(results(study, metered=False))
    assert titles(figure) == ["Time of a step", "Length of the rollouts"]


def test_no_figure_where_no_step_went_well(study):
    assert train_profile.train_profile(results(study, status="oom", reason="no room")) is None


def test_the_words_say_what_the_figure_shows(study):
    text = train_profile.describe(results(study))
    assert "bnb-nf4:" in text["alt"]
    assert "above 384 tokens" in text["alt"]
    assert "95 % interval" in text["caption"]


def ratio(machine, value, *, quantity="latency", low=0.9, high=1.1, workload="batch 1"):
    return {
        "stage": "profile_inference", "workload": workload, "arm": "base.bnb-nf4", "quantity": quantity,
        "baseline": "fp16", "machine": machine, "ratio": value, "ratio_low": low and value and value * low,
        "ratio_high": high and value and value * high,
    }  # fmt: skip


def test_ratios_of_machines_stand_side_by_side(tmp_path):
    rows = [ratio("a", 1.5), ratio("b", 0.8), ratio("a", 1.2, quantity="gross_j_per_token", low=None, high=None)]
    figure = machines.ratios(rows, ["a", "b"])
    assert titles(figure) == ["Time", "Energy (gross)"]
    assert style.save(figure, tmp_path, "x") == ["x.svg", "x.png"]


def test_more_cells_than_fit_are_named():
    rows = [ratio("a", 1.0 + i / 100, workload=f"batch {i}") for i in range(machines.MOST_ROWS + 5)]
    assert titles(machines.ratios(rows, ["a"])) == ["Time (the first 40 of 45)"]


def test_no_figure_without_a_ratio():
    assert machines.ratios([ratio("a", None)], ["a"]) is None
