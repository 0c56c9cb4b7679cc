"""The serving benchmark's figures from a synthetic grid: what is drawn, in which words, and from which lengths."""

from __future__ import annotations

import pytest

from factories import study_content
from gainwatt.figures import serving, style
from gainwatt.figures.describe_serving import SERVING_TEXTS
from gainwatt.record import read_record
from gainwatt.study import Layout, Study
from gainwatt.study.serving_cells import STAGE
from gainwatt.tables.results import Results
from serving.bench_records import SERVE, write_grid

FIGURES = {"latency": 2, "energy": 2, "goodput": 2, "roofs": 1}


def results_of(folder, *, matrix=True, **serve):
    quantize = {"reference": "bf16", "schemes": ["awq-w4g128"], "calibration_items": 4}
    study = Study.model_validate(study_content(folder, matrix=matrix, serve=SERVE | serve, quantize=quantize))
    write_grid(study)
    return Results.load(study, Layout.of(study))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return results_of(tmp_path_factory.mktemp("figures"))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_and_has_words(results, name):
    assert len(getattr(serving, name)(results).axes) == FIGURES[name]
    words = SERVING_TEXTS[f"serving_{name}"](results)
    assert "Prompts of 128 and answers of 128 tokens" in words["caption"] or name == "roofs"
    assert "no number" not in words["alt"]


def test_the_same_records_give_the_same_bytes(results, tmp_path):
    files = []
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        names = style.save(serving.energy(results), tmp_path / run, "energy")
        files.append([(tmp_path / run / name).read_bytes() for name in names])
    assert files[0] == files[1]


def test_a_line_for_every_checkpoint_through_every_batch_size(results):
    axes = serving.energy(results).axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 4
    assert {tuple(line.get_xdata()) for line in lines} == {(1, 16, 64, 256)}
    record = read_record(Layout.of(results.study).record(STAGE, "base.bf16.offline-fixed-b16"))
    assert lines[0].get_ydata()[1] == record["metrics"]["gross_j_per_token"]


def test_a_cell_that_failed_is_not_drawn_and_a_batch_of_one_is_one_point(tmp_path):
    results = results_of(tmp_path, offline={"batch_sizes": [1, 16, 64]})
    record = results.branches[STAGE]["base.bf16.offline-fixed-b16"]
    record["status"], record["reason"] = "failed", "the engine died"
    drawn = {tuple(line.get_xdata()) for line in serving.roofs(results).axes[0].lines}
    assert drawn == {(1, 64), (1, 16, 64)}


def test_natural_lengths_are_drawn_where_there_are_no_fixed_ones(tmp_path):
    results = results_of(tmp_path, lengths=["natural"])
    assert serving.lengths_drawn(results) == "natural"
    assert "study's questions" in SERVING_TEXTS["serving_latency"](results)["caption"]
    assert serving.latency(results) is not None


def test_a_trained_variant_that_a_study_without_matrix_names_has_its_colour(tmp_path):
    results = results_of(tmp_path, matrix=False, variants=["base", "grpo-s0"])
    drawn = {line.get_color() for line in serving.latency(results).axes[0].lines}
    assert {style.BASE_COLOUR, style.TRAINED_COLOURS[0]} <= drawn


def test_without_records_or_joules_nothing_is_drawn(tmp_path):
    study = Study.model_validate(study_content(tmp_path, serve=SERVE))
    empty = Results(study, tmp_path)
    assert [getattr(serving, name)(empty) for name in FIGURES] == [None] * 4
    results = results_of(tmp_path / "dark")
    for record in results.branches[STAGE].values():
        record["metrics"]["gross_j_per_token"] = None
    assert serving.energy(results) is None
