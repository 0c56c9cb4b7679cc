"""A fake libnvidia-ml, compiled once per test process and loaded by the real bindings, and a clock that tests move."""

from __future__ import annotations

import ctypes
import itertools
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from gainwatt.energy import EnergyMeter

SOURCE = Path(__file__).with_name("fake_nvml.c")
UUID_A = "GPU-aaaaaaaa-0000-1111-2222-333333333333"
UUID_B = "GPU-bbbbbbbb-0000-1111-2222-333333333333"


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled fake_nvml.c, under the name that the bindings ask the loader for."""
    target = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


class VirtualLoop:
    """The sampler's loop on the virtual clock."""

    def __init__(self, runtime: VirtualRuntime, poll: Callable[[], None], period_s: float) -> None:
        self.poll = poll
        self.period_s = period_s
        self.due = runtime.now()
        self.running = True
        self.cpu_s = 0.0

    def set_period(self, period_s: float) -> None:
        self.period_s = period_s

    def stop(self) -> bool:
        self.running = False
        return True


class VirtualRuntime:
    """Time moves when somebody sleeps or when a call costs time. `starved` holds stretches in which no poll runs."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.loop: VirtualLoop | None = None
        self.starved: list[tuple[float, float]] = []

    def now(self) -> float:
        return float(self.library.fake_nvml_now())

    def wall(self) -> float:
        return float(self.library.fake_nvml_wall())

    def sleep(self, seconds: float) -> None:
        target = self.now() + seconds
        while self.loop is not None and self.loop.running and self.loop.due <= target:
            self._advance_to(self.loop.due)
            self.loop.due += self.loop.period_s
            if not any(start <= self.now() < end for start, end in self.starved):
                self.loop.poll()
        self._advance_to(target)

    def start_loop(self, poll: Callable[[], None], period_s: float) -> VirtualLoop:
        self.loop = VirtualLoop(self, poll, period_s)
        self.sleep(0.0)
        return self.loop

    def _advance_to(self, time_s: float) -> None:
        if time_s > self.now():
            self.library.fake_nvml_advance(ctypes.c_double(time_s - self.now()))


class FakeGpus:
    """What a test holds: the virtual clock, a meter factory, and the truth."""

    def __init__(self, library: ctypes.CDLL, curves: list[list[tuple[float, float]]], record: bool) -> None:
        self.library = library
        self.record = record
        self.curves = curves
        self.runtime = VirtualRuntime(library)

    def meter(self, **options: object) -> EnergyMeter:
        settings: dict[str, object] = {"idle_s": 0.0, "rapl": False, "environ": {}, "synchronize": None}
        return EnergyMeter(**{**settings, **options}, runtime=self.runtime)  # type: ignore[arg-type]

    def truth_j(self, start_s: float, end_s: float, device: int = 0) -> float:
        """Exact energy of the scripted curve."""
        return true_energy(self.curves[device], start_s, end_s)

    def calls(self, device: int, kind: int) -> int:
        return int(self.library.fake_nvml_calls(device, kind))


def true_energy(curve: list[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Integral of a piecewise linear curve that is held beyond both ends."""

    def watts(t: float) -> float:
        if t <= curve[0][0]:
            return curve[0][1]
        for (t0, w0), (t1, w1) in itertools.pairwise(curve):
            if t0 <= t <= t1:
                return w0 + (w1 - w0) * (t - t0) / (t1 - t0)
        return curve[-1][1]

    knots = sorted({start_s, end_s, *(t for t, _ in curve if start_s < t < end_s)})
    parts = itertools.pairwise(knots)
    return math.fsum(0.5 * (watts(a) + watts(b)) * (b - a) for a, b in parts)


@pytest.fixture(params=["record", "polled"])
def fake_gpus(
    fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., FakeGpus]:
    """Call with one curve per device, and statements per device, to put scripted GPUs behind pynvml.

    Every test that uses it runs twice: with a driver that keeps a record of power, and with one that must be polled.
    """
    record = request.param == "record"
    library = ctypes.CDLL(str(fake_library))
    library.fake_nvml_now.restype = ctypes.c_double
    library.fake_nvml_wall.restype = ctypes.c_double
    library.fake_nvml_calls.restype = ctypes.c_long
    # The real loading code of the bindings runs, and only the name that it asks for leads elsewhere.
    monkeypatch.setattr(pynvml, "CDLL", lambda name: library)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def install(
        *curves: list[tuple[float, float]],
        statements: list[list[str]] | None = None,
        head: list[str] | None = None,
        names: tuple[str, str] = ("Fake H200", "Fake H200"),
    ) -> FakeGpus:
        lines = ["clock virtual", *(head or [])]
        for number, curve in enumerate(curves):
            lines.append(f"device {(UUID_A, UUID_B)[number]} {names[number]}")
            lines += ["cost counter 0.0025", "cost power 0.000002", "cost record 0.0005"]
            lines += [] if record else ["unsupported record"]
            lines += [f"point {t!r} {w!r}" for t, w in curve]
            lines += (statements or [[]] * len(curves))[number]
        script = tmp_path / "script.txt"
        script.write_text("\n".join(lines) + "\n", encoding="ascii")
        library.fake_nvml_load(str(script).encode())
        return FakeGpus(library, list(curves), record)

    return install


def constant(watts: float) -> list[tuple[float, float]]:
    return [(0.0, watts), (1000.0, watts)]


def bursts(
    base_w: float, burst_w: float, every_s: float, burst_s: float, count: int, first_s: float
) -> list[tuple[float, float]]:
    """Rectangular bursts (edges of 1 µs) on an exactly flat base."""
    points = [(0.0, base_w)]
    for number in range(count):
        start = first_s + number * every_s
        points += [
            (start, base_w),
            (start + 1e-6, burst_w),
            (start + burst_s, burst_w),
            (start + burst_s + 1e-6, base_w),
        ]
    return [*points, (points[-1][0] + 100.0, base_w)]


def run(gpus: FakeGpus, seconds: float, meter: EnergyMeter | None = None) -> EnergyMeter:
    """One window of `seconds`."""
    meter = meter or gpus.meter()
    meter.start()
    gpus.runtime.sleep(seconds)
    meter.stop()
    # What the meter swallows to protect the work must not hide a fault of its own.
    assert [problem for problem in meter.problems if not problem.startswith("synchronize")] == []
    return meter


def truth(gpus: FakeGpus, meter: EnergyMeter, device: int = 0) -> float:
    assert meter.start_s is not None
    assert meter.end_s is not None
    return gpus.truth_j(meter.start_s, meter.end_s, device)


CURVES = {
    "constant": constant(300.0),
    "ramp": [(0.0, 100.0), (1.0, 100.0), (31.0, 700.0), (200.0, 700.0)],
    "bursts": bursts(50.0, 300.0, every_s=5.0, burst_s=1.0, count=12, first_s=2.03),
    "fast bursts": bursts(90.0, 650.0, every_s=0.73, burst_s=0.31, count=90, first_s=0.517),
    "step down at the end": [(0.0, 600.0), (3.0, 600.0), (3.001, 120.0), (300.0, 120.0)],
}
