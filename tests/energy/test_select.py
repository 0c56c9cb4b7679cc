from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.energy.select import GpuEntry, resolve

GPUS = [
    GpuEntry(0, "GPU-aaaa1111-0000", "A100", ("MIG-11111111-aaaa", "MIG-22222222-bbbb")),
    GpuEntry(1, "GPU-aaaa2222-0000", "A100"),
    GpuEntry(2, "GPU-bbbb3333-0000", "A100"),
]


def chosen(value: str | None) -> list[int]:
    return resolve({} if value is None else {"CUDA_VISIBLE_DEVICES": value}, GPUS).indices


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (None, [0, 1, 2]),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("0,2,-1,1", [0, 2]),
        ("1,7,0", [1]),
        ("0,0", []),
        ("1,0,01", []),
        ("0,-1,0", [0]),
        ("GPU-bbbb,2", []),
        ("MIG-11111111-aaaa,MIG-11111111-aaaa", []),
        ("GPU-aaaa2222-0000", [1]),
        ("GPU-bbbb", [2]),
        ("gpu-bbbb", []),
        ("GPU-BBBB3333", [2]),
        ("GPU-aaaa", []),
        ("GPU-cccc", []),
        ("GPU-bbbb,0", [2, 0]),
        ("MIG-11111111-aaaa", [0]),
        ("MIG-2222", [0]),
        ("MIG-99999999", []),
        ("MIG-GPU-bbbb3333-0000/1/0", [2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("²", []),
        ("9" * 5000, []),
    ],
)
def test_values(value: str | None, indices: list[int]) -> None:
    assert chosen(value) == indices


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("", "is empty"),
        ("-1", "switched off"),
        ("NoDevFiles", "Slurm"),
        ("GPU-aaaa", "several GPUs begin like this"),
        ("GPU-cccc", "no GPU has this UUID"),
        ("MIG-99", "no GPU carries"),
        ("1,7", 'ends at "7"'),
        ("9", "3 GPUs can be opened"),
        ("1,2,1", '"1" twice'),
    ],
)
def test_reasons_name_the_entry(value: str, part: str) -> None:
    assert part in (resolve({"CUDA_VISIBLE_DEVICES": value}, GPUS).reason or "")


def test_a_job_may_use_more_gpus_than_the_process_that_measures() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "1", "GAINWATT_METERED_GPUS": "1,2"}
    assert resolve(environment, GPUS).indices == [1, 2]
    wrong = resolve({**environment, "GAINWATT_METERED_GPUS": "1,7"}, GPUS)
    assert (wrong.reason or "").startswith('GAINWATT_METERED_GPUS="1,7" ends at "7"')


def test_mig_instance_is_kept_with_its_board() -> None:
    selection = resolve({"CUDA_VISIBLE_DEVICES": "MIG-11111111-aaaa"}, GPUS)
    assert selection.mig_ids == {0: ["MIG-11111111-aaaa"]}
    assert selection.reason is None


def test_unequal_gpus_make_an_index_ambiguous() -> None:
    mixed = [GpuEntry(0, "GPU-a", "T4"), GpuEntry(1, "GPU-b", "H200")]
    assert resolve({"CUDA_VISIBLE_DEVICES": "0"}, mixed).ambiguous_order
    assert not resolve({"CUDA_VISIBLE_DEVICES": "GPU-a"}, mixed).ambiguous_order
    assert not resolve({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, mixed).ambiguous_order
    assert not resolve({"CUDA_VISIBLE_DEVICES": "0"}, GPUS).ambiguous_order


def test_numbers_count_the_boards_that_can_be_opened() -> None:
    # The driver lists two boards, and the job's cgroup lets it open the second: to CUDA that one is number 0.
    second = [GpuEntry(1, "GPU-bbbbbbbb")]
    assert resolve({"CUDA_VISIBLE_DEVICES": "0"}, second).indices == [1]
    assert resolve({"CUDA_VISIBLE_DEVICES": "1"}, second).indices == []


def test_no_gpu_at_all() -> None:
    assert resolve({}, []).reason == "the driver lists no GPU"


@given(st.text())
def test_no_text_raises_and_every_index_exists(value: str) -> None:
    assert set(chosen(value)) <= {0, 1, 2}
