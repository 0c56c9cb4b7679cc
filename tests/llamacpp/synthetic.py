"""Synthetic visits and records of a llama.cpp session: a CPU of 60 W and a GPU of 170 W with a little noise."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from factories import base_record, write_table
from gainwatt.llamacpp.arms import SESSION, Arm, arms_of
from gainwatt.llamacpp.files import GgufFile
from gainwatt.llamacpp.records import write_arm
from gainwatt.llamacpp.types import TYPES
from gainwatt.record import write_record
from gainwatt.study import Layout, Study

SECTION = {
    "quant_types": ["q2_k", "q4_0", "q8_0"], "ablation_threads": [1, 4], "ablation_gpu_layers": [0, 2],
    "ablation_prompt_batch": [16, 64], "ablation_parallel": [2], "rounds": 6, "max_new_tokens": 11,
}  # fmt: skip
FACTS = {"weight_bytes": 400_000, "layers": 4, "threads": 4}
IDLE_W = {"cpu_package": 12.0, "dram": 2.0, "gpu_board": 20.0}
ACTIVE_W = {"cpu": {"cpu_package": 60.0, "dram": 5.0, "gpu_board": 20.0},
            "gpu": {"cpu_package": 25.0, "dram": 3.0, "gpu_board": 170.0}}  # fmt: skip
TOKENS = {"sd": 20, "ar": 40, "ng": 30}
FILE = GgufFile("model.gguf", None, "f" * 64, 446_048, "found", {"Q4_0": 28}, 673_920)


def seconds_of(arm: Arm) -> float:
    """True seconds of a request of 11 tokens."""
    speed = {"cpu": 1.0, "gpu": 4.0}[arm.backend]
    if arm.backend == "cpu" and arm.threads:
        speed *= min(arm.threads, 3) / 3
    if arm.backend == "gpu" and arm.gpu_layers is not None:
        speed *= 0.3 + 0.7 * arm.gpu_layers / 4
    return TYPES[arm.type].bits / 4.5 / speed


def window(
    arm: Arm, suite: str, kind: str, number: int, *, metered: bool = True, noise: float = 0.01, order: int = 0
) -> dict[str, Any]:
    """One window of ten requests, or one load."""
    drawn = random.Random(f"{arm.name} {suite} {kind} {number}")
    requests = 0 if kind == "load" else 10
    each = {"load": 0.4, "prefill": 0.1 * seconds_of(arm), "generate": seconds_of(arm)}[kind]
    each *= 1 + noise * drawn.uniform(-1, 1)
    seconds = each * max(requests, 1)
    parts = {name: watts * seconds for name, watts in ACTIVE_W[arm.backend].items()} if metered else {}
    found: dict[str, Any] = {
        "round": number, "cooled": None, "kind": kind, "suite": suite, "order": order, "ended_unix_s": 1.7e9 + order,
        "seconds": seconds, "method": "counter" if metered else None, "flags": [],
        "gross_j": sum(parts.values()) if metered else None,
        "net_j": sum(parts[name] - IDLE_W[name] * seconds for name in parts) if metered else None,
        "reason": None if metered else "no meter on this machine", "net_reason": None,
    }  # fmt: skip
    for name in IDLE_W:
        found[f"{name}_gross_j"] = parts.get(name)
        found[f"{name}_net_j"] = parts[name] - IDLE_W[name] * seconds if metered else None
    if kind == "load":
        return found | {"load_s": each}
    decoded = 10 * requests if kind == "generate" else 0
    return found | {
        "temperature_start_c": None, "requests": requests, "prompt_tokens": TOKENS.get(suite, 25) * requests,
        "decoded_tokens": decoded, "generated_tokens": decoded + requests if decoded else 0,
        "prefill_s": 0.1 * each * requests, "decode_s": 0.9 * each * requests if decoded else 0.0,
        "busy_s": seconds, "latency_s": [each] * requests, "ttft_s": [0.1 * each] * requests,
    }  # fmt: skip


def visits(study: Study, arm: Arm, *, metered: bool = True, noise: float = 0.01) -> list[dict[str, Any]]:
    """All visits of an arm."""
    section = study.llamacpp
    assert section is not None
    found = []
    for number in range(section.rounds):
        rows = [window(arm, "", "load", number, metered=metered, noise=noise)]
        rows += [
            window(arm, suite, kind, number, metered=metered, noise=noise)
            for suite in arm.suites(section)
            for kind in ("prefill", "generate")
        ]
        found.append(
            {"round": number, "arm": arm.name, "status": "ok", "reason": None, "windows": rows, "facts": FACTS,
             "peak_rss_mib": 90.0, "bandwidth_gb_s": 10.0 if arm.backend == "cpu" else None}
        )  # fmt: skip
    return found


def failed(arm: Arm, status: str, reason: str) -> list[dict[str, Any]]:
    """The one visit of an arm that cannot be measured."""
    row = {"round": 0, "arm": arm.name, "status": status, "reason": reason, "windows": [], "facts": {}}
    return [row | {"peak_rss_mib": None, "bandwidth_gb_s": None}]


def write_session(
    study: Study, *, metered: bool = True, without: dict[str, tuple[str, str]] | None = None, noise: float = 0.01
) -> Path:
    """The records of a session; `without`: arm -> status and reason of one that could not be measured."""
    path = Layout.of(study).record("profile_llamacpp", SESSION)
    record = base_record(study, "profile_llamacpp", {"arm": SESSION})
    record["inputs"] |= {"prompts": {"sha256": "a" * 64}}
    arms = arms_of(study.llamacpp)
    job = SimpleNamespace(
        record_path=path, stage="profile_llamacpp", study=study, settings=record["settings"], inputs=record["inputs"]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    phases, start = [], 0.0
    for arm in arms:
        bad = (without or {}).get(arm.name)
        rows = failed(arm, *bad) if bad else visits(study, arm, metered=metered, noise=noise)
        unmetered = {} if metered else {"cpu_package": "no RAPL"}
        write_arm(job, arm, FILE, rows, {"sd": []}, unmetered, {"python": "3.11"})  # type: ignore[arg-type]
        if not bad and arm.name in ("cpu", "gpu"):
            name = f"window {arm.name} sd generate"
            phases.append({"name": name, "path": name, "depth": 0, "start_s": start, "seconds": 5.0})
            start += 6.0
    record["phases"] = phases
    record["metrics"] = {"arms": len(arms), "arms_measured": len(arms) - len(without or {}), "visits": 1}
    record["settings"] = {**record["settings"], "arms": [arm.name for arm in arms]}
    if metered:
        watts = [170.0 if 60 < t < 110 else 20.0 + t % 3 for t in range(120)]
        trace = [{"time_s": t / 10, "device": "gpu:0", "power_w": power} for t, power in enumerate(watts)]
        record["outputs"] = {"trace": write_table(path.with_suffix(".trace.parquet"), trace)}
    write_record(path, record)
    return path
