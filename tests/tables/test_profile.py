"""Tables of the inference profile, from synthetic records whose ratios are known."""

from __future__ import annotations

import json

import pytest

from gainwatt.profiling.ratios import RatioOf
from gainwatt.study import Layout
from gainwatt.study.profiling_cells import STAGE
from gainwatt.tables.profile import PUBLISHED, inference_benchmark, profile, ratios, section
from gainwatt.tables.profile_claims import CLAIMS, claims, verdict
from gainwatt.tables.profile_definitions import DEFINITIONS, definitions
from gainwatt.tables.results import Results
from gainwatt.tables.write import to_csv
from profiling.profile_records import IDLE_W, MIB, NO_METER, failed, profile_study, write_profile


def load(study):
    return Results.load(study, Layout.of(study))


def only(rows, **wanted):
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def replace_cell(study, arm, batch, new):
    (path,) = (Layout.of(study).results / "records" / STAGE).glob("*.json")
    record = json.loads(path.read_text())
    for place, cell in enumerate(record["metrics"]["cells"]):
        if (cell["arm"], cell["batch"]) == (arm, batch):
            record["metrics"]["cells"][place] = new
    path.write_text(json.dumps(record))


@pytest.fixture
def study(tmp_path):
    made = profile_study(tmp_path)
    write_profile(made)
    return made


@pytest.fixture
def results(study):
    return load(study)


def test_a_study_without_the_section_has_empty_tables(tmp_path):
    made = profile_study(tmp_path)
    write_profile(made)
    results = load(made)
    bare = Results(made.model_copy(update={"profile": None}), results.folder)
    for table in (profile, inference_benchmark, ratios, claims, definitions):
        assert table(bare) == []
    assert section(bare, {}) == ""


def test_every_cell_is_a_row(results):
    rows = profile(results)
    assert len(rows) == 4 * 2
    row = only(rows, arm="bnb-int8", batch=1)
    assert row["latency_ms_mean"] == pytest.approx(2400, rel=0.01)
    assert row["gross_j_per_ktok"] == pytest.approx(1000 * 180 * 2.4 / 32, rel=0.01)
    assert row["edp_js"] == pytest.approx(180 * 2.4 * 2.4, rel=0.02)
    assert row["null_reason"] is None
    assert row["boundary"] == "gpu_board"
    assert row["gates_passed"] is None


def test_the_published_columns_keep_their_order(results):
    rows = inference_benchmark(results)
    header = to_csv(rows).splitlines()[0].split(",")
    assert tuple(header[: len(PUBLISHED)]) == PUBLISHED
    assert header[:4] == ["model_name", "precision", "batch_size", "input_length"]
    row = only(rows, precision="bnb-nf4", batch_size=64)
    assert row["vram_mb"] == pytest.approx(1.1 * 470e6 / MIB)
    assert row["tokens_per_second"] == pytest.approx(64 * 32 / 1.1, rel=0.01)
    assert row["perplexity"] is None


def test_the_baseline_stands_once_in_the_published_table(tmp_path):
    made = profile_study(tmp_path, profile={"batches": [1], "prompt_tokens": [128], "new_tokens": [32], "repeats": 2})
    write_profile(made)
    results = load(made)
    assert [row["precision"] for row in inference_benchmark(results)] == ["fp16", "bf16", "bnb-int8", "bnb-nf4"]
    assert sum(row["arm"] == "fp16" for row in profile(results)) == 3  # once in each group


def test_ratios_are_paired_and_have_intervals(results):
    row = only(ratios(results), arm="bnb-int8", batch=1)
    assert row["latency_ratio"] == pytest.approx(3.0)
    assert row["latency_ratio_low"] == pytest.approx(3.0)  # the drift is the same on both sides and falls out
    assert row["throughput_ratio"] == pytest.approx(1 / 3)
    assert row["gross_j_per_token_ratio"] == pytest.approx(3 * 180 / 200)
    assert row["net_j_per_token_ratio"] == pytest.approx(3 * (180 - IDLE_W) / (200 - IDLE_W))
    assert row["power_ratio"] == pytest.approx(0.9)
    assert row["used_bytes_ratio"] == pytest.approx(650 / 988)
    assert row["pairs"] == 10
    assert not [found for found in ratios(results) if found["arm"] == "fp16"]


