from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.energy.protocol import Settings, Window, abba, evaluate, measure, results, run

from .conftest import FakeGpus, constant

Fake = Callable[..., FakeGpus]


def test_order_is_abba() -> None:
    assert abba(["A", "B"], 4) == ["A", "B", "B", "A", "A", "B", "B", "A"]
    assert abba(["A"], 3) == ["A", "A", "A"]
    assert abba(["A", "B", "C"], 2) == ["A", "B", "C", "C", "B", "A"]


@given(st.integers(1, 6), st.integers(1, 10).map(lambda half: 2 * half))
def test_a_linear_drift_cancels(arms: int, windows: int) -> None:
    names = [str(number) for number in range(arms)]
    order = abba(names, windows)
    sums = {name: sum(place for place, found in enumerate(order) if found == name) for name in names}
    assert len(set(sums.values())) == 1
    assert all(order.count(name) == windows for name in names)


def test_measure_repeats_until_the_window_is_long_enough(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(400.0), statements=[["power_tick 0.1"]])
    calls = {"fast": 0, "slow": 0}

    def arm(name: str, seconds: float) -> Callable[[], float]:
        def call() -> float:
            calls[name] += 1
            gpus.runtime.sleep(seconds)
            return 128.0

        return call

    meter = gpus.meter(idle_s=1.0)
    meter.start()
    fast, slow = measure(meter, {"fast": arm("fast", 0.1), "slow": arm("slow", 0.4)}, Settings())
    assert [window.arm for window in sorted([*fast.windows, *slow.windows], key=lambda w: w.order)] == abba(
        ["fast", "slow"], 6
    )
    assert all(window.seconds >= 5.0 and "short" not in window.flags for window in fast.windows)
    assert fast.throughput.mean == pytest.approx(1280.0, rel=0.01)
    assert fast.gross_j_per_work.mean == pytest.approx(400.0 * 0.1 / 128, rel=0.01)
    assert slow.gross_j_per_work.mean == pytest.approx(400.0 * 0.4 / 128, rel=0.01)
    assert slow.net_j_per_work.mean == pytest.approx(0.0, abs=0.02)
    assert all(gate.passed for gate in (*fast.gates, *slow.gates))
    assert fast.as_dict()["power_w"]["n"] == 6
    assert calls["slow"] == 3 + sum(window.calls for window in slow.windows)


def test_cools_down_to_the_starting_temperature(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(400.0), statements=[["temperature 0 40", "temperature 6 70", "temperature 30 41"]])
    meter = gpus.meter()
    meter.start()
    (only,) = measure(meter, {"a": lambda: gpus.runtime.sleep(1.0) or 1.0}, Settings(repeats=2, warmup_runs=1))
    assert [window.cooled for window in only.windows] == [True, True]
    assert only.windows[1].temperature_start_c == 41
    assert any(phase["name"] == "cool-down" and phase["seconds"] > 10 for phase in meter.phases())


def test_patience_ends(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(400.0), statements=[["temperature 0 40", "temperature 6 70"]])
    meter = gpus.meter()
    meter.start()
    settings = Settings(repeats=2, warmup_runs=1, cool_patience_s=5.0)
    (only,) = measure(meter, {"a": lambda: gpus.runtime.sleep(1.0) or 1.0}, settings)
    assert only.windows[1].cooled is False


def test_an_arm_that_fails_stops_the_meter(fake_gpus: Fake) -> None:
    def broken() -> float:
        raise RuntimeError("out of memory")

    meter = fake_gpus(constant(400.0)).meter()
    meter.start()
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(meter, {"a": broken})
    assert meter.state == "stopped"


def window(work: float, gross: float | None, seconds: float = 5.0) -> Window:
    return Window("a", 0, 1, work, seconds, gross, None, None, None, ())


def test_gates_show_what_fails_and_drop_nothing() -> None:
    result = evaluate("a", [window(100.0, 500.0), window(110.0, 600.0), window(90.0, 400.0)])
    passed = {gate.name: gate.passed for gate in result.gates}
    assert passed == {"throughput": False, "power": False, "length": True, "repeats": False}
    assert result.throughput.n == 3


@pytest.mark.parametrize(("shortest_s", "count", "length", "repeats"), [(5.0, 5, True, True), (4.9, 4, False, False)])
def test_gates_of_length_and_number(shortest_s: float, count: int, length: bool, repeats: bool) -> None:
    result = evaluate("a", [window(100.0, 500.0, shortest_s), *(window(100.0, 500.0, 9.0) for _ in range(count - 1))])
    assert {gate.name: gate.passed for gate in result.gates[2:]} == {"length": length, "repeats": repeats}


def test_windows_without_energy_leave_energy_null() -> None:
    result = evaluate("a", [window(100.0, None), window(100.0, None)])
    assert result.power_w.mean is None
    assert result.gates[1].passed is None
    assert result.gates[0].passed is True


def test_one_meter_holds_several_runs(fake_gpus: Fake) -> None:
    gpus = fake_gpus(constant(400.0), statements=[["power_tick 0.1"]])
    meter = gpus.meter(idle_s=1.0)
    meter.start()

    def call(seconds: float) -> Callable[[], float]:
        return lambda: gpus.runtime.sleep(seconds) or 10.0

    settings = Settings(window_s=5.0, repeats=2, warmup_runs=0)
    first = results(meter, ["a"], run(meter, {"a": call(0.5)}, settings))
    second = results(meter, ["a", "b"], run(meter, {"a": call(1.0), "b": call(0.25)}, settings))
    assert meter.state == "running"
    meter.stop()
    assert [arm.arm for arm in (*first, *second)] == ["a", "a", "b"]
    assert [arm.throughput.mean for arm in (*first, *second)] == pytest.approx([20.0, 10.0, 40.0], rel=1e-3)
    assert second[0].gross_j_per_work.mean == pytest.approx(40.0, rel=0.01)
    assert results(meter, ["a"], [])[0].throughput.n == 0
