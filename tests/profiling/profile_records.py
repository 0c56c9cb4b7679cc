"""Synthetic records of the inference profile: every number follows from seconds, watts and bytes that a test gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import base_record, study_content
from gainwatt.energy.protocol import abba
from gainwatt.limits import ModelShape
from gainwatt.record import write_record
from gainwatt.study import Layout, Study
from gainwatt.study.profiling_cells import STAGE, Arm, Group, Load, groups, loads

SHAPE = ModelShape(24, 896, 14, 2, 64, 4864, 151936, True, 494_032_768, 988_065_536)
LIMITS = {"bandwidth_gb_s": 4300.0, "tflop_s": 790.0, "launch_us": 5.0, "how": "made up"}
MIB = 2**20
IDLE_W = 80.0
NO_METER = "no meter on this machine"
QUANTIZE = {"reference": "bf16", "schemes": ["bnb-int8", "bnb-nf4"], "calibration_items": 4}
PROFILE = {
    "batches": [1, 64], "prompt_tokens": [128], "new_tokens": [32], "together": 8, "repeats": 10, "window_s": 5,
}  # fmt: skip
# scheme -> seconds of a batch of 1, watts, bytes of weights: launch-bound, so that a batch of 64 takes little longer.
SPEED = {
    "fp16": (0.80, 200.0, 988_000_000), "bf16": (0.80, 200.0, 988_000_000), "bnb-int8": (2.40, 180.0, 650_000_000),
    "bnb-nf4": (1.00, 190.0, 470_000_000),
}  # fmt: skip


def profile_study(folder: Path, **sections: Any) -> Study:
    content = {"matrix": False, "quantize": QUANTIZE, "profile": PROFILE} | sections
    return Study.model_validate(study_content(folder, **content))


def windows(load: Load, orders: list[int], latency_s: float, watts: float | None) -> list[dict[str, Any]]:
    """One window per place in the order; each a little slower than the one before."""
    made = []
    for number, order in enumerate(orders):
        calls = 3
        seconds = calls * latency_s * (1 + 0.001 * number)
        joules = None if watts is None else watts * seconds
        made.append(
            {
                "order": order, "calls": calls, "work": float(calls * load.batch * load.new_tokens),
                "seconds": seconds, "gross_j": joules,
                "net_j": None if joules is None else joules - IDLE_W * seconds, "temperature_start_c": None,
                "cooled": None, "flags": [], "start_s": 10.0 * order, "power_samples": 0 if watts is None else 50,
                "sampled_w": watts, "trapezoid_j": None if joules is None else 0.98 * joules,
                "idle_w": None if watts is None else IDLE_W, "reason": NO_METER if watts is None else None,
                "net_reason": None,
            }
        )  # fmt: skip
    return made


def cell(arm: Arm, load: Load, orders: list[int], *, baseline: bool, metered: bool = True) -> dict[str, Any]:
    """A measured cell. Batches cost 10 % more time when they are 64 times as large."""
    single_s, watts, held = SPEED[arm.scheme]
    latency_s = single_s * (1 + 0.1 * (load.batch - 1) / 63) * (0.5 if arm.mode == "compile" else 1.0)
    found = windows(load, orders, latency_s, watts if metered else None)
    seconds, tokens = sum(w["seconds"] for w in found), sum(w["work"] for w in found)
    calls = sum(w["calls"] for w in found)
    latency_ms, rate = 1000 * seconds / calls, tokens / seconds
    ttft_ms = 0.1 * latency_ms
    tpot_ms = (latency_ms - ttft_ms) / (load.new_tokens - 1)
    step_s = tpot_ms / 1000
    made: dict[str, Any] = {
        **arm.as_dict(), "baseline": baseline, **load.as_dict(), "status": "ok", "reason": None, "dtype": "fp16",
        "n_calls": calls, "n_windows": len(found), "latency_cv": 0.01, "ttft_cv": 0.01,
        **{f"latency_ms_{name}": latency_ms * (1 + 0.001 * i)
           for i, name in enumerate(("low", "mean", "p50", "high", "p95", "p99"), start=-1)},
        **{f"ttft_ms_{name}": ttft_ms for name in ("mean", "p50", "p95", "p99")},
        "tpot_ms_mean": tpot_ms, "throughput_tok_s": rate, "throughput_tok_s_low": 0.99 * rate,
        "throughput_tok_s_high": 1.01 * rate, "throughput_tok_s_cv": 0.01,
        "prefill_tok_s": load.batch * load.prompt_tokens / (ttft_ms / 1000), "decode_tok_s": load.batch / step_s,
        "requests_s": load.batch * calls / seconds, "achieved_tflop_s": 1.0, "flops_per_request": 1e12,
        "prefill_over_roof": 0.1, "prefill_roof_tok_s": 1e6, "prefill_regime": "launch", "decode_over_roof": 0.1,
        "decode_roof_tok_s": 10 * load.batch / step_s, "decode_regime": "launch",
        "step_flops": load.batch * SHAPE.flops_per_token(144),
        "step_bytes": SHAPE.decode_bytes_per_step(load.batch, 144, held),
        "prefill_flops": load.batch * SHAPE.prefill_flops(128), "prefill_bytes": float(held),
        "prefill_launches": 500, "step_launches": 500.0, "graph_launches": 0, "prefill_device_s": 0.002,
        "step_device_s": 0.002, "parameters": SHAPE.parameters, "parameter_bytes": held, "used_bytes": held,
        "disk_bytes": held, "allocated_after_load_mib": 1.01 * held / MIB, "load_peak_mib": 1.2 * held / MIB,
        "prefill_peak_mib": 1.1 * held / MIB, "decode_peak_mib": 1.05 * held / MIB,
        "generate_peak_mib": 1.1 * held / MIB, "load_s": 1.0, "first_call_extra_s": 0.5,
        "compile_s": 12.0 if arm.mode == "compile" else None, "kernel_path": "torch's matrix product",
        "layers": "169 Linear[float16]", "kernels": "gemm 90%", "words_per_call": 20, "gates": [], "flags": [],
        "windows": found, "null_reasons": {},
    }  # fmt: skip
    _energy(made, load, latency_ms, rate, watts if metered else None)
    return made


def _energy(made: dict[str, Any], load: Load, latency_ms: float, rate: float, watts: float | None) -> None:
    names = (
        "gross_j_per_ktok", "net_j_per_ktok", "mean_w", "gross_j_per_request", "net_j_per_request", "edp_js",
        "tokens_per_gross_j", "tokens_per_net_j", "prefill_gross_j_per_ktok", "decode_gross_j_per_ktok",
    )  # fmt: skip
    ends = [f"{n}{e}" for n in names[:3] for e in ("_low", "_high", "_cv")]
    made |= dict.fromkeys((*names, *ends))
    if watts is None:
        made["null_reasons"] |= dict.fromkeys(names, NO_METER)
        return
    gross, net = 1000 * watts / rate, 1000 * (watts - IDLE_W) / rate
    per_request = gross / 1000 * load.new_tokens
    made |= {
        "gross_j_per_ktok": gross, "gross_j_per_ktok_low": 0.99 * gross, "gross_j_per_ktok_high": 1.01 * gross,
        "gross_j_per_ktok_cv": 0.01, "net_j_per_ktok": net, "net_j_per_ktok_low": 0.99 * net,
        "net_j_per_ktok_high": 1.01 * net, "net_j_per_ktok_cv": 0.01, "mean_w": watts, "mean_w_low": 0.99 * watts,
        "mean_w_high": 1.01 * watts, "mean_w_cv": 0.01, "gross_j_per_request": per_request,
        "net_j_per_request": net / 1000 * load.new_tokens, "edp_js": per_request * latency_ms / 1000,
        "tokens_per_gross_j": 1000 / gross, "tokens_per_net_j": 1000 / net, "prefill_gross_j_per_ktok": 0.1 * gross,
        "decode_gross_j_per_ktok": gross,
    }  # fmt: skip


def failed(arm: Arm, load: Load, *, baseline: bool, status: str = "oom", reason: str = "CUDA out of memory") -> dict:
    return {
        **arm.as_dict(), "baseline": baseline, **load.as_dict(), "status": status, "reason": reason, "windows": [],
        "null_reasons": {},
    }  # fmt: skip


def group_cells(study: Study, group: Group, *, metered: bool = True) -> list[dict[str, Any]]:
    assert study.profile is not None
    labels = [arm.label for arm in group.arms]
    order = abba(labels, study.profile.repeats)
    return [
        cell(arm, load, [i for i, label in enumerate(order) if label == arm.label], baseline=i == 0, metered=metered)
        for load in loads(study)
        for i, arm in enumerate(group.arms)
    ]


def write_profile(study: Study, *, metered: bool = True) -> None:
    """A record for every group of the study."""
    for group in groups(study):
        cells = group_cells(study, group, metered=metered)
        about = {
            "variant": group.variant, "baseline": group.arms[0].label, "arms": "+".join(a.label for a in group.arms)
        }  # fmt: skip
        record = base_record(study, STAGE, about, metrics={"cells": cells, "cells_ok": len(cells)})
        record["settings"]["limits"] = {"fp16": LIMITS}
        record["energy"] |= {"boundary": ["gpu_board"]} if metered else {}
        record["environment"]["gpus"] = [{"name": "A board"}]
        write_record(Layout.of(study).record(STAGE, group.name), record)
