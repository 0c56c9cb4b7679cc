"""A study without matrix runs its optional branches and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories import study_content
from gainwatt.errors import InputError, RecordError
from gainwatt.study import Layout, Study, check_cell, evaluation_cells, quantization_cells, trained_variants, variants
from gainwatt.study.branches import BRANCHES, KINDS, branch_records
from gainwatt.tables.results import Results
from gainwatt.weights.variants import control_variants, diagnosed_variants
from gainwatt.workflow import every_record, lacking_environments, needs


def study_of(folder: Path, **sections: object) -> Study:
    return Study.model_validate(study_content(folder, diagnose={"sft_control": True}, **sections))


def test_without_matrix_nothing_is_trained_quantized_or_evaluated(tmp_path):
    study = study_of(tmp_path, matrix=False)
    for cells in (evaluation_cells, quantization_cells, trained_variants, diagnosed_variants, control_variants):
        assert cells(study) == []
    assert variants(study) == ["base"]
    assert every_record(study, Layout.of(study)) == []
    assert lacking_environments(study) == []


def test_without_matrix_a_section_may_name_trained_variants(tmp_path):
    serve = {"variants": ["base", "grpo-s1"], "offline": {"batch_sizes": [2]}}
    study = study_of(tmp_path, matrix=False, train={"seeds": [0, 1, 2]}, serve=serve)
    assert variants(study) == ["base", "grpo-s1"]
    assert trained_variants(study) == evaluation_cells(study) == []
    # Only what is measured on it is asked for: its training is the workflow's way there.
    served = {Path(path).stem.partition(".")[0] for path in every_record(study, Layout.of(study))}
    assert served == {"base", "grpo-s1"}
    assert check_cell(study, "grpo-s1", study.quantize.reference).variant == "grpo-s1"
    with pytest.raises(InputError, match="no variant 'grpo-s0'"):
        check_cell(study, "grpo-s0", study.quantize.reference)
    with pytest.raises(ValueError, match="the study has no 'grpo-s7'"):
        study_of(tmp_path, matrix=False, serve={"variants": ["grpo-s7"]})


def test_with_matrix_all_is_as_before(tmp_path):
    study = study_of(tmp_path)
    assert len(evaluation_cells(study)) == 4
    assert control_variants(study) == ["sft-s0"]


def test_without_any_record_the_error_says_so(tmp_path):
    study = study_of(tmp_path, matrix=False)
    with pytest.raises(RecordError, match="there is no record of the study 'tiny'"):
        Results.load(study, Layout.of(study))


def test_a_hooked_branch_names_its_stage_and_its_needs(tmp_path):
    study = study_of(tmp_path)
    assert set(BRANCHES) == set(KINDS)
    for stage, kind in KINDS.items():
        assert study.settings(stage) is not None
        assert needs(study, kind).threads >= 1
    assert branch_records(study) == []
