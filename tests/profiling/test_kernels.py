from __future__ import annotations

import pytest

from gainwatt.profiling import kernels
from gainwatt.profiling.kernels import Event, Look, compare, innermost, look


def gpu(name: str, start: int, duration: int) -> Event:
    return Event(name, start, duration, on_gpu=True)


def host(name: str, start: int, duration: int = 5) -> Event:
    return Event(name, start, duration, on_gpu=False)


def test_steps_are_the_difference_of_two_looks():
    first = [host("cudaLaunchKernel", 0), host("aten::mm", 0), gpu("void gemm<float>(int)", 10, 1000)]
    step = [
        host("cudaLaunchKernel", 20), host("cuLaunchKernelEx", 21), host("cudaMemcpyAsync", 22),
        host("cudaStreamSynchronize", 23), gpu("gemv", 30, 600), gpu("void (anonymous namespace)::norm<4>(x)", 40, 200),
    ]  # fmt: skip
    found = compare(first, [*first, *step, *step], 2)
    assert found == Look(
        prefill_launches=1,
        prefill_device_s=pytest.approx(1e-6),
        step_launches=3.0,
        step_device_s=pytest.approx(8e-7),
        kernels=("gemv 75%", "norm 25%"),
        graph_launches=0,
    )


def test_replayed_graphs_are_seen():
    found = compare([gpu("k", 0, 1)], [gpu("k", 0, 1), host("cudaGraphLaunch", 1), gpu("k", 2, 9)], 1)
    assert found.graph_launches == 1
    assert found.step_launches == 1


def test_without_a_gpu_operations_that_call_no_other_count():
    outer = [
        host("aten::linear", 0, 100),
        host("aten::addmm", 10, 80),
        host("aten::add", 110, 5),
        host("python", 0, 500),
    ]
    outer.append(host("aten::as_strided", 11, 70))
    assert [event.name for event in innermost(outer)] == ["aten::addmm", "aten::add"]
    found = compare([], outer, 1)
    assert (found.prefill_launches, found.step_launches) == (0, 2.0)
    assert found.prefill_device_s is None
    assert found.step_device_s is None
    assert found.kernels == ("aten::addmm 94%", "aten::add 6%")


def test_one_token_has_no_step():
    found = compare([host("aten::mm", 0, 10)], [host("aten::mm", 0, 10)], 0)
    assert found.step_launches is None
    assert found.kernels == ("aten::mm 100%",)


def test_the_profiler_sees_what_torch_does():
    import torch

    left = torch.ones(8, 8)

    def generate(tokens: int) -> None:
        for _ in range(tokens):
            torch.mm(left, left)

    found = look(generate, 5)
    assert found.prefill_launches == 1
    assert found.step_launches == 1.0
    assert found.kernels[0].startswith("aten::mm")


def test_named_ranges_are_no_work():
    import torch

    def work() -> None:
        with torch.profiler.record_function("a range around a kernel"):
            torch.mm(torch.ones(8, 8), torch.ones(8, 8))

    names = [event.name for event in kernels._profile(work)]
    assert "aten::mm" in names
    assert "a range around a kernel" not in names
