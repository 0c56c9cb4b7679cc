"""The serving benchmark's tables from a synthetic grid."""

from __future__ import annotations

import csv
import io
import json

import pytest

from factories import script_main, study_content
from gainwatt.record import read_record, write_record
from gainwatt.study import Layout, Study
from gainwatt.study.serving_cells import STAGE
from gainwatt.tables import serving
from gainwatt.tables.results import Results
from gainwatt.tables.write import to_csv
from serving.bench_records import SERVE, write_grid

PUBLISHED = (
    "label,model,quantization,num_prompts,max_new_tokens,dtype,max_model_len,request_mode,batch_size,num_batches,"
    "max_num_seqs,max_num_batched_tokens,generated_tokens,wall_time_s,throughput_tok_s,latency_p50_s,latency_p95_s,"
    "peak_mem_gb,peak_reserved_gb,split,output_dir"
)


def make(folder, **sections):
    quantize = {"reference": "bf16", "schemes": ["awq-w4g128"], "calibration_items": 4}
    content = study_content(folder, **{"serve": SERVE, "quantize": quantize, **sections})
    return Study.model_validate(content)


def load(study):
    return Results.load(study, Layout.of(study))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    study = make(tmp_path_factory.mktemp("tables"), serve=SERVE | {"kernels": ["no-MacheteLinearKernel"]})
    write_grid(study)
    return load(study)


def test_the_published_columns_keep_their_names_and_order(results):
    text = to_csv(serving.published(results))
    assert text.splitlines()[0] == PUBLISHED
    row = next(r for r in csv.DictReader(io.StringIO(text)) if r["label"] == "base.awq-w4g128.offline-fixed-b16")
    assert (row["quantization"], row["request_mode"], row["batch_size"], row["split"]) == (
        "awq",
        "batch",
        "16",
        "random",
    )
    assert float(row["throughput_tok_s"]) == pytest.approx(float(row["generated_tokens"]) / float(row["wall_time_s"]))
    assert float(row["peak_mem_gb"]) == pytest.approx(112000 * 2**20 / 1e9)
    assert row["max_new_tokens"] == "128"


def test_lengths_stand_apart_and_every_cell_has_a_row(results):
    rows = serving.offline(results)
    assert len(rows) == 2 * (1 + 2) * 2 * 4  # variants x checkpoints and forced kernel x lengths x loads
    assert {row["lengths"] for row in rows} == {"natural", "fixed"}
    assert all(
        row["gross_j_per_token_low"] <= row["gross_j_per_token"] <= row["gross_j_per_token_high"] for row in rows
    )


def test_the_online_table_keeps_search_and_loads_apart(results):
    rows = serving.online(results)
    assert {row["load"].rpartition("-")[2] for row in rows} == {"c1", "c16", "c64", "r2", "r8"}
    assert all((row["clients"] is None) != (row["rate_per_s"] is None) for row in rows)
    assert all(row["prefix_hits"] == 0 and row["cleaned"] for row in rows)


def test_capacity_and_memory_by_start(results):
    rows = serving.capacities(results)
    online = next(row for row in rows if row["mode"] == "online" and row["lengths"] == "fixed")
    assert (online["capacity_requests_per_s"], online["missed_requests_per_s"]) == (40.0, 45.0)
    assert (online["idle_at_rest_w"], online["idle_loaded_w"]) == (80.0, 120.0)
    assert online["max_concurrency"] == 3700.5
    parts = [online[f"memory_{name}_mib"] for name in ("weights", "kv_cache", "activations", "reserved")]
    assert None not in parts
    assert sum(parts[:3]) < parts[3]


def test_kernels_explain_a_slow_quantized_cell(results):
    rows = {
        (r["variant"], r["scheme"], r["kernel"], r["lengths"], r["batch_size"]): r for r in serving.kernels(results)
    }
    own = rows["base", "awq-w4g128", None, "fixed", 16]
    forced = rows["base", "awq-w4g128", "no-MacheteLinearKernel", "fixed", 16]
    reference = rows["base", "bf16", None, "fixed", 16]
    assert own["over_reference"] == pytest.approx(own["throughput_tok_s"] / reference["throughput_tok_s"])
    assert forced["over_own_choice"] == pytest.approx(0.5)
    assert own["quantization_kernel"] == "AWQ: MacheteLinearKernel"


def test_a_cell_that_failed_on_its_way_is_in_no_ratio(tmp_path):
    study = make(tmp_path, matrix=False)
    write_grid(study)
    found = load(study)
    record = found.branches[STAGE]["base.bf16.offline-fixed-b16"]
    record |= {"status": "failed", "reason": "the engine died"}
    rows = [r for r in serving.kernels(found) if (r["variant"], r["lengths"], r["batch_size"]) == ("base", "fixed", 16)]
    assert any(r["scheme"] != "bf16" for r in rows)
    assert {r["over_reference"] for r in rows} == {None}
    assert [r["over_own_choice"] for r in rows if r["scheme"] == "bf16"] == [None]


def test_a_cell_that_did_not_fit_is_a_row(tmp_path):
    study = make(tmp_path, matrix=False, quantize={"reference": "bf16", "schemes": [], "calibration_items": 4})
    write_grid(study)
    path = Layout.of(study).record(STAGE, "base.bf16.offline-fixed-b256")
    record = read_record(path)
    record |= {"status": "oom", "reason": "out of memory at batch size 256", "metrics": {}, "null_reasons": {}}
    del record["settings"]["facts"], record["kind"], record["schema_version"]
    write_record(path, record)
    row = next(r for r in serving.offline(load(study)) if r["batch_size"] == 256 and r["lengths"] == "fixed")
    assert (row["status"], row["reason"], row["throughput_tok_s"]) == ("oom", "out of memory at batch size 256", None)
    assert "oom" in serving.section(load(study), {"serving_benchmark": serving.published(load(study))})


def test_the_script_writes_csv_json_lines_and_the_summary(tmp_path, monkeypatch):
    study = make(tmp_path, matrix=False, quantize={"reference": "bf16", "schemes": [], "calibration_items": 4})
    write_grid(study)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study_content(tmp_path, matrix=False, serve=SERVE, quantize={"reference": "bf16", "schemes": [], "calibration_items": 4})))  # fmt: skip  # noqa: E501
    assert script_main("make_tables")(["--study", str(file)]) == 0
    tables = Layout.of(study).tables
    lines = [json.loads(line) for line in (tables / "serving_benchmark.jsonl").read_text().splitlines()]
    assert ",".join(lines[0]) == PUBLISHED
    assert (tables / "serving_benchmark.csv").read_text().startswith(PUBLISHED + "\n")
    text = (tables / "summary.md").read_text()
    assert "| Variant | Quantization | Throughput tok/s | Latency p50 s | Latency p95 s | Peak mem GB |" in text


def test_a_study_without_the_section_has_none_of_it(tmp_path):
    made = Results(make(tmp_path, serve=None), tmp_path)
    assert serving.published(made) == serving.offline(made) == serving.online(made) == serving.kernels(made) == []
    assert serving.capacities(made) == []
    assert serving.section(made, {}) == ""
