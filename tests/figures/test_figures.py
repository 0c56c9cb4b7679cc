"""Figures are made of records alone, and are the same bytes for the same records."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib import pyplot

from factories import ROOT, study_content, write_all_records, write_evaluation, write_training
from gainwatt.figures import accuracy, codes, energy, outliers, paired, power, style, training, weights
from gainwatt.figures.describe import TEXTS, describe, reason, sources
from gainwatt.figures.describe_weights import WEIGHT_TEXTS
from gainwatt.record import file_sha256
from gainwatt.study import Cell, Layout, Study
from gainwatt.study.branches import BRANCHES
from gainwatt.tables.accuracy import difference, paired_effects
from gainwatt.tables.results import Results

FIGURES = {
    "accuracy": accuracy.accuracy,
    "gain_survival": accuracy.survival,
    "paired_changes": paired.paired_changes,
    "training": training.training,
    "layer_errors": weights.layer_errors,
    "outlier_maps": outliers.outlier_maps,
    "code_flips": codes.code_flips,
    "scheme_bytes": codes.scheme_bytes,
    "energy_latency": energy.energy_latency,
    "power_trace": power.power_trace,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    study = Study.model_validate(study_content(folder, train={"seeds": [0, 1]}))
    write_all_records(study)
    return Results.load(study, Layout.of(study))


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def drawn():
    """What scripts/make_figures.py draws."""
    spec = importlib.util.spec_from_file_location("make_figures", ROOT / "scripts" / "make_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FIGURES


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


@pytest.mark.parametrize(
    "name", ["gain_survival", "paired_changes", "training", "layer_errors", "energy_latency", "power_trace"]
)
def test_without_records_there_is_no_figure(bare, name):
    assert FIGURES[name](bare) is None


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_accuracy_shows_every_measured_cell(results):
    figure = accuracy.accuracy(results)
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in axes.get_xticklabels()] == ["fp32", "bnb-nf4"]
    assert labels(legend) == ["base", "grpo-s0", "grpo-s1"]
    rows = {row["label"]: row for row in accuracy.accuracy_matrix(results)}
    drawn = axes.containers[0].lines[0].get_ydata()
    assert list(drawn) == [100 * rows["base.fp32"]["accuracy"], 100 * rows["base.bnb-nf4"]["accuracy"]]
    assert "n = 40" in axes.get_title("left")


def test_accuracy_of_an_unfinished_study(bare):
    figure = accuracy.accuracy(bare)
    assert labels(figure.legends[0]) == ["base"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["missing"]


def test_a_cell_that_did_not_fit_stands_there_with_its_status(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    write_all_records(study)
    write_evaluation(study, Cell("grpo-s0", "bnb-nf4"), status="oom", reason="x", metrics={}, outputs={})
    axes = accuracy.accuracy(Results.load(study, Layout.of(study))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["oom"]


@pytest.fixture
def many(tmp_path):
    """More trained variants than a figure can show apart."""
    study = Study.model_validate(study_content(tmp_path, train={"seeds": list(range(8))}))
    write_all_records(study, n=12)
    return Results.load(study, Layout.of(study))


def test_many_variants_are_shown_together(many):
    figure = accuracy.accuracy(many)
    assert labels(figure.legends[0]) == ["base", "8 trained variants: mean, lowest and highest"]
    rows = [row["accuracy"] for row in accuracy.accuracy_matrix(many) if row["variant"] != "base"][::2]
    assert figure.axes[0].containers[1].lines[0].get_ydata()[0] == pytest.approx(100 * sum(rows) / len(rows))
    assert labels(accuracy.survival(many).legends[0]) == ["all training seeds", "margin −2 points"]
    assert labels(training.training(many).legends[0])[0] == "8 trained variants"
    assert labels(energy.energy_latency(many).legends[0])[:2] == ["base", "8 trained variants"]
    assert "8 trained variants" in describe(many, "accuracy", figure)["caption"]
    shown = labels(codes.code_flips(many).axes[0].get_legend())
    assert len(shown) == 2
    assert shown[1] == f"noise as large as {shown[0]}"


def test_a_variant_has_one_colour_everywhere(results):
    wanted = style.colour(results.study, "grpo-s1")
    assert accuracy.accuracy(results).axes[0].containers[2].lines[0].get_color() == wanted
    curves = training.training(results).axes[0].collections[-1]
    assert tuple(curves.get_colors()[1][:3]) == _rgb(wanted)
    bars = paired.paired_changes(results).axes[0].patches
    tints = {style.tint(style.colour(results.study, v), share) for v in COLOURED for share in (0.25, 0.55)}
    assert {bar.get_facecolor()[:3] for bar in bars} == {_rgb(tint) for tint in tints}
    drawn = {line.get_color() for line in energy.energy_latency(results).axes[0].lines}
    assert drawn == {style.colour(results.study, v) for v in COLOURED}
    assert len(drawn) == 3


COLOURED = ("base", "grpo-s0", "grpo-s1")


def _rgb(colour):
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def test_accuracy_where_every_cell_failed(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    write_evaluation(study, Cell("base", "fp32"), status="oom", reason="x", metrics={}, outputs={})
    results = Results.load(study, Layout.of(study))
    assert accuracy.accuracy(results) is None


def test_survival_has_a_row_per_scheme_and_a_point_per_seed(results):
    figure = accuracy.survival(results)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["bnb-nf4"]
    assert labels(figure.legends[0]) == ["all training seeds", "grpo-s0", "grpo-s1", "margin −2 points"]
    low, high = axes.get_xlim()
    assert low < -2 < 0 < high


def test_paired_changes_counts_items(results):
    axes = paired.paired_changes(results).axes[0]
    rows, count = paired.drawn_rows(results)
    assert count == len(rows) == len(paired_effects(results))
    assert [text.get_text() for text in axes.get_yticklabels()] == [row["to"] for row in reversed(rows)]
    assert [text.get_text() for text in axes.texts] == [f"+{r['improved']} / −{r['worsened']}" for r in reversed(rows)]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:2] == [100 * rows[-1]["improved"] / 40, -100 * rows[-1]["worsened"] / 40]


def test_no_more_pairs_are_worked_out_than_are_drawn(results, monkeypatch):
    monkeypatch.setattr(paired, "ROWS", 1)
    asked = []
    monkeypatch.setattr(paired, "difference", lambda *pair: asked.append(pair) or difference(*pair))
    figure = paired.paired_changes(results)
    assert len(asked) == 1 == len(figure.axes[0].get_yticklabels())
    assert "The first 1 of 3 cells are drawn." in describe(results, "paired_changes", figure)["caption"]


def test_a_hatch_stands_out_from_its_face(results):
    """SVG draws the hatch of a translucent face in the colour of the face."""
    for bar in paired.paired_changes(results).axes[0].patches[1::2]:
        assert (bar.get_alpha(), bar.get_hatch()) == (None, "////")
        assert bar.get_facecolor() != bar.get_edgecolor()


def test_equal_values_have_bars_of_no_length_and_none_below_it():
    mean = sum([0.1] * 3) / 3  # a little above 0.1
    assert style.whiskers([(mean, 0.1, 0.1), (0.5, 0.6, 0.9)]) == [[mean - 0.1, 0.0], [0.0, 0.4]]


def test_single_seeds_do_not_hide_each_other(results):
    lines = accuracy.survival(results).axes[0].lines
    places = [line.get_ydata()[0] for line in lines if line.get_markersize() == 4]
    assert len(places) == len(set(places)) >= 2


def test_energy_is_per_correct_answer_over_time_per_item(results):
    axes = energy.energy_latency(results).axes[0]
    base = next(row for row in energy.per_correct_answer(results) if row["variant"] == "base")
    assert axes.lines[0].get_ydata()[0] == base["gross_j_per_correct"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(1000 * 12.5 / 40)
    assert "(J)" in axes.get_ylabel()
    assert "(ms" in axes.get_xlabel()


def test_training_has_a_line_per_seed(results):
    figure = training.training(results)
    reward, length, seconds = figure.axes
    assert labels(figure.legends[0]) == ["grpo-s0", "grpo-s1", "rollout (right panel)", "update"]
    for axes in (reward, length, seconds):
        assert [len(lines.get_segments()) for lines in axes.collections] == [2, 2]


def test_a_run_that_did_not_fit_is_left_out(tmp_path):
    study = Study.model_validate(study_content(tmp_path, train={"seeds": [0, 1]}))
    write_evaluation(study, Cell("base", "fp32"))
    write_training(study, "grpo-s1")
    figure = training.training(Results.load(study, Layout.of(study)))
    assert labels(figure.legends[0])[0] == "grpo-s1"


@pytest.mark.parametrize(
    ("values", "means"), [([], []), ([1.0, 3.0], [1.0, 2.0]), ([2.0] * 12 + [12.0], [2.0] * 12 + [3.0])]
)
def test_running_mean(values, means):
    assert training._running_mean(values) == means


def test_power_is_of_the_job_that_used_most(results):
    figure = power.power_trace(results)
    assert figure.axes[0].get_title("left").startswith("Power of evaluate_gsm8k")
    said = labels(figure.legends[0])
    assert said[0].startswith("gpu0: mean 9")
    assert said[1:] == ["load: 2 s, 100 J", "generate: 12.5 s, 1250 J", "between phases, idle"]


@pytest.mark.parametrize("limit", [100.0, 700.0])
def test_power_stands_beside_the_limit(tmp_path, limit):
    study = Study.model_validate(study_content(tmp_path))
    environment = {"python": "3.11", "gpus": [{"power_limit_w": limit}]}
    write_evaluation(study, Cell("base", "fp32"), environment=environment)
    axes = power.power_trace(Results.load(study, Layout.of(study))).axes[0]
    (text,) = axes.texts
    assert text.get_text().startswith(f"power limit {limit:g} W")
    assert (axes.get_ylim()[1] > limit) == (limit == 100.0)


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_has_words_and_sources(results, name):
    texts = describe(results, name, FIGURES[name](results))
    assert set(texts) == {"title", "caption", "alt"}
    assert all(len(texts[key]) > 10 for key in texts)
    kinds = {"training": "train_grpo", "power_trace": "any metered job", "scheme_bytes": "quantize"}
    stage = kinds.get(name, "diagnose_weights" if name in WEIGHT_TEXTS else "evaluate_gsm8k")
    found = sources(results, name, stage)
    counts = {"training": 2, "power_trace": 1, "scheme_bytes": 3} | dict.fromkeys(
        WEIGHT_TEXTS.keys() - {"scheme_bytes"}, 3
    )
    assert len(found) == counts.get(name, 6)
    for entry in found:
        assert entry["sha256"] == file_sha256(results.folder.parent / entry["path"])


def test_every_figure_that_the_script_draws_has_words_of_its_own():
    assert set(TEXTS) == set(drawn())
    assert set(FIGURES) == {name for name, (_, stage) in drawn().items() if stage not in BRANCHES}


def test_a_figure_without_words_of_its_own_takes_those_of_its_axes(results):
    texts = describe(results, "another", weights.layer_errors(results))
    assert "error" in texts["title"]
    assert texts["alt"]


def test_why_there_is_no_energy(bare):
    assert reason(bare, "energy_latency", "evaluate_gsm8k") == (
        "no cell has joules per correct answer: no meter on this machine"
    )
    assert reason(bare, "training", "train_grpo") == "no record of train_grpo holds what it needs"
