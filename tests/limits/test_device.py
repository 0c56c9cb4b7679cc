from __future__ import annotations

import pytest

from gainwatt.errors import InputError
from gainwatt.limits import device, measure_limits


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "SAMPLE_S", 0.0005)
    monkeypatch.setattr(device, "_COPY_BYTES", {"cpu": 2**20, "cuda": 2**20})
    monkeypatch.setattr(device, "_MATMUL_SIZE", {"cpu": 64, "cuda": 64})


@pytest.mark.usefixtures("_small")
def test_the_cpu_has_limits():
    found = measure_limits("cpu", "fp32")
    assert found.bandwidth_gb_s > 0.01
    assert found.tflop_s > 1e-5
    assert 0.01 < found.launch_us < 10_000
    assert found.bandwidth_spread is not None
    assert found.bandwidth_spread >= 0
    assert "1 MiB" in found.how
    assert "fp32" in found.how
    assert found.as_dict()["how"] == found.how


@pytest.mark.parametrize(("where", "dtype"), [("tpu", "bf16"), ("cpu", "int8"), ("cuda", "bf16")])
def test_what_cannot_be_measured_is_named(where: str, dtype: str):
    import torch

    if where == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"tpu|int8|cuda"):
        measure_limits(where, dtype)


def test_rates_count_the_amount_of_every_call(monkeypatch: pytest.MonkeyPatch):
    now = iter(range(1000))
    monkeypatch.setattr(device.time, "perf_counter", lambda: float(next(now)))
    calls: list[int] = []
    rates = device._rates(lambda: calls.append(1), 10.0, "cpu")
    assert rates == [10.0] * device.SAMPLES  # one second per sample of one call by the scripted clock
    assert len(calls) == 3 + device.SAMPLES
