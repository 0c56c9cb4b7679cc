"""The section `serve` and its cells: names, order, forced kernels, and what decides a cell's result."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from factories import study_content
from gainwatt.study import Cell, Study
from gainwatt.study.branches import branch_records, part_records
from gainwatt.study.serving import Serve, deciding
from gainwatt.study.serving_cells import STAGE, Load, Start, grid_names, kernels, loads, part_names, starts
from gainwatt.workflow import environment_of, lacking_environments
from gainwatt.workflow import part_names as parts_of


def study_of(folder, **serve):
    quantize = {"reference": "bf16", "schemes": ["awq-w4g128", "awq-w4g128-autoawq"], "calibration_items": 4}
    return Study.model_validate(study_content(folder, serve=serve, quantize=quantize))


def test_a_study_without_the_section_has_no_cells(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    assert grid_names(study) == part_names(study) == []
    assert STAGE not in {stage for stage, _ in [*branch_records(study), *part_records(study)]}


def test_loads_by_mode_small_ones_first():
    serve = Serve(
        lengths=("fixed",), offline={"batch_sizes": [64, 16]},
        online={"concurrency": [8, 1], "rates_per_s": [2.5], "capacity": True},
    )  # fmt: skip
    assert [load.name for load in loads(serve, "offline")] == [
        "offline-fixed-sequential", "offline-fixed-b16", "offline-fixed-b64",
    ]  # fmt: skip
    assert [load.name for load in loads(serve, "online")] == [
        "online-fixed-c1", "online-fixed-c8", "online-fixed-r2.5", "online-fixed-capacity",
    ]  # fmt: skip


def test_kernels_apply_where_they_can_be_chosen():
    serve = Serve(kernels=("awq", "awq_marlin", "no-MacheteLinearKernel"))
    assert kernels(serve, "awq-w4g128-autoawq") == [None, "awq", "awq_marlin", "no-MacheteLinearKernel"]
    assert kernels(serve, "awq-w4g128") == [None, "no-MacheteLinearKernel"]
    assert kernels(serve, "bf16") == [None]


def test_names_hold_the_checkpoint_the_kernel_and_the_load(tmp_path):
    study = study_of(tmp_path, kernels=["awq"], variants=["base"], schemes=["awq-w4g128-autoawq"], online={})
    assert grid_names(study) == ["base.awq-w4g128-autoawq"]
    cell = Cell("base", "awq-w4g128-autoawq")
    assert [start.name for start in starts(study, cell)] == [
        "base.awq-w4g128-autoawq.start-online", "base.awq-w4g128-autoawq.start-offline",
        "base.awq-w4g128-autoawq.awq.start-online", "base.awq-w4g128-autoawq.awq.start-offline",
    ]  # fmt: skip
    name = Start(cell, "awq", "offline").record_name(Load("offline", "fixed", "batch", 16))
    assert name == "base.awq-w4g128-autoawq.awq.offline-fixed-b16"
    assert name in part_names(study)
    assert len(set(part_names(study))) == len(part_names(study))


def test_one_scheme_whose_name_begins_another_keeps_its_own_cells(tmp_path):
    study = study_of(tmp_path, variants=["base"])
    assert all(".awq-w4g128." in name for name in parts_of(study, STAGE, "base.awq-w4g128"))
    assert len(parts_of(study, STAGE, "base.awq-w4g128")) == len(parts_of(study, STAGE, "base.awq-w4g128-autoawq"))


def test_another_size_or_kernel_decides_no_cell_and_another_length_does():
    def hashed(**serve):
        return deciding(Serve(**serve).model_dump(mode="json"))

    same = hashed(kernels=("awq",), offline={"batch_sizes": [7]}, variants=("base",))
    assert same == hashed()
    assert hashed(fixed_new_tokens=64) != hashed()
    assert hashed(offline={"batches_per_pass": 2}) != hashed()
    assert deciding(None) is None


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ({"variants": ["grpo-s9"]}, "has no 'grpo-s9'"),
        ({"schemes": ["fp8"]}, "has no 'fp8'"),
        ({"offline": None}, "give offline, online, or both"),
        ({"online": {"slo": {"ttft_ms": None, "tpot_ms": None}}}, "at least one of"),
        ({"online": {"capacity": True, "concurrency": []}}, "capacity: the search begins with a burst"),
        ({"lengths": ["fixed", "fixed"]}, "names one twice"),
        ({"kernels": ["rm -rf"]}, "pattern"),
    ],
)
def test_what_contradicts_itself_is_said(tmp_path, serve, said):
    with pytest.raises(ValidationError, match=said):
        study_of(tmp_path, **serve)


def test_the_engine_decides_the_environment(tmp_path):
    study = study_of(tmp_path, engine="vllm")
    assert environment_of(study, "serve", "bf16") == "vllm"
    assert environment_of(study_of(tmp_path, engine="transformers"), "serve", "bf16") == "core"
    relocated = study.model_copy(update={"environments": {"vllm": "/usr/bin/python3", "autoawq": "/usr/bin/python3"}})
    assert "vllm" not in lacking_environments(relocated)
