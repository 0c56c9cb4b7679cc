"""The expectations about the serving benchmark: a clean grid meets them, and a record breaks each."""

from __future__ import annotations

import pytest

from factories import study_content
from gainwatt.study import Layout, Study
from gainwatt.study.serving_cells import STAGE
from gainwatt.validation import EXPECTATIONS, validate
from serving.bench_records import SERVE, write_grid

from .records import edit

OFFLINE, ONLINE = "base.bf16.offline-fixed-b16", "base.bf16.online-fixed-c16"
NATURAL, SEARCH = "base.bf16.offline-natural-b16", "base.bf16.online-fixed-capacity"


@pytest.fixture
def study(tmp_path):
    quantize = {"reference": "bf16", "schemes": [], "calibration_items": 4}
    serve = SERVE | {
        "offline": {"batch_sizes": [16], "sequential_prompts": 0},
        "online": {"concurrency": [16], "capacity": True},
    }
    made = Study.model_validate(study_content(tmp_path, matrix=False, serve=serve, quantize=quantize))
    write_grid(made)
    return made


def metrics(name, **values):
    return lambda study: edit(study, STAGE, name, lambda record: record["metrics"].update(values))


def failed(study):
    edit(study, STAGE, ONLINE, lambda record: record.update(status="failed", reason="the server died"))


def other_kernel(study):
    facts = {"quantization_as_asked": False, "quantization_kernel": {"AWQ": "MacheteLinearKernel"}}
    edit(study, STAGE, OFFLINE, lambda record: record["settings"]["facts"].update(facts))


def listed_before(study):
    def change(record):
        record["settings"]["cells"] = {OFFLINE: "0" * 64}

    edit(study, STAGE, "base.bf16", change)


def left_behind(**ended):
    def change(record):
        record["settings"]["stopped"] = {"base.bf16.start-online": ended}

    return lambda study: edit(study, STAGE, "base.bf16", change)


BREAKS = [
    ("serving_stopped", "warning", left_behind(gpu_memory_returned=False, gpu_memory_reason="gpu:0 holds 900 MiB")),
    ("serving_stopped", "warning", left_behind(processes_left=["123"])),
    ("serving_failed", "error", failed),
    ("serving_throughput", "error", metrics(OFFLINE, throughput_tok_s=1.0)),
    ("serving_throughput", "error", metrics(NATURAL, new_tokens_mean=3.0)),
    ("serving_fixed_length", "error", metrics(OFFLINE, new_tokens_mean=127.0, prompt_tokens_mean=128.0)),
    ("serving_fixed_length", "error", metrics(ONLINE, prompt_tokens_mean=100.0)),
    ("serving_cut", "warning", metrics(NATURAL, cut_share=0.97)),
    ("serving_clean", "error", metrics(ONLINE, prefix_hits=500, prefix_queries=1000)),
    ("serving_clean", "error", metrics(ONLINE, cleaned=False)),
    ("serving_percentiles", "error", metrics(ONLINE, ttft_p95_ms=0.1)),
    ("serving_percentiles", "error", metrics(OFFLINE, latency_p50_s=99.0)),
    ("serving_percentiles", "error", metrics(ONLINE, e2e_p50_ms=0.01)),
    ("serving_requests", "error", metrics(ONLINE, failed=7)),
    ("serving_requests", "error", metrics(ONLINE, goodput_requests_per_s=1e6)),
    ("serving_slip", "warning", metrics(ONLINE, slip_p99_ms=500.0)),
    ("serving_kernel", "warning", other_kernel),
    ("serving_energy", "error", metrics(OFFLINE, gross_j=1e9)),
    ("serving_energy", "error", metrics(OFFLINE, net_j_per_token=5.0)),
    ("serving_capacity", "error", metrics(SEARCH, capacity_requests_per_s=46.0)),
    ("serving_grid", "error", listed_before),
]


def found(study):
    relevant = {name for name in EXPECTATIONS if name.startswith("serving_")}
    return {
        (f.severity, f.check, f.file.rpartition("/")[2])
        for f in validate(study, Layout.of(study))
        if f.check in relevant
    }


def test_a_clean_grid_meets_them(study):
    assert found(study) == set()


@pytest.mark.parametrize(("check", "severity", "damage"), BREAKS, ids=range(len(BREAKS)))
def test_a_record_that_breaks_one_is_found(study, check, severity, damage):
    before = found(study)
    damage(study)
    assert {entry[:2] for entry in found(study) - before} == {(severity, check)}


def test_every_expectation_is_broken_by_some_record():
    assert {check for check, *_ in BREAKS} == {name for name in EXPECTATIONS if name.startswith("serving_")}


def test_a_cell_that_is_not_there_is_missed_by_name_and_the_hint_says_how_to_make_it(study):
    Layout.of(study).record(STAGE, OFFLINE).unlink()
    (missing,) = [f for f in validate(study, Layout.of(study)) if f.check == "complete"]
    assert OFFLINE in missing.what
    assert "remove the record base.bf16 beside it" in missing.hint


def test_the_cells_are_known_and_lie_in_their_place(study):
    checks = {f.check for f in validate(study, Layout.of(study))}
    assert not checks & {"known_cell", "place", "duplicate_cell", "settings_hash", "same_checkpoint", "null_reasons"}
