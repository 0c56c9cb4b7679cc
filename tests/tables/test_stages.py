"""Tables of training and quantization."""

from __future__ import annotations

import pytest

from factories import no_energy
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
    assert (row["search_error_initial_mean"], row["search_error_best_mean"]) == (3.0, 1.5)
    assert row["calibration_tokens"] is None


def test_joules_of_training_and_quantization_name_their_method_and_what_is_missing(results):
    rows = [*stages.training(results), *stages.quantization(results)]
    assert rows
    for row in rows:
        assert row["boundary"] == "gpu_board"
        assert row["method"] == "counter"
        assert row["null_reason"] is None
    for record in (*results.trainings.values(), *results.quantizations.values()):
        record["energy"] = no_energy()
    for row in (*stages.training(results), *stages.quantization(results)):
        assert row["null_reason"] == "no meter on this machine"
