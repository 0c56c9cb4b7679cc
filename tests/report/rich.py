"""A study with all that a report can show: energy by counter, three seeds, prices, cells that failed, hostile text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import (
    base_record,
    checkpoint_input,
    correct_items,
    energy_of,
    items,
    phases_of,
    study_content,
    write_all_records,
    write_evaluation,
    write_table,
)
from gainwatt.atomic import write_json, write_text
from gainwatt.engines.base import Completion
from gainwatt.evaluation.metrics import item_rows, summarize
from gainwatt.gsm8k.data import Item
from gainwatt.record import write_record
from gainwatt.study import Cell, Layout, Study, evaluation_cells
from gainwatt.tables import accuracy, cost, stages
from gainwatt.tables.results import Results
from gainwatt.tables.write import write_csv
from gainwatt.validation.findings import Finding, write_findings

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>\u2028\"'&amp;"


def rich_content(folder: Path, **sections: Any) -> dict[str, Any]:
    """The content of the study file."""
    given: dict[str, Any] = {
        "study": "rich",
        "description": f"Three seeds & prices. {HOSTILE}",
        "train": {"seeds": [0, 1, 2]},
        "quantize": {
            "reference": "fp32", "schemes": ["bnb-nf4", "awq-w4g128", "bnb-int8", "gptq-w4g128"],
            "calibration_items": 4,
        },
        "cost": {"electricity_usd_per_kwh": 0.30, "machine_usd_per_h": 2.5, "pue": 1.3},
    }  # fmt: skip
    return study_content(folder, **(given | sections))


def device(gross_j: float, net_j: float, window_s: float) -> dict[str, Any]:
    """A metered GPU as the energy block names it."""
    return {
        "device": "gpu:0", "boundary": "gpu_board", "name": "Example GPU 80GB", "method": "counter", "gross_j": gross_j,
        "net_j": net_j, "counter_j": gross_j, "integral_j": gross_j * 1.004, "relative_difference": -0.004,
        "idle_before_w": 81.0, "power_limit_w": 700.0, "max_w": 612.5, "mean_w": gross_j / window_s,
    }  # fmt: skip


def metered(seconds: float, watts: float) -> dict[str, Any]:
    """An energy block with a device, flags and a sampling rate."""
    load = (8.0, 8.0 * 140, 8.0 * 59)
    block = energy_of({"load": load, "generate": (seconds, seconds * watts, seconds * (watts - 81.0))})
    block["devices"] = [device(block["gross_j"], block["net_j"], seconds + 8.0)]
    block["sampling"] = {"effective_hz": 9.97, "nominal_hz": 10.0, "samples": 500}
    block["flags"] = [{"flag": "power_capped", "device": "gpu:0", "text": "capped"}] if watts > 500 else []
    return block


def environment(**changed: Any) -> dict[str, Any]:
    """An environment with a GPU."""
    found: dict[str, Any] = {
        "python": "3.12.3", "platform": "Linux-6.8", "cpu": "Example CPU", "cpu_cores": 16, "memory_mib": 128000,
        "gpus": [{"index": 0, "name": "Example GPU 80GB", "driver": "580.1", "power_limit_w": 700.0}],
        "visible_devices": None, "packages": {"torch": "2.11.0", "transformers": "5.17.0"},
        "git": {"commit": "c" * 40, "changed": False}, "threads": "1",
    }  # fmt: skip
    return found | changed


def write_rich(study: Study, n: int = 200) -> None:
    """Every record of the study; two cells failed, three were never measured."""
    write_all_records(study, n=n)
    layout = Layout.of(study)
    for place, cell in enumerate(evaluation_cells(study)):
        write_cell(study, cell, n=n, seconds=40.0 + 3 * place, watts=300.0 + 14 * place)
    write_evaluation(
        study, Cell("grpo-s1", "bnb-int8"), status="oom", metrics={}, outputs={},
        reason="CUDA out of memory: tried to allocate 2.00 GiB with 1.20 GiB free",
    )  # fmt: skip
    write_evaluation(
        study, Cell("base", "gptq-w4g128"), status="unavailable", metrics={}, outputs={},
        reason=f"gptqmodel is not installed {HOSTILE}",
    )  # fmt: skip
    for variant in ("grpo-s0", "grpo-s1", "grpo-s2"):
        layout.record("evaluate_gsm8k", f"{variant}.gptq-w4g128").unlink()


def write_cell(study: Study, cell: Cell, *, n: int, seconds: float, watts: float) -> None:
    """An evaluation with longer answers and an energy block with a device."""
    path = Layout.of(study).record("evaluate_gsm8k", cell.name)
    asked = [Item(0, f"How many? {HOSTILE}", "#### 2", "2"), *items(n)[1:]]
    answers = {}
    for i, right in enumerate(correct_items(cell, n)):
        number = i + 2 if right else 900 + len(cell.name) + i
        text = (
            f"We start with {i} and add 2.\nThat makes {number}.\n#### {number}" if i else f"{HOSTILE}\n#### {number}"
        )
        ended = "length" if i % 17 == 3 else "stop"
        answers[i] = Completion(i, text if ended == "stop" else "We start with", 30 + i % 9, ended, 0.9, 8)
    rows = item_rows(asked, answers, {item.index: item.question for item in asked})
    metrics = summarize(rows) | {
        "resumed_items": 0, "generate_s": seconds, "throughput_tok_s": 30.0 * n / seconds,
        "reference_nll_per_token": 0.5, "reference_ppl": 1.6487, "reference_ppl_token_count": 400,
    }  # fmt: skip
    energy = metered(seconds, watts)
    machine = (
        environment() if cell.scheme != "awq-w4g128" else environment(packages={"torch": "2.13.0"}, python="3.11.7")
    )
    trace = [{"time_s": t / 10, "device": "gpu:0", "power_w": watts + 20 * (t % 7) - 60} for t in range(480)]
    record = base_record(
        study, "evaluate_gsm8k", {"variant": cell.variant, "scheme": cell.scheme, "engine": "transformers"},
        metrics=metrics, energy=energy, phases=phases_of(energy), environment=machine,
        outputs={
            "items": write_table(path.with_suffix(".items.parquet"), rows),
            "trace": write_table(path.with_suffix(".trace.parquet"), trace),
        },
        started_at="2026-03-01T08:00:00+00:00",
    )  # fmt: skip
    record["settings"] |= {"effective": {"batch_size": 8}, "events": []}
    record["inputs"] |= {"checkpoint": checkpoint_input(cell), "data": {"sha256": "d" * 64}}
    write_record(path, record)


def write_tables(study: Study) -> None:
    """The tables that a report reads, and two findings of the validator."""
    layout = Layout.of(study)
    results = Results.load(study, layout)
    makers = {
        "accuracy_matrix": accuracy.accuracy_matrix, "paired_quant_effect": accuracy.paired_effects,
        "gains": accuracy.gains, "gain_survival": accuracy.survivals, "cost_per_correct": cost.per_correct_answer,
        "energy_by_job": cost.energy_by_job, "training": stages.training, "quantization": stages.quantization,
    }  # fmt: skip
    for name, make in makers.items():
        write_csv(layout.tables / f"{name}.csv", make(results), ["variant"])
    found = [
        Finding("error", "complete", "records/x.json", f"it is gone {HOSTILE}", "run the study"),
        Finding("warning", "hit_max_rate", "records/y.json", "12.0 % of the answers were cut", "raise the limit"),
    ]
    write_findings(layout.tables / "validation.csv", found)


def write_figure(study: Study, name: str = "power_trace") -> None:
    """A small drawn figure and the index that names it, and one that was not drawn."""
    folder = Layout.of(study).figures
    record = "records/evaluate_gsm8k/base.fp32.json"
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="200"><path d="M0 150L640 40" stroke="#07a"/></svg>'
    )
    write_text(folder / f"{name}.svg", drawing)
    index = {
        name: {
            "files": [f"{name}.svg"], "made_from": "any metered job", "title": "Power over time", "caption": "One job.",
            "alt": f"Power of one job {HOSTILE}", "records": [{"path": record, "sha256": "0" * 64}],
        },
        "layer_errors": {"files": [], "made_from": "diagnose_weights", "reason": "no record of it"},
        "code_maps": {"files": ["../../secret.svg"], "made_from": "diagnose_weights"},
    }  # fmt: skip
    write_json(folder / "index.json", index)