def test_out_of_memory_is_a_row_and_has_no_ratio(study):
    from gainwatt.study.profiling_cells import arms, loads

    arm = next(a for a in arms(study) if a.label == "bnb-int8")
    replace_cell(study, "bnb-int8", 64, failed(arm, loads(study)[1], baseline=False))
    results = load(study)
    row = only(profile(results), arm="bnb-int8", batch=64)
    assert (row["status"], row["reason"], row["latency_ms_mean"]) == ("oom", "CUDA out of memory", None)
    ratio = only(ratios(results), arm="bnb-int8", batch=64)
    assert ratio["latency_ratio"] is None
    assert ratio["null_reason"] == "bnb-int8 is oom"
    told = only(claims(results), arm="bnb-int8", batch=64, claim="INT8 is about 3 times slower than fp16")
    assert told["verdict"] == "not measured"


def test_without_joules_the_reason_stands_there(tmp_path):
    made = profile_study(tmp_path)
    write_profile(made, metered=False)
    results = load(made)
    assert only(profile(results), arm="bf16", batch=1)["null_reason"] == NO_METER
    row = only(ratios(results), arm="bf16", batch=1)
    assert row["gross_j_per_token_ratio"] is None
    assert row["latency_ratio"] == pytest.approx(1)
    assert row["null_reason"] == NO_METER
    saved = only(claims(results), arm="bf16", claim="a batch of 64 saves energy per request")
    assert (saved["ours"], saved["verdict"], saved["null_reason"]) == (None, "not measured", NO_METER)
    told = {"profile": profile(results), "profile_ratios": ratios(results), "profile_claims": claims(results)}
    assert NO_METER in section(results, told)


def test_claims_get_our_interval_and_a_verdict(results):
    rows = claims(results)
    slower = only(rows, arm="bnb-int8", batch=1, claim="INT8 is about 3 times slower than fp16")
    assert slower["ours"] == pytest.approx(3.0)
    assert slower["verdict"] == "below the claim"  # 3.15 to 4.18 were published
    assert slower["decode_regime"] == "launch"
    assert slower["kernels"]
    energy = only(rows, arm="bnb-int8", batch=1, claim="INT8 costs more energy than fp16")
    assert energy["verdict"] == "above the claim"
    nf4 = only(rows, arm="bnb-nf4", batch=1, claim="NF4 costs energy in models of up to 3 B parameters")
    assert nf4["ours"] == pytest.approx(1.25 * 190 / 200)
    assert nf4["verdict"] == "agrees"
    faster = only(rows, arm="bnb-nf4", batch=1, claim="INT4 is faster")
    assert faster["verdict"] == "reversed"
    batch = only(rows, arm="fp16", claim="a batch of 64 saves energy per request")
    assert batch["ours"] == pytest.approx(1.1 / 64, rel=0.01)
    assert batch["ours_low"] < batch["ours"] < batch["ours_high"]
    assert not [row for row in rows if "6 B" in row["claim"]]  # a small model says nothing of large ones


def test_an_arm_that_differs_in_two_things_says_nothing_of_either(tmp_path):
    made = profile_study(
        tmp_path,
        profile={
            "batches": [1], "prompt_tokens": [128], "new_tokens": [32], "repeats": 2, "together": 9,
            "modes": ["eager", "compile"], "varied": ["fp16", "bnb-nf4"],
        },
    )  # fmt: skip
    write_profile(made)
    results = load(made)
    compiled = [row for row in claims(results) if row["mode"] == "compile"]
    assert [row["arm"] for row in compiled] == ["fp16~compile"]
    assert compiled[0]["ours"] == pytest.approx(2.0)
    assert compiled[0]["verdict"] == "agrees"
    row = only(profile(results), arm="fp16~compile")
    assert row["compile_pays_back_requests"] == pytest.approx(12 / 0.4, rel=0.01)
    assert only(profile(results), arm="bnb-nf4~compile")["compile_pays_back_requests"] == pytest.approx(24, rel=0.01)
    assert only(profile(results), arm="bnb-nf4")["compile_pays_back_requests"] is None


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (RatioOf(3.5, 3.2, 3.9, 10), "agrees"),
        (RatioOf(3.0, 2.0, 3.2, 10), "agrees"),
        (RatioOf(2.0, 1.9, 2.1, 10), "below the claim"),
        (RatioOf(6.0, 5.0, 7.0, 10), "above the claim"),
        (RatioOf(0.8, 0.7, 0.9, 10), "reversed"),
        (RatioOf(2.0, 0.9, 4.0, 2), "undecided"),
        (RatioOf(3.5, None, None, 1), "no interval"),
        (RatioOf(None, None, None, 0, "why"), "not measured"),
    ],
)
def test_verdicts(ratio, said):
    assert CLAIMS[0].low == 3.15
    assert verdict(CLAIMS[0], ratio) == said


