"""Tables of training, quantization and weights."""

from __future__ import annotations

import pytest

from gainwatt.errors import RecordError
from gainwatt.tables import stages


def test_training_joules_are_per_metered_step(results):
    rows = stages.training(results)
    assert [row["variant"] for row in rows] == ["grpo-s0", "grpo-s1"]
    row = rows[0]
    assert row["gross_j_per_step"] == pytest.approx(3600 / 9)  # 3 of 12 steps were trained before a kill
    assert row["rollout_energy_frac"] == pytest.approx(1 / 3)
    assert row["reward_last"] == 0.42
    assert row["completions"] is None


def test_quantization(results):
    rows = stages.quantization(results)
    assert len(rows) == 6
    row = rows[0]
    assert (row["variant"], row["scheme"]) == ("base", "bnb-nf4")
    assert row["compression_ratio"] == 4.0
    assert (row["quantize_s"], row["quantize_gross_j"]) == (20.0, 800.0)
    assert (row["layer_error_initial_mean"], row["layer_error_best_mean"]) == (3.0, 1.5)
    assert row["calibration_tokens"] is None


def test_weights_leave_lists_out(results):
    rows = stages.weights(results)
    assert [row["variant"] for row in rows] == ["base", "grpo-s0", "grpo-s1"]
    assert rows[0]["kurtosis_weighted"] == 3.5
    assert "top_relative_mse" not in rows[0]


def test_a_diagnosis_of_another_checkpoint_is_refused(results):
    results.diagnoses["base"]["inputs"]["checkpoint"]["sha256"] = "0" * 64
    with pytest.raises(RecordError, match="diagnose the checkpoint that was evaluated"):
        stages.weights(results)
