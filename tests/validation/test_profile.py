"""The expectations about the inference profile: clean records meet them, and a changed cell breaks each."""

from __future__ import annotations

import pytest

from gainwatt.study import Layout
from gainwatt.study.profiling_cells import STAGE
from gainwatt.validation import EXPECTATIONS, validate
from profiling.profile_records import failed, profile_study, write_profile

from .records import edit

NAME = "base.bf16+bnb-int8+bnb-nf4"
OURS = {name for name in EXPECTATIONS if name.startswith("profile_")}


@pytest.fixture
def study(tmp_path):
    made = profile_study(tmp_path)
    write_profile(made)
    return made


def found(study):
    return {finding.check for finding in validate(study, Layout.of(study)) if finding.check in OURS}


def cell(change, place=2):
    """Change the cell in a place: 0 the baseline, 1 bf16, 2 bnb-int8, 3 bnb-nf4 at batch 1."""
    return lambda record: change(record["metrics"]["cells"][place])


def values(**new):
    return cell(lambda found: found.update(new))


def no_baseline(record):
    record["metrics"]["cells"][0].update(status="oom", reason="CUDA out of memory")


def arm_by_arm(record):
    """All windows of one arm, then all of the next."""
    for place, found in enumerate(record["metrics"]["cells"][:4]):
        for number, window in enumerate(found["windows"]):
            window["order"] = 10 * place + number


def out_of_memory(record):
    old = record["metrics"]["cells"][2]
    old.update(status="oom", reason="CUDA out of memory", windows=[])


BREAKS = {
    "profile_baseline": no_baseline,
    "profile_interleaved": arm_by_arm,
    "profile_repeats": values(n_calls=9),
    "profile_rates": values(ttft_ms_mean=1e9),
    "profile_energy": values(gross_j_per_ktok=1.0),
    "profile_under_the_roof": values(decode_over_roof=1.3),
    "profile_memory": values(generate_peak_mib=100.0),
    "profile_graphs": values(mode="cuda-graphs"),
    "profile_not_measured": out_of_memory,
}
ALSO = {
    "profile_rates": {
        "tokens": cell(lambda found: found["windows"][0].update(work=1.0)),
        "percentiles": values(latency_ms_p99=1.0),
    },
    "profile_energy": {"net": values(net_j_per_ktok=1e6)},
    "profile_memory": {"load": values(allocated_after_load_mib=1.0)},
    "profile_under_the_roof": {"prefill": values(prefill_over_roof=2.0)},
}


def test_a_clean_record_meets_every_expectation(study):
    assert found(study) == set()
    assert set(BREAKS) == OURS


@pytest.mark.parametrize("name", BREAKS)
def test_a_record_breaks(study, name):
    edit(study, STAGE, NAME, BREAKS[name])
    assert name in found(study)


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in ALSO.items() for way in ways])
def test_a_record_breaks_in_another_way(study, name, way):
    edit(study, STAGE, NAME, ALSO[name][way])
    assert name in found(study)


def test_graphs_that_were_replayed_are_fine(study):
    edit(study, STAGE, NAME, values(mode="cuda-graphs", graph_launches=4))
    assert found(study) == set()


def test_a_failed_cell_lacks_nothing_else(study):
    from gainwatt.study.profiling_cells import arms, loads

    arm = next(a for a in arms(study) if a.label == "bnb-nf4")

    def change(record):
        record["metrics"]["cells"][-1] = failed(arm, loads(study)[-1], baseline=False)

    edit(study, STAGE, NAME, change)
    assert found(study) == {"profile_not_measured"}
