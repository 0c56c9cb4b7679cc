"""Figures of the weight diagnoses, from synthetic records: what is drawn, and what is left out."""

from __future__ import annotations

import pytest
from matplotlib import pyplot

from factories import study_content, write_all_records, write_diagnosis, write_study
from gainwatt.figures.codes import IN_USE, LOADED, ON_DISK, code_flips, scheme_bytes, shown_bytes
from gainwatt.figures.describe_weights import WEIGHT_TEXTS
from gainwatt.figures.outliers import outlier_maps
from gainwatt.figures.weights import PROXY, layer_errors, logarithmic_where_wide
from gainwatt.study import Cell, Layout, load_study
from gainwatt.tables.results import Results


@pytest.fixture
def results(tmp_path):
    study = load_study(write_study(tmp_path, study_content(tmp_path, diagnose={"sft_control": True})))
    write_all_records(study)
    write_diagnosis(study, "sft-s0")
    yield Results.load(study, Layout.of(study), allow_stale=True)
    pyplot.close("all")


def test_one_panel_for_each_kind_of_module_with_base_and_trained(results):
    figure = layer_errors(results)
    down, q = (axes for axes in figure.axes if axes.get_title("left"))
    assert (down.get_title("left"), q.get_title("left")) == ("down_proj", "q_proj")
    proxy, proxy_trained, nf4, _ = q.get_lines()
    assert list(proxy.get_ydata()) == pytest.approx([1.0, 1.1, 1.2])
    assert list(proxy_trained.get_ydata()) == pytest.approx([1.2, 1.3, 1.4])
    assert list(nf4.get_ydata()) == pytest.approx([0.9] * 3)
    said = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert said == [PROXY, "bnb-nf4", "ring: grpo-s0"]


def test_more_schemes_than_colours_are_told_apart(results, monkeypatch):
    drawn = {"q_proj": {f"scheme-{i}": [(0, 1.0 + i), (1, 2.0)] for i in range(12)}}
    monkeypatch.setattr("gainwatt.figures.weights.shown", lambda results: (drawn, {}))
    figure = layer_errors(results)
    for lines in (figure.axes[0].get_lines(), figure.legends[0].get_lines()):
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12


def test_maps_of_base_and_trained_on_one_scale(results):
    figure = outlier_maps(results)
    images = [image for axes in figure.axes for image in axes.get_images()]
    assert [image.get_array().shape for image in images] == [(2, 3), (2, 3)]
    assert images[0].get_array()[1].tolist() == [4.0, 8.0, 12.0]  # q_proj: 2, 4, 6 over the median 0.5
    assert images[0].get_clim() == images[1].get_clim() == (4.0, 14.0)


def test_flips_of_training_and_controls(results):
    (axes,) = code_flips(results).axes
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    # The trained variant's codes are the stored ones; controls are not quantized.
    assert heights == {
        "grpo-s0": [pytest.approx(4.0)], "sft-s0 (supervised)": [pytest.approx(3.0)],
        "noise as large as grpo-s0": [pytest.approx(2.0)],
    }  # fmt: skip


def test_bytes_on_disk_and_loaded(results):
    (axes,) = scheme_bytes(results).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["unquantized", "bnb-nf4"]
    (disk,) = axes.containers[:1]
    assert [bar.get_width() for bar in disk] == pytest.approx([4000 / 2**20, 1000 / 2**20])


def test_nothing_is_drawn_without_records(results):
    results.diagnoses.clear()
    results.quantizations.clear()
    for figure_of in (layer_errors, outlier_maps, code_flips, scheme_bytes):
        assert figure_of(results) is None


def test_words_tell_what_is_drawn(results):
    said = {name: of(results) for name, of in WEIGHT_TEXTS.items()}
    assert "Largest error of the base: 1.2 % by symmetric 4-bit proxy" in said["layer_errors"]["alt"]
    assert "Rings: grpo-s0" in said["layer_errors"]["caption"]
    assert "at most 14, in down_proj of layer 2" in said["outlier_maps"]["alt"]
    assert "diagnose.outputs" in said["outlier_maps"]["caption"]
    assert "bnb-nf4, grpo-s0: 4 %" in said["code_flips"]["alt"]
    assert "third bar" not in said["scheme_bytes"]["caption"]


def test_what_a_forward_pass_decompresses_is_a_bar_of_its_own(results):
    record = results.quantizations[Cell("base", "bnb-nf4")]
    record["metrics"] |= {"loaded_bytes": 2 * 2**20, "used_bytes": 7 * 2**20, "allocated_after_load_mib": None}
    (axes,) = scheme_bytes(results).axes
    assert [bars.get_label() for bars in axes.containers] == [ON_DISK, LOADED, IN_USE]
    assert axes.containers[2][0].get_width() == 7
    assert "decompressed at the first forward pass" in WEIGHT_TEXTS["scheme_bytes"](results)["caption"]
    record["metrics"]["used_bytes"] = 2 * 2**20
    assert IN_USE not in shown_bytes(results)


@pytest.mark.parametrize(("values", "scale"), [([0.01, 1.4], "log"), ([1.0, 2.0], "linear"), ([0.0, 9.0], "linear")])
def test_a_wide_range_is_drawn_logarithmically(values, scale):
    _, axes = pyplot.subplots()
    assert logarithmic_where_wide(axes, values) == (scale == "log")
    assert axes.get_yscale() == scale
    pyplot.close("all")
