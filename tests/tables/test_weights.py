"""Tables of the weight diagnoses, from synthetic records with known numbers."""

from __future__ import annotations

import json

import pytest

from factories import study_content, write_all_records, write_diagnosis, write_study
from gainwatt.errors import RecordError
from gainwatt.study import Cell, Layout, Study, load_study
from gainwatt.tables import weights as tables
from gainwatt.tables.results import Results
from gainwatt.tables.stages import quantization
from gainwatt.tables.weights import changes_section, place_of, weight_changes, weight_errors, weight_layers, weights


@pytest.fixture
def controlled(tmp_path) -> Study:
    """A study with the supervised control, all its records there."""
    study = load_study(write_study(tmp_path, study_content(tmp_path, diagnose={"sft_control": True})))
    write_all_records(study)
    write_diagnosis(study, "sft-s0")
    return study


def load(study: Study) -> Results:
    return Results.load(study, Layout.of(study), allow_stale=True)


def test_stored_flips_are_compared_with_noise_in_the_matrices_that_are_quantized(monkeypatch):
    layers = [
        {"module_name": "q", "numel": 10, "random_code_flip_frac_fp8": 0.1},
        {"module_name": "k", "numel": 30, "random_code_flip_frac_fp8": 0.5},
        {"module_name": "lm_head", "numel": 1000, "random_code_flip_frac_fp8": 0.9},
    ]
    monkeypatch.setattr(tables, "layer_table", lambda record: layers)
    monkeypatch.setattr(tables, "stored_table", lambda record: {"fp8": {"q": 0.01, "k": 0.01}})
    record = {"metrics": {"random_code_flip_frac_fp8": 0.8}}
    assert tables._noise_of_stored(record, "fp8") == pytest.approx(0.4)
    assert tables._noise_of_stored(record, "bnb-nf4") is None


def test_flips_of_the_training_and_of_both_controls(controlled):
    rows = weight_changes(load(controlled))
    nf4 = {(row["kind"], row["change"], row["source"]): row for row in rows if row["scheme"] == "bnb-nf4"}
    assert nf4["GRPO", "grpo-s0", "computed"]["code_flip_frac"] == 0.03
    assert nf4["SFT", "sft-s0", "computed"]["flips_over_random"] == pytest.approx(1.5)
    assert nf4["random", "noise as large as grpo-s0", "computed"]["code_flip_frac"] == 0.02
    stored = nf4["GRPO", "grpo-s0", "stored"]
    assert (stored["code_flip_frac"], stored["flips_over_random"]) == (0.04, pytest.approx(2.0))
    assert (stored["quantized_change_ratio"], stored["quantized_change_cosine"]) == (5.0, 0.2)
    assert not any(row["change"] == "base" for row in rows)
    assert not any(source == "stored" and change == "sft-s0" for _, change, source in nf4)


def test_the_section_says_how_to_read_it(controlled):
    results = load(controlled)
    text = changes_section(results, weight_changes(results))
    assert "sft-s0" in text
    assert "noise as large as grpo-s0" in text
    assert "Reading: near 1 in *times random*" in text
    assert changes_section(results, []) == ""


def test_stored_errors_stand_beside_the_proxy(controlled):
    rows = {(row["variant"], row["scheme"], row["source"]): row for row in weight_errors(load(controlled))}
    assert rows["base", "symmetric-w4", "computed"]["relative_mse"] == 0.012
    assert rows["grpo-s0", "symmetric-w4", "computed"]["error_over_base"] == pytest.approx(1.25)
    assert rows["base", "bnb-nf4", "stored"]["relative_mse"] == 0.009
    assert rows["base", "bnb-nf4", "stored"]["snr_db"] == pytest.approx(20.4576, abs=1e-4)
    assert ("sft-s0", "bnb-nf4", "stored") not in rows


def test_a_stored_error_that_was_not_measured_has_its_reason(controlled):
    path = Layout.of(controlled).record("diagnose_weights", "base")
    record = json.loads(path.read_text())
    record["metrics"]["stored_relative_mse_bnb_nf4"] = None
    record["null_reasons"]["stored_relative_mse_bnb_nf4"] = "no such format"
    path.write_text(json.dumps(record))
    (row,) = [r for r in weight_errors(load(controlled)) if (r["variant"], r["source"]) == ("base", "stored")]
    assert (row["relative_mse"], row["null_reason"]) == (None, "no such format")


def test_one_row_per_matrix_with_its_place(controlled):
    rows = [row for row in weight_layers(load(controlled)) if row["variant"] == "base"]
    assert [(row["layer"], row["module"]) for row in rows[:2]] == [(0, "q_proj"), (0, "down_proj")]
    assert rows[0]["stored_relative_mse_bnb_nf4"] == 0.009
    assert place_of("lm_head") == {"layer": None, "module": "lm_head"}


def test_another_quantized_checkpoint_is_refused(controlled):
    path = Layout.of(controlled).record("diagnose_weights", "base")
    record = json.loads(path.read_text())
    record["inputs"]["quantized_bnb_nf4"] = {"sha256": "f" * 64}
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="looked at the bnb-nf4 checkpoint ffffffffffff"):
        weights(load(controlled))


def test_another_evaluated_checkpoint_is_refused(controlled):
    found = load(controlled)
    found.diagnoses["base"]["inputs"]["checkpoint"]["sha256"] = "0" * 64
    with pytest.raises(RecordError, match="diagnose the checkpoint that was evaluated"):
        weights(found)


def test_lists_of_a_diagnosis_are_no_columns(controlled):
    rows = weights(load(controlled))
    assert [row["variant"] for row in rows][:2] == ["base", "grpo-s0"]
    assert rows[0]["kurtosis_weighted"] == 3.5
    assert "top_relative_mse" not in rows[0]


def test_the_search_errors_of_a_quantization(controlled):
    found = load(controlled)
    row = quantization(found)[0]
    assert Cell(row["variant"], row["scheme"]) in found.quantizations
    assert (row["search_error_initial_mean"], row["search_error_initial_max"]) == (3.0, 4.0)
    assert (row["search_error_best_mean"], row["search_error_best_max"], row["search_layers"]) == (1.5, 2.0, 2)
    assert row["search_error_best_over_initial_mean"] == 0.5
