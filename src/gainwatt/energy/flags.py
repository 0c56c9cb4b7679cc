"""Marks that a measurement can carry, and what each means in plain words."""

from __future__ import annotations

FLAG_TEXTS: dict[str, str] = {
    "short": "the window is shorter than 5 s: repeat the work inside the window to make it longer",
    "under_five_ticks": "the window is shorter than five updates of the meter: the energy is an estimate",
    "unaligned": "the window's edges are not on ticks of the energy counter: up to one tick is uncertain",
    "coarse": "few readings of counter or power lie in the window: its energy is interpolated between them",
    "differ": "counter and integrated power differ by more than 5 %: do not compare this number across machines",
    "gap": "power was not sampled for a while (the sampler got no time, or the device gave none): a line bridges it",
    "clock_step": "the wall clock was set while the driver's record was read: its samples were sorted by their spacing",
    "record_ended": "the driver's record of power stopped: power was polled from then on",
    "counter_reset": "the energy counter went backwards (driver reload or GPU reset): the integral was used",
    "counter_stuck": "the energy counter stood still while time passed: the integral was used where power is read",
    "counter_unsupported": "the device has no energy counter: the integral of power was used",
    "power_unsupported": "the device has no power reading: the energy counter alone was used",
    "power_averaged": "the driver offers no instant power: the readings are averages over up to a second",
    "zero_power": "the device reported a power of zero or less in some samples; they were kept as read",
    "read_errors": "some readings failed; see errors",
    "lost": "the device stopped answering before the window ended: its energy is null",
    "throttled": "the clocks were held down by temperature, power brake or a hardware fault",
    "power_capped": "the clocks were held down by the power limit",
    "power_limit_changed": "the power limit was changed while the window was open",
    "power_limit_not_default": "the power limit is not the board's default: compare with runs at the same limit",
    "mig": "MIG is on: the energy is that of the whole board with all its instances",
    "foreign_processes": "another program computed on this device: its energy is included",
    "unknown_processes": "the device lists processes of another pid namespace: foreign work cannot be ruled out",
    "idle_drift": "idle power before and after differ by more than 10 %: net energy depends on which is used; it "
    "subtracts the one before, and so contains what holding the board costs",
    "idle_above_work": "the board drew less during the work than when idle was measured: net energy is null",
    "below_idle": "less was used than the idle power explains: net energy is null",
    "idle_with_context": "this process held the board before idle power was measured: net energy leaves that out",
    "idle_not_settled": "power did not come to rest before the work: idle power is that of the last seconds waited for",
    "idle_unsteady": "power varied by more than 20 % while idle was measured: the machine may not have been idle",
    "device_order": "GPUs differ and CUDA_DEVICE_ORDER is not PCI_BUS_ID: an index may mean another GPU to CUDA",
    "selection_cut": "CUDA_VISIBLE_DEVICES names a device that does not exist; it and all behind it were left out",
}

# Bits of nvmlClocksEventReasons: software power cap 0x4; hardware slowdown 0x8, software thermal 0x20, hardware
# thermal 0x40, hardware power brake 0x80. Idle, application clocks, sync boost and display clocks are no
# throttling.
POWER_CAP_BITS = 0x4
THROTTLE_BITS = 0x8 | 0x20 | 0x40 | 0x80
THROTTLE_NAMES: dict[int, str] = {
    0x4: "power_limit",
    0x8: "hardware_slowdown",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "hardware_power_brake",
}


def explain(flag: str, device: str | None = None) -> dict[str, str | None]:
    """The mark as an entry of a record."""
    return {"flag": flag, "device": device, "text": FLAG_TEXTS[flag]}
