"""Each expectation: records that meet it (the clean study meets all), and at least one record that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gainwatt.record import text_sha256
from gainwatt.study import Layout
from gainwatt.validation import EXPECTATIONS, validate

from .breaks import (
    EVAL,
    NF4,
    PACKAGES,
    TRAIN,
    board,
    changes,
    copied,
    corpora,
    environment,
    flag,
    gate,
    infinite,
    items,
    lose,
    manifest_of_another,
    older,
    on_a_processor,
    rename,
    repeats,
    rewrite,
    same_effective,
    times,
)
from .records import dense_sha, edit


def of(found):
    return {(finding.severity, finding.check, finding.file) for finding in found}


BREAKS = [
    ("complete", "error", EVAL, lambda study: Layout.of(study).record(*EVAL).unlink()),
    ("readable", "error", EVAL, rewrite(EVAL, '{"kind": "gainwatt-record", "sta')),
    ("readable", "error", EVAL, rewrite(EVAL, '{"accuracy": 0.5}')),
    ("readable", "error", EVAL, rewrite(EVAL, "[1e999]")),
    ("readable", "error", EVAL, lambda study: edit(study, *EVAL, lambda record: record.update(schema_version=0))),
    ("readable", "error", EVAL, lambda study: edit(study, *EVAL, lambda record: record.update(study="another"))),
    ("readable", "error", EVAL, changes(EVAL, inputs={"checkpoint": "abc"})),
    ("readable", "error", EVAL, changes(EVAL, energy={"devices": {"gpu": 1}})),
    ("readable", "error", EVAL, changes(EVAL, energy={"phase_totals": [{"path": "load"}]})),
    ("known_cell", "warning", ("evaluate_gsm8k", "grpo-s9.fp32"), copied(EVAL, "evaluate_gsm8k", "grpo-s9.fp32")),
    ("place", "error", ("evaluate_gsm8k", "base.bnb-nf4"), copied(EVAL, "evaluate_gsm8k", "base.bnb-nf4")),
    ("place", "error", ("quantize", "grpo-s0.fp32"), rename(EVAL, "quantize", "grpo-s0.fp32")),
    ("duplicate_cell", "error", ("evaluate_gsm8k", "grpo-s0.fp32.b"), copied(EVAL, "evaluate_gsm8k", "grpo-s0.fp32.b")),
    (
        "same_checkpoint", "error", ("train_grpo", "grpo-s1"),
        changes(("train_grpo", "grpo-s1"), outputs={"checkpoint": {"sha256": dense_sha("grpo-s0")}}),
    ),
    ("not_measured", "info", EVAL, lambda study: edit(study, *EVAL, lambda r: r.update(status="oom", reason="80 GiB"))),
    ("duplicate_item", "error", EVAL, items(index=lambda row: row["index"] // 2)),
    ("settings_hash", "error", EVAL, older(**{"model.dtype": "bf16"})),
    ("settings_hash", "error", EVAL, changes(EVAL, settings={"model.dtype": "bf16"})),
    ("checkpoint_chain", "error", EVAL, changes(EVAL, inputs={"checkpoint": {"sha256": "0" * 64}})),
    (
        "checkpoint_chain", "error", NF4,
        changes(NF4, inputs={"checkpoint": {"sha256": text_sha256("grpo-s0.bnb-nf4"), "parent_sha256": "0" * 64}}),
    ),
    ("checkpoint_chain", "error", TRAIN, changes(TRAIN, inputs={"base": {"sha256": "0" * 64}})),
    ("manifest", "error", ("quantize", "base.bnb-nf4"), manifest_of_another),
    ("data_hash", "error", ("prepare_data", "data"), lambda study: Layout.of(study).data("train").write_text("other")),
    ("data_hash", "error", TRAIN, changes(TRAIN, inputs={"data": {"sha256": "0" * 64}})),
    ("same_data", "error", EVAL, changes(EVAL, inputs={"data": {"sha256": "0" * 64}})),
    ("same_data", "error", EVAL, corpora),
    ("sidecars", "error", EVAL, lose("items")),
    ("sidecars", "error", EVAL, lambda study: Layout.of(study).sidecar(*EVAL, "items").write_bytes(b"PAR1")),
    ("sidecars", "warning", EVAL, changes(EVAL, outputs={"trace": {"file": "gone.parquet", "sha256": "0" * 64}})),
    ("parse_rate", "warning", EVAL, changes(EVAL, metrics={"parse_rate": 0.9})),
    ("parse_rate", "error", EVAL, changes(EVAL, metrics={"parse_rate": 0.1})),
    ("hit_max_rate", "warning", EVAL, changes(EVAL, metrics={"hit_max_new_tokens_rate": 0.2})),
    ("hit_max_rate", "error", EVAL, changes(EVAL, metrics={"hit_max_new_tokens_rate": 0.9})),
    ("recomputed", "error", EVAL, changes(EVAL, metrics={"accuracy": 0.123})),
    ("recomputed", "error", EVAL, items(correct=lambda row: not row["correct"])),
    ("recomputed", "error", EVAL, items(finish_reason=lambda row: "length")),
    ("item_count", "error", EVAL, changes(EVAL, metrics={"num_examples": 19})),
    ("same_questions", "error", EVAL, items(prompt_sha256=lambda row: text_sha256(f"please: {row['index']}"))),
    ("same_generation", "error", EVAL, same_effective(max_new_tokens=128)),
    ("same_generation", "warning", EVAL, same_effective(batch_size=4)),
    ("below_power_limit", "error", EVAL, board(gross_j=10_000.0)),
    (
        "below_power_limit", "error", EVAL,
        lambda study: edit(study, *EVAL, lambda r: r["energy"]["phase_totals"][1].update(gross_j=9_000.0)),
    ),
    ("above_idle", "warning", EVAL, board(idle_before_w=400.0)),
    ("above_idle", "error", EVAL, board(gross_j=0.0)),
    ("energy_adds_up", "error", EVAL, board(mean_w=200.0)),
    ("energy_adds_up", "error", EVAL, board(net_j=5_000.0)),
    ("energy_adds_up", "error", EVAL, changes(EVAL, energy={"by_boundary": {"gpu_board": {"gross_j": 1.0}}})),
    (
        "phases_fit", "error", EVAL,
        lambda study: edit(study, *EVAL, lambda r: r["energy"]["phase_totals"][0].update(seconds=20.0)),
    ),
    ("counter_and_integral", "warning", EVAL, board(counter_j=4400.0)),
    ("energy_marks", "warning", EVAL, flag("foreign_processes")),
    ("energy_marks", "info", EVAL, flag("gap")),
    ("throughput", "error", EVAL, changes(EVAL, metrics={"throughput_tok_s": 40.0})),
    ("throughput", "error", EVAL, changes(EVAL, metrics={"completion_tokens_mean": 12.0})),
    ("generation_time", "error", EVAL, changes(EVAL, metrics={"generate_s": 20.0, "throughput_tok_s": 10.0})),
    (
        "warm_start_of_generation", "warning", EVAL,
        changes(EVAL, metrics={"first_batch_step_ms": 100.0, "second_batch_step_ms": 15.0}),
    ),
    ("training_time", "error", TRAIN, changes(TRAIN, metrics={"update_s": 1.0})),
    ("training_time", "error", TRAIN, changes(TRAIN, metrics={"rollouts_per_min": 53.3})),
    ("gpu_memory", "error", EVAL, changes(EVAL, metrics={"allocated_after_load_mib": 1.0})),
    ("gpu_memory", "error", EVAL, changes(EVAL, metrics={"peak_allocated_mib": 2.0})),
    ("gpu_memory", "error", EVAL, changes(EVAL, metrics={"peak_allocated_mib": 90_000.0})),
    ("clock", "error", EVAL, times(ended_at="2026-11-21T09:00:00+00:00")),
    ("clock", "error", EVAL, times(ended_at="2026-11-21T10:30:01+00:00")),
    ("clock", "error", EVAL, times(started_at="yesterday")),
    ("order", "warning", EVAL, times(started_at="2026-11-21T10:01:00Z")),
    (
        "one_environment", "error", EVAL,
        lambda study: edit(study, *EVAL, lambda r: r["energy"]["devices"][0].update(name="Another board")),
    ),
    ("one_environment", "error", EVAL, board(power_limit_w=450.0)),
    ("one_environment", "info", EVAL, board(uuid="GPU-the-other-one")),
    ("one_environment", "error", EVAL, changes(EVAL, energy={"boundary": ["gpu_board", "cpu_package"]})),
    ("one_environment", "warning", EVAL, environment(packages=PACKAGES | {"torch": "2.12.0"})),
    ("one_environment", "info", EVAL, environment(packages=PACKAGES | {"numpy": "2.3.0"})),
    ("one_environment", "warning", EVAL, environment(git={"commit": "d" * 40, "changed": False})),
    ("committed_code", "warning", EVAL, environment(git={"commit": "c" * 40, "changed": True})),
    ("possible_numbers", "error", EVAL, changes(EVAL, metrics={"load_s": -1.0})),
    ("possible_numbers", "error", EVAL, changes(EVAL, metrics={"parse_rate": 1.5})),
    ("possible_numbers", "error", EVAL, board(temperature_after_c=900.0)),
    ("possible_numbers", "error", EVAL, infinite),
    ("null_reasons", "error", EVAL, changes(EVAL, metrics={"reference_ppl": None})),
    ("gates", "warning", EVAL, gate(False)),
    ("repeats_agree", "warning", ("evaluate_gsm8k", "base.fp32"), repeats([20.0, 22.0])),
]  # fmt: skip


def test_a_clean_study_meets_every_expectation(study):
    assert validate(study, Layout.of(study)) == []


@pytest.mark.parametrize(
    ("check", "severity", "where", "damage"), BREAKS, ids=[f"{place}-{entry[0]}" for place, entry in enumerate(BREAKS)]
)
def test_a_record_that_breaks_it_is_found_and_named(study, check, severity, where, damage):
    damage(study)
    found = validate(study, Layout.of(study))
    assert (severity, check, f"records/{where[0]}/{where[1]}.json") in of(found)
    mine = [finding for finding in found if finding.check == check]
    assert all(finding.what and (finding.hint or finding.severity == "info") for finding in mine)
    assert "the check cannot be made" not in " ".join(f.what for f in mine if f.check != "clock")


ELSEWHERE = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")} | {"llamacpp"}
"""Modules, such as those of optional branches, whose expectations have a test file of their own."""


def test_every_expectation_is_broken_by_some_record_here():
    modules = {name: (e.on_record or e.on_study).__module__.rpartition(".")[2] for name, e in EXPECTATIONS.items()}
    assert {check for check, *_ in BREAKS} == {name for name, module in modules.items() if module not in ELSEWHERE}


@pytest.mark.parametrize(
    "harmless",
    [
        gate(True),
        changes(EVAL, metrics={"first_batch_step_ms": 20.0, "second_batch_step_ms": 15.0}),
        on_a_processor(first_batch_step_ms=100.0, second_batch_step_ms=15.0),
        repeats([20.0, 20.01, 20.02]),
        changes(EVAL, metrics={"resumed_items": 5, "generate_s": 20.0, "throughput_tok_s": 10.0}),
        board(counter_j=None, integral_j=None, mean_w=None),
        lambda study: [
            edit(
                study,
                EVAL[0],
                f"{variant}.bnb-nf4",
                lambda r: r["settings"]["effective"].update(kernels={"Linear4bit": 28}),
            )
            for variant in ("base", "grpo-s0", "grpo-s1")
        ],
        lambda study: Layout.of(study).data("test").unlink(),
        lambda study: (Layout.of(study).record(*EVAL).parent / ".half-written.json").write_text("{"),
    ],
)
def test_what_is_harmless_is_not_found(study, harmless):
    harmless(study)
    assert validate(study, Layout.of(study)) == []


def test_a_broken_record_does_not_hide_the_others(study):
    rewrite(EVAL, "{")(study)
    changes(NF4, metrics={"parse_rate": 0.1})(study)
    changes(("quantize", "base.bnb-nf4"), environment={"packages": []})(study)
    checks = {(check, file.rpartition("/")[2]) for _, check, file in of(validate(study, Layout.of(study)))}
    assert {("readable", "grpo-s0.fp32.json"), ("parse_rate", "grpo-s0.bnb-nf4.json")} <= checks
    assert ("readable", "base.bnb-nf4.json") in checks


def test_a_part_of_another_shape_is_a_finding_of_the_check_that_needs_it(study):
    changes(TRAIN, metrics={"steps": 10}, settings={"x": 1})(study)
    changes(EVAL, environment={"gpus": [5]})(study)
    found = [f for f in validate(study, Layout.of(study)) if "the check cannot be made" in f.what]
    assert {f.severity for f in found} == {"error"}
    assert "gpu_memory" in {f.check for f in found}


def test_findings_are_in_one_order_and_the_same_each_time(study):
    for damage in (changes(EVAL, metrics={"parse_rate": 0.1}), flag("gap"), flag("short"), lose("items")):
        damage(study)
    first = validate(study, Layout.of(study))
    assert first == validate(study, Layout.of(study))
    assert first == sorted(first, key=lambda finding: finding.order)
    assert first[0].severity == "error"


def test_thresholds_come_from_the_study(study):
    changes(EVAL, metrics={"parse_rate": 0.9})(study)
    relaxed = study.model_copy(update={"validation": study.validation.model_copy(update={"parse_rate_warning": 0.8})})
    checks = {finding.check for finding in validate(relaxed, Layout.of(relaxed))}
    assert "parse_rate" not in checks
