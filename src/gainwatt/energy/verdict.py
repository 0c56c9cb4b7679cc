"""Plain words about a machine's meters: what works, what is wrong, what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gainwatt.energy.check import SAMPLER_SHARE_LIMIT
from gainwatt.energy.device import CPU_PACKAGE, DRAM, GPU_BOARD
from gainwatt.energy.flags import FLAG_TEXTS

_PLAIN = {GPU_BOARD: "GPU board", CPU_PACKAGE: "CPU package", DRAM: "DRAM"}
_FIXES = {
    "mig": "measure with MIG off (sudo nvidia-smi -mig 0), or publish the number as that of the whole board",
    "foreign_processes": "stop the other programs (nvidia-smi lists them) or take another GPU",
    "unknown_processes": "inside a container look at nvidia-smi on the host",
    "power_limit_not_default": "sudo nvidia-smi -pl DEFAULT, or keep the limit and name it beside every number",
    "idle_unsteady": "wait until the machine is quiet and run this command again",
    "throttled": "look at cooling and power supply: nvidia-smi -q -d PERFORMANCE",
    "device_order": "export CUDA_DEVICE_ORDER=PCI_BUS_ID",
    "selection_cut": "correct CUDA_VISIBLE_DEVICES",
    "differ": "publish the joules of one method only, and say which",
    "counter_stuck": "GPU: reload the NVIDIA driver, until then the integral is used; CPU or DRAM: leave RAPL out "
    "(--no-rapl, in a study energy.rapl: false)",
    "counter_unsupported": "nothing to do: the integral of power is used",
    "power_averaged": "update the NVIDIA driver (instant power came with 530); windows below 10 s are blurred",
    "gap": "give the job one more CPU core",
    "read_errors": "look at the errors in the record; nvidia-smi -q shows the state of the board",
    "idle_not_settled": "wait until no other program uses the board and run this command again",
    "record_ended": "look at the errors in the record; polled power is used, at a higher cost of CPU time",
    "clock_step": "let chrony or ntpd slew the clock instead of stepping it while jobs run",
    "below_idle": "measure again on a machine at rest",
    "idle_above_work": "measure again on a machine at rest, with a longer --idle-power-s",
    "lost": "look for Xid messages in the kernel log and restart the machine",
}
_WORTH_SAYING = tuple(_FIXES)


@dataclass(frozen=True)
class Finding:
    """One thing to know: what, and what to do (empty: nothing)."""

    what: str
    fix: str = ""


def findings(
    summary: dict[str, Any],
    hints: list[str],
    windows: list[dict[str, Any]],
    persistence: dict[str, bool | None],
    shares: Mapping[str, float | None] | None = None,
) -> list[Finding]:
    """Everything that is wrong or worth knowing, the worst first. `shares`: the sampler's share of a core by window."""
    found = []
    for boundary, reason in summary["null_reasons"].items():
        if boundary in _PLAIN:
            fix = "; ".join(hints) if boundary == GPU_BOARD else ""
            found.append(Finding(f"{_PLAIN[boundary]} is not measured: {reason}", fix))
    seen = {(entry["flag"], entry["device"]) for entry in summary["flags"]}
    # What holds for the whole time need not be said of each window again.
    inside = [(flag, row["device"], row["window"]) for row in windows for flag in row["flags"]]
    seen |= {(flag, f"{device} ({window})") for flag, device, window in inside if (flag, device) not in seen}
    for flag, device in sorted(seen, key=str):
        if flag in _WORTH_SAYING:
            found.append(Finding(f"{device or 'all devices'}: {FLAG_TEXTS[flag]}", _FIXES[flag]))
    for device, mode in persistence.items():
        if mode is False:
            what = f"{device}: persistence mode is off: the driver unloads between jobs, and idle power changes with it"
            found.append(Finding(what, "sudo nvidia-smi -pm 1"))
    return found + _sampler_findings(summary["sampling"], shares or {})


def _sampler_findings(sampling: dict[str, Any], shares: Mapping[str, float | None]) -> list[Finding]:
    found = []
    effective = sampling.get("effective_hz")
    for when, share in {"": sampling.get("sampler_cpu_share"), **shares}.items():
        if share is not None and share > SAMPLER_SHARE_LIMIT:
            name = f"while {when} the sampler uses" if when else "the sampler uses"
            what = f"{name} {100 * share:.2f} % of a core (meant: below 0.1 %)"
            found.append(Finding(what, "lower --sample-hz"))
    if effective is not None and effective < 0.9 * sampling["nominal_hz"]:
        what = f"the sampler reached {effective:.1f} of {sampling['nominal_hz']:.1f} samples a second"
        found.append(Finding(what, "give the job one more CPU core"))
    return found


def headline(summary: dict[str, Any]) -> str:
    """One sentence: what can be measured here, or why nothing can."""
    if not summary["boundary"]:
        nulls = summary["null_reasons"]
        reasons = "; ".join(f"{_PLAIN[name]}: {why}" for name, why in nulls.items() if name in _PLAIN)
        return f"no meter, because {reasons or nulls.get('gross_j', 'none was found')}"
    parts = []
    for boundary in summary["boundary"]:
        mine = [device for device in summary["devices"] if device["boundary"] == boundary]
        methods = sorted({device["method"] or "nothing" for device in mine})
        parts.append(f"{_PLAIN[boundary]} by {' and '.join(methods)}")
    broken = [device["device"] for device in summary["devices"] if device["gross_j"] is None]
    if broken:
        return f"energy is incomplete: {', '.join(broken)} gave no joules ({', '.join(parts)})"
    return f"energy can be measured: {', '.join(parts)}"
