from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.profiling.ratios import QUANTITIES, paired, unpaired
from gainwatt.profiling.roofs import in_memory

from .profile_records import SHAPE

positive = st.floats(0.01, 1000)


def cell(seconds: list[float], *, watts: float | None = 100.0, status: str = "ok") -> dict[str, Any]:
    return {
        "arm": "an arm",
        "status": status,
        "null_reasons": {} if watts else {"gross_j_per_ktok": "no meter"},
        "windows": [
            {"seconds": s, "calls": 2, "work": 10.0, "gross_j": watts and watts * s, "net_j": None} for s in seconds
        ],
    }


def test_a_shared_drift_falls_out():
    drift = [1.0, 1.1, 1.3, 1.9, 2.5]
    found = paired(cell([3 * d for d in drift]), cell(drift), "latency")
    assert (found.estimate, found.low, found.high) == (pytest.approx(3), pytest.approx(3), pytest.approx(3))
    assert found.n == 5
    assert paired(cell([3 * d for d in drift]), cell(drift), "throughput").estimate == pytest.approx(1 / 3)
    assert paired(cell([3 * d for d in drift]), cell(drift), "power").estimate == pytest.approx(1)


def test_noise_makes_an_interval():
    found = paired(cell([2.0, 2.2, 1.8, 2.1]), cell([1.0, 1.0, 1.0, 1.0]), "latency")
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2.02 < found.high


@given(st.lists(st.tuples(positive, positive), min_size=2, max_size=12))
def test_turned_round_it_is_the_inverse(pairs: list[tuple[float, float]]):
    first, second = cell([a for a, _ in pairs]), cell([b for _, b in pairs])
    there, back = paired(first, second, "latency"), paired(second, first, "latency")
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert there.low == pytest.approx(1 / back.high)
    assert there.low <= there.estimate * (1 + 1e-9)
    assert there.estimate <= there.high * (1 + 1e-9)


def test_what_is_missing_is_said():
    assert paired(cell([1.0], watts=None), cell([1.0]), "gross_j_per_token").reason == "no meter"
    assert paired(cell([], status="oom"), cell([1.0]), "latency").reason == "an arm is oom"
    assert paired(cell([1.0]), cell([], status="oom"), "latency").reason == "the baseline is oom"
    one = paired(cell([2.0]), cell([1.0]), "latency")
    assert (one.estimate, one.low, one.n) == (pytest.approx(2), None, 1)
    assert one.reason
    assert paired(cell([2.0]), cell([1.0]), "net_j_per_token").estimate is None
    assert set(QUANTITIES) == {"latency", "throughput", "gross_j_per_token", "net_j_per_token", "power"}


def test_two_loads_are_compared_without_pairs():
    found = unpaired([2.0, 2.1, 1.9, 2.0], [1.0, 1.05, 0.95, 1.0])
    assert found.estimate == pytest.approx(2.0, rel=0.01)
    assert found.low < 2 < found.high
    assert unpaired([], [1.0]).estimate is None
    assert unpaired([2.0], [1.0]).low is None
    same = unpaired([1.0] * 5, [1.0] * 5)
    assert (same.low, same.high) == (pytest.approx(1), pytest.approx(1))


def test_an_untied_table_counts_in_the_type_that_it_has_in_memory():
    table = SHAPE.head_parameters
    body = SHAPE.body_parameters
    untied = dataclasses.replace(
        SHAPE, tie_embeddings=False, weight_bytes=body // 2 + 4 * table, embedding_bytes=2 * table
    )
    read = in_memory(untied, 2 * body + 4 * table, 2).read_bytes()
    assert read == 2 * body + 2 * table  # 4 bits restored to bf16: the table has not grown
    wide = dataclasses.replace(untied, weight_bytes=4 * body + 8 * table, embedding_bytes=4 * table)
    assert in_memory(wide, 2 * body + 4 * table, 2).read_bytes() == 2 * body + 2 * table  # fp32 files, loaded in fp16
    assert in_memory(SHAPE, 400_000_000, 2).read_bytes() == 400_000_000  # tied: the head reads it whole