def test_a_claim_of_no_change_needs_a_narrow_interval():
    claim = next(claim for claim in CLAIMS if claim.claim == "INT8 keeps the speed")
    assert verdict(claim, RatioOf(1.0, 0.95, 1.05, 10)) == "agrees"
    assert verdict(claim, RatioOf(1.0, 0.5, 2.0, 10)) == "undecided"
    assert verdict(claim, RatioOf(0.3, 0.2, 0.4, 10)) == "below the claim"


def test_numbers_by_other_definitions(results):
    rows = [row for row in definitions(results) if row["arm"] == "bnb-int8" and row["batch"] == 64]
    assert len(rows) == len(DEFINITIONS)
    latency_s, watts, tokens = 2.4 * 1.1 * 1.0045, 180.0, 64 * 32  # the windows slow down by 0.9 % in all

    def of(source, quantity):
        return only(rows, source=source, quantity=quantity)

    assert of("powerbench", "energy of a batch")["value"] == pytest.approx(watts * latency_s)
    assert of("powerbench", "energy of a batch")["value_over_ours"] == pytest.approx(1.0)
    assert of("powerbench", "tokens_per_second")["value"] == pytest.approx(tokens / latency_s)
    assert of("powerbench", "model size")["value"] == pytest.approx(1.2 * 650e6 / MIB)
    consumer = "Energy-Aware-LLM-Inference-on-Consumer-Hardware"
    before_run_j = IDLE_W * 5.0
    assert of(consumer, "energy_joules")["value"] == pytest.approx(before_run_j)
    assert of(consumer, "energy_joules, sampled in the run")["value"] == pytest.approx(watts * 5.0)
    assert of(consumer, "energy per token (first report)")["value"] == pytest.approx(before_run_j / tokens)
    assert of(consumer, "energy per prompt (second report)")["value"] == pytest.approx(before_run_j / 64)
    assert of(consumer, "EDP (first report)")["value"] == pytest.approx(
        before_run_j / tokens * 1000 * latency_s / tokens
    )
    assert of(consumer, "EDP (second report)")["value"] == pytest.approx(before_run_j * latency_s)
    assert of(consumer, "tokens_generated / latency")["value"] == pytest.approx(20 / latency_s)
    article = "Benchmarks and Optimization: From 48GB GPU to 8GB RTX"
    assert of(article, "throughput_per_sec")["value"] == pytest.approx(64 / latency_s)
    assert of(article, "model_size_mb")["value"] == pytest.approx(650e6 / MIB)
    memo = of("ecocompute-dynamic-eval, dataset memo", "energy per 1k tokens")
    assert memo["value"] == pytest.approx((watts - IDLE_W) * 1000 * latency_s / tokens)
    assert memo["ours"] == "net_j_per_ktok"
    hardware = of("ecocompute-dynamic-eval, hardware profile", "energy per 1k tokens")
    assert hardware["value"] == pytest.approx(watts * 1000 * latency_s / tokens)
    assert of("ecocompute-dynamic-eval, hardware profile", "energy per request")["value"] == pytest.approx(
        watts * latency_s / 64
    )
    assert of("ecocompute-mlcube", "energy per 1k tokens")["value_over_ours"] == pytest.approx(0.98)


def test_definitions_that_need_power_say_why_there_is_none(tmp_path):
    made = profile_study(tmp_path)
    write_profile(made, metered=False)
    rows = [row for row in definitions(load(made)) if row["arm"] == "fp16" and row["batch"] == 1]
    assert {row["quantity"] for row in rows if row["value"] is not None} == {
        "tokens_per_second", "model size", "tokens_generated / latency", "throughput_per_sec", "model_size_mb",
    }  # fmt: skip
    assert all(row["null_reason"] for row in rows if row["value"] is None)


def test_quality_joins_where_it_was_measured(tmp_path):
    from factories import write_all_records

    made = profile_study(tmp_path, matrix=True)
    write_profile(made)
    write_all_records(made)
    rows = profile(load(made))
    row = only(rows, arm="bnb-nf4", batch=1)
    assert 0 < row["accuracy"] < 1
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert only(rows, arm="fp16", batch=1)["accuracy"] is None  # the matrix has no fp16 cell
    assert only(inference_benchmark(load(made)), precision="bnb-nf4", batch_size=1)["gsm8k_accuracy"] == row["accuracy"]


def test_the_summary_tells_ratios_and_claims(results):
    tables = {"profile": profile(results), "profile_ratios": ratios(results), "profile_claims": claims(results)}
    text = section(results, tables)
    assert "| bnb-int8 | 1 × 128 × 32 | 0.33×" in text
    assert "A board" in text
