"""The record of each arm, made from its visits, and the table of windows beside it.

The joules of an arm are in its metrics and windows. The energy of the whole run, idle power and trace stand in the
record of the session, once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.job import Job
from gainwatt.llamacpp.arms import SESSION, Arm
from gainwatt.llamacpp.boundary import BOUNDARIES
from gainwatt.llamacpp.files import GgufFile
from gainwatt.llamacpp.metrics import (
    OWN_DEVICE,
    Row,
    gates,
    load_metrics,
    null_reason,
    ratio,
    suite_metrics,
    windows_of,
)
from gainwatt.parquet import write_table
from gainwatt.record import file_sha256, write_record

NO_BANDWIDTH = "read bandwidth is measured for CPU arms: a GPU reads its own memory"
ONE_WINDOW = "a spread needs at least two windows"
NO_SPLIT = "llamacpp.split_energy is off: prefill was not measured alone"


def write_arm(
    job: Job, arm: Arm, file: GgufFile, visits: Sequence[Row], prompts: dict[str, Any], unmetered: dict[str, str],
    machine: dict[str, Any],
) -> Path:  # fmt: skip
    """Write the record of one arm from all of its visits; returns its path.

    `unmetered`: boundary -> why it has no joules; `machine`: what environment.capture() says.
    """
    path = job.record_path.with_name(f"{arm.name}.json")
    failed = next((visit for visit in visits if visit["status"] != "ok"), None)
    rows = [] if failed else [row for visit in visits for row in visit["windows"]]
    metrics, reasons = _metrics(arm, file, visits, rows, unmetered) if rows else ({}, {})
    outputs = {"windows": _write_windows(path.with_suffix(".windows.parquet"), rows)} if rows else {}
    write_record(
        path,
        {
            "stage": job.stage,
            "study": job.study.study,
            "cell": _cell(arm),
            "status": failed["status"] if failed else "ok",
            "reason": failed["reason"] if failed else None,
            "metrics": metrics,
            "null_reasons": reasons,
            "settings": job.settings | {"effective": visits[0]["facts"] if visits else {}, "prompts": prompts},
            "inputs": job.inputs | {"file": {"sha256": file.sha256, "bytes": file.bytes, "origin": file.origin}},
            "outputs": outputs,
            "phases": [],
            "energy": _energy(),
            "environment": machine,
            "command": ["python", *sys.argv],
        },
    )
    return path


def _cell(arm: Arm) -> dict[str, Any]:
    """What names the arm; settings that the machine decides are `all`."""
    return {
        "arm": arm.name, "backend": arm.backend, "type": arm.type, "threads": arm.threads or "all",
        "gpu_layers": "all" if arm.gpu_layers is None else arm.gpu_layers, "prompt_batch": arm.prompt_batch,
        "parallel": arm.parallel,
    }  # fmt: skip


def _energy() -> dict[str, Any]:
    why = f"the energy of the run is in the record {SESSION}.json; this arm's joules are in its metrics and windows"
    return {
        "boundary": [], "gross_j": None, "net_j": None, "devices": [], "by_boundary": {}, "phase_totals": [],
        "flags": [], "null_reasons": {"gross_j": why, "net_j": "gross_j is null"},
    }  # fmt: skip


def _metrics(
    arm: Arm, file: GgufFile, visits: Sequence[Row], rows: list[Row], unmetered: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    facts = visits[0]["facts"]
    metrics: dict[str, Any] = {
        "weight_bytes": facts["weight_bytes"], "file_bytes": file.bytes, "bits_per_weight": file.bits_per_weight,
        "threads": facts["threads"], "layers": facts["layers"],
        "peak_rss_mib": max((v["peak_rss_mib"] for v in visits if v["peak_rss_mib"]), default=None),
        "read_bandwidth_gb_s": visits[0]["bandwidth_gb_s"],
    }  # fmt: skip
    metrics |= load_metrics(rows)
    for suite in dict.fromkeys(row["suite"] for row in rows if row["suite"]):
        found: dict[str, Any] = suite_metrics(rows, suite, arm.backend)
        found |= _roof(found, metrics, arm.parallel)
        power = [r["gross_j"] / r["seconds"] for r in windows_of(rows, suite) if r["gross_j"] is not None]
        found |= {f"gate_{name}": passed for name, passed in gates(found, power).items()}
        metrics |= {f"{suite}_{name}": value for name, value in found.items()}
    return metrics, {
        name: _why(name, rows, unmetered, OWN_DEVICE[arm.backend]) for name, value in metrics.items() if value is None
    }


def _roof(found: dict[str, Any], metrics: dict[str, Any], parallel: int) -> dict[str, float | None]:
    """Bytes of weights that decoding reads a second, beside the measured bandwidth; above 1 they come from caches.

    A step reads the weights once for all requests that are decoded together.
    """
    steps = None if found.get("decode_tok_s") is None else found["decode_tok_s"] / parallel
    read = None if steps is None else steps * metrics["weight_bytes"] / 1e9
    return {"weights_read_gb_s": read, "share_of_bandwidth": ratio(read, metrics["read_bandwidth_gb_s"])}


def _why(name: str, rows: list[Row], unmetered: dict[str, str], device: str) -> str:
    """Why a metric is null."""
    if "bandwidth" in name:
        return NO_BANDWIDTH
    if "peak_rss" in name:
        return "the kernel shows no peak of the process"
    own = any(part in name for part in ("own_device", "edp_published", "edp_per_token"))
    part = device if own else next((found for found in BOUNDARIES if found in name), None)
    if part is not None:
        return f"{part}: {unmetered.get(part) or null_reason(rows) or 'a window has no reading'}"
    joules = any(part in name for part in ("_j_", "_js", "gross", "net_", "_w", "tokens_per_j", "gate_power"))
    reason = null_reason(rows) or (null_reason(rows, "net_reason") if "net" in name or "idle" in name else None)
    if joules and reason is not None:
        return reason
    return NO_SPLIT if "prefill_" in name or name.endswith("decode_gross_j_per_request") else ONE_WINDOW


def _write_windows(path: Path, rows: list[Row]) -> dict[str, Any]:
    write_table(path, rows)
    return {"file": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size}
