"""Figures are made of records alone, and are the same bytes for the same records."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from factories import study_content, write_all_records, write_evaluation, write_training
from gainwatt.figures import accuracy, power, style, training, weights
from gainwatt.study import Cell, Layout, Study
from gainwatt.tables.results import Results

FIGURES = {
    "accuracy": accuracy.accuracy,
    "survival": accuracy.survival,
    "training": training.training,
    "layer_errors": weights.layer_errors,
    "power": power.power_trace,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    study = Study.model_validate(study_content(folder, train={"seeds": [0, 1]}))
    write_all_records(study)
    return Results.load(study, Layout.of(study))


@pytest.fixture
def bare(tmp_path):
    """One evaluated cell without meter, and nothing else."""
    study = Study.model_validate(study_content(tmp_path))
    write_evaluation(study, Cell("base", "fp32"), metered=False)
    return Results.load(study, Layout.of(study))


@pytest.mark.parametrize("name", FIGURES)
def test_files_are_well_formed_and_repeat(results, tmp_path, name):
    contents = []
    for run in ("a", "b"):
        assert style.save(FIGURES[name](results), tmp_path / run, name) == [f"{name}.svg", f"{name}.png"]
        contents.append([(tmp_path / run / f"{name}.{kind}").read_bytes() for kind in ("svg", "png")])
    assert contents[0] == contents[1]
    svg, png = contents[0]
    root = ElementTree.fromstring(svg)  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert png.startswith(b"\x89PNG")
    for hidden in (b"dc:date", b"matplotlib"):
        assert hidden not in svg.lower().replace(b"matplotlib.axis", b"")
        assert hidden not in png.lower()


@pytest.mark.parametrize("name", ["survival", "training", "layer_errors", "power"])
def test_without_records_there_is_no_figure(bare, name):
    assert FIGURES[name](bare) is None


def test_accuracy_shows_every_measured_cell(results):
    axes = accuracy.accuracy(results).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["fp32", "bnb-nf4"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "grpo-s0", "grpo-s1"]
    rows = {row["label"]: row for row in accuracy.accuracy_matrix(results)}
    drawn = axes.containers[0].lines[0].get_ydata()
    assert list(drawn) == [100 * rows["base.fp32"]["accuracy"], 100 * rows["base.bnb-nf4"]["accuracy"]]
    assert "n = 40" in axes.get_title("left")


def test_accuracy_of_an_unfinished_study(bare):
    axes = accuracy.accuracy(bare).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base"]


def test_accuracy_where_every_cell_failed(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    write_evaluation(study, Cell("base", "fp32"), status="oom", reason="x", metrics={}, outputs={})
    results = Results.load(study, Layout.of(study))
    assert accuracy.accuracy(results) is None


def test_survival_has_a_row_per_scheme_and_group(results):
    axes = accuracy.survival(results).axes[0]
    assert len(axes.get_yticks()) == 3
    low, high = axes.get_xlim()
    assert low < -2 < 0 < high


def test_training_has_a_line_per_seed(results):
    reward, length, seconds = training.training(results).axes
    assert [text.get_text() for text in reward.get_legend().get_texts()] == ["grpo-s0", "grpo-s1"]
    assert len(seconds.lines) == 4
    assert len(length.lines) == 4


def test_a_run_that_did_not_fit_is_left_out(tmp_path):
    study = Study.model_validate(study_content(tmp_path, train={"seeds": [0, 1]}))
    write_evaluation(study, Cell("base", "fp32"))
    write_training(study, "grpo-s1")
    reward, *_ = training.training(Results.load(study, Layout.of(study))).axes
    assert [text.get_text() for text in reward.get_legend().get_texts()] == ["grpo-s1"]


@pytest.mark.parametrize(
    ("values", "means"), [([], []), ([1.0, 3.0], [1.0, 2.0]), ([2.0] * 12 + [12.0], [2.0] * 12 + [3.0])]
)
def test_running_mean(values, means):
    assert training._running_mean(values) == means


def test_power_is_of_the_job_that_used_most(results):
    axes = power.power_trace(results).axes[0]
    assert axes.get_title("left").startswith("Power of evaluate_gsm8k")
    assert [text.get_text() for text in axes.texts] == ["load", "generate"]
