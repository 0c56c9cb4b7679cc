"""Tables, figures and expectations of the llama.cpp profile, from synthetic records with known numbers."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from factories import study_content, write_table
from gainwatt.figures import llamacpp as figures
from gainwatt.figures import llamacpp_ablations, style
from gainwatt.figures.describe_llamacpp import LLAMACPP_TEXTS, NAMES
from gainwatt.record import read_record
from gainwatt.study import Layout, Study
from gainwatt.tables import llamacpp as tables
from gainwatt.tables.results import Results
from gainwatt.tables.summary import summary
from gainwatt.validation import validate
from llamacpp.synthetic import ACTIVE_W, IDLE_W, SECTION, write_session

DRAWN = {
    "llamacpp_energy_latency": figures.energy_vs_latency,
    "llamacpp_backends": figures.metrics_comparison,
    "llamacpp_power": figures.power_trace,
    "llamacpp_race": figures.race_to_sleep,
    **{name: llamacpp_ablations.figure_of(what) for what, name in NAMES.items()},
}
OOM = {"gpu-q8_0": ("oom", "failed to allocate\n  what to do: less")}


def made(folder, **options):
    study = Study.model_validate(study_content(folder, matrix=False, llamacpp=SECTION))
    write_session(study, **options)
    return Results.load(study, Layout.of(study))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made(tmp_path_factory.mktemp("llamacpp"), without=OOM)


def test_joules_have_one_boundary_whichever_device_did_the_work(results):
    rows = {(row["arm"], row["suite"]): row for row in tables.arms(results)}
    for backend in ("cpu", "gpu"):
        row = rows[backend, "ar"]
        watts = sum(ACTIVE_W[backend].values())
        assert row["mean_w"] == pytest.approx(watts)
        assert row["gross_j_per_request"] == pytest.approx(watts * row["s_per_request"])
        parts = [row[f"{name}_gross_j_per_request"] for name in IDLE_W]
        assert sum(parts) == pytest.approx(row["gross_j_per_request"])
        assert row["idle_w"] == pytest.approx(sum(IDLE_W.values()))
        assert row["prefill_gross_j_per_request"] == pytest.approx(0.1 * row["gross_j_per_request"], rel=0.02)
        whole = row["prefill_gross_j_per_request"] + row["decode_gross_j_per_request"]
        assert whole == pytest.approx(row["gross_j_per_request"])
        assert row["edp_gross_js"] == pytest.approx(row["gross_j_per_request"] * row["latency_s"])
        own = ACTIVE_W[backend]["cpu_package" if backend == "cpu" else "gpu_board"]
        per_token = own * row["s_per_request"] / 11
        assert row["edp_per_token_js"] == pytest.approx(per_token * row["s_per_request"] / 11)
        # One process for each prompt: loading counts into joules and seconds of the published definition.
        whole_s = row["latency_s"] + row["load_s"]
        assert row["edp_published_js"] == pytest.approx(own * whole_s * whole_s, rel=1e-3)
    assert rows["cpu", "sd"]["decode_tok_s"] == pytest.approx(10 / 0.9, rel=0.02)


def test_the_published_columns_in_their_order(results):
    rows = tables.backends(results)
    assert list(rows[0]) == ["Backend", "Suite", "Latency (ms)", "Energy (J)", "EDP (J*s)"]
    assert [(row["Backend"], row["Suite"]) for row in rows] == [
        (b, s) for b in ("cpu", "gpu") for s in ("sd", "ar", "ng")
    ]
    rows = tables.per_token(results)
    names = ["Prompt Suite", "Backend", "Energy (J/token)", "Avg Latency", "P95 Latency (ms/token)", "EDP"]
    assert list(rows[0]) == names
    for row in rows:
        assert row["EDP"] == pytest.approx(row["Energy (J/token)"] * row["Avg Latency"] / 1e3)
        assert row["P95 Latency (ms/token)"] >= row["Avg Latency"]


def test_ablations_are_paired_with_their_first_value(results):
    rows = {(row["comparison"], row["arm"], row["suite"]): row for row in tables.ablations(results)}
    threads = rows["threads", "cpu-t4", "ar"]
    assert threads["against"] == "cpu-t1"
    assert threads["latency_ratio_low"] < 1 / 3 < threads["latency_ratio_high"]
    batch = rows["prompt_batch", "cpu-b64", "ar"]
    assert batch["latency_ratio_low"] < 1 < batch["latency_ratio_high"]
    assert rows["backends", "cpu", "ar"]["latency_ratio"] is None
    failed = rows["type", "gpu-q8_0", "ar"]
    assert (failed["status"], failed["reason"], failed["latency_s"]) == ("oom", "failed to allocate", None)


def test_the_ranking_shows_ties(results):
    rows = [row for row in tables.ranking(results) if (row["criterion"], row["suite"]) == ("edp_gross_js", "all")]
    ranks = {row["arm"]: row["rank"] for row in rows}
    assert ranks["gpu-q2_k"] == 1
    assert ranks["gpu"] == ranks["gpu-b16"] == ranks["gpu-b64"] == 2
    assert ranks["cpu"] == ranks["cpu-b16"] > ranks["gpu-l2"]
    assert ranks["cpu-t1"] == max(ranks.values())
    assert "gpu-q8_0" not in ranks


def test_the_race_names_the_winner_by_power_at_rest(results):
    rows = [row for row in tables.sleep_race(results) if row["suite"] == "sd"]
    assert rows[0]["idle_from_w"] == 0
    assert rows[0]["winner"].startswith("gpu")
    assert rows[-1]["winner"] == "cpu-t1"
    here = [row for row in rows if row["at_measured_idle"]]
    assert len(here) == 1
    assert here[0]["measured_idle_w"] == pytest.approx(34.0)
    wanted = here[0]["gross_j_per_request"] + 34.0 * (here[0]["deadline_s"] - here[0]["s_per_request"])
    assert here[0]["total_at_measured_idle_j"] == pytest.approx(wanted)


def test_without_joules_there_is_time_and_the_reason(tmp_path):
    found = made(tmp_path, metered=False)
    row = tables.arms(found)[0]
    assert (row["gross_j_per_request"], row["null_reason"]) == (None, "no meter on this machine")
    assert {row["criterion"] for row in tables.ranking(found)} == {"latency_s", "s_per_request"}
    assert tables.sleep_race(found) == []
    drawn = {name: figure(found) is not None for name, figure in DRAWN.items()}
    assert drawn == {name: name not in ("llamacpp_energy_latency", "llamacpp_power", "llamacpp_race") for name in DRAWN}
    text = summary(found, {n: t(found) for n, t in (("llamacpp_backends", tables.backends),
                                                    ("llamacpp_ranking", tables.ranking),
                                                    ("llamacpp_arms", tables.arms))})  # fmt: skip
    assert "Null joules: no meter on this machine" in text


def test_a_study_without_the_section_has_no_rows(tmp_path):
    study = Study.model_validate(study_content(tmp_path))
    bare = Results(study, tmp_path)
    for table in (tables.arms, tables.backends, tables.per_token, tables.ablations, tables.ranking, tables.sleep_race):
        assert table(bare) == []
    assert tables.section(bare, {}) == ""


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_and_have_words(results, tmp_path, name):
    assert style.save(DRAWN[name](results), tmp_path, name) == [f"{name}.svg", f"{name}.png"]
    if name == "llamacpp_backends":
        style.save(DRAWN[name](results), tmp_path / "again", name)
        assert (tmp_path / f"{name}.svg").read_bytes() == (tmp_path / "again" / f"{name}.svg").read_bytes()
    text = LLAMACPP_TEXTS[name](results)
    assert all(len(text[key]) > 10 for key in ("title", "caption", "alt"))


def test_a_value_without_a_point_is_named_in_the_caption(results):
    assert "Without a point" not in LLAMACPP_TEXTS["llamacpp_threads"](results)["caption"]
    figure = DRAWN["llamacpp_types"](results)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["q2_k", "q4_0", "q8_0"]


# Expectations, each broken by a record.


def findings(study):
    return {(finding.check, finding.severity) for finding in validate(study, Layout.of(study))}


@pytest.fixture
def study(tmp_path):
    section = {"backends": ["cpu"], "suites": ["sd"], "rounds": 2}
    study = Study.model_validate(study_content(tmp_path, matrix=False, llamacpp=section))
    write_session(study)
    return study


def change(study, arm, *, metrics=None, rows=None, **changed):
    path = Layout.of(study).record("profile_llamacpp", arm)
    record = read_record(path) | changed
    if metrics:
        record["metrics"] = record["metrics"] | metrics
    if rows:
        table = parquet.read_table(path.with_suffix(".windows.parquet")).to_pylist()
        rows(table)
        record["outputs"]["windows"] = write_table(path.with_suffix(".windows.parquet"), table)
    path.write_text(json.dumps(record))


OURS = {"arm_numbers", "arm_boundary", "arm_at_work", "arm_tokens", "gguf_size", "gguf_files_differ", "one_session"}


def test_a_sound_session_has_none_of_our_findings(study):
    assert {check for check, _ in findings(study)} & OURS == set()


def idle_energy(rows):
    """What a meter finds that reads for a while before the work begins."""
    for row in rows:
        row["seconds"] *= 5


def words(rows):
    for row in rows:
        row["generated_tokens"] = 3


def gpu_alone(rows):
    for row in rows:
        row["gross_j"] = row["gpu_board_gross_j"]


def slow_counter(rows):
    for row in rows:
        row["decode_s"] = 99.0 if row["decode_s"] else row["decode_s"]


@pytest.mark.parametrize(
    ("check", "break_it"),
    [
        ("arm_numbers", {"metrics": {"sd_throughput_tok_s": 1.0}}),
        ("arm_numbers", {"metrics": {"sd_gross_j_per_ktok": 1.0}}),
        ("arm_at_work", {"rows": idle_energy}),
        ("arm_at_work", {"rows": slow_counter}),
        ("arm_tokens", {"rows": words}),
        ("arm_boundary", {"rows": gpu_alone}),
    ],
)
def test_a_broken_arm_is_found(study, check, break_it):
    change(study, "cpu", **break_it)
    assert (check, "error") in findings(study)


def test_arms_of_another_session_are_found(study):
    record = read_record(Layout.of(study).record("profile_llamacpp", "cpu"))
    change(study, "cpu", inputs=record["inputs"] | {"prompts": {"sha256": "b" * 64}})
    assert ("one_session", "warning") in findings(study)


def test_short_windows_are_told(study):
    assert ("arm_protocol", "info") in findings(study)


def write_files_record(study, files):
    from factories import base_record
    from gainwatt.record import write_record

    record = base_record(study, "fetch_gguf", {"source": "base"})
    record["settings"] = record["settings"] | {"files": files}
    write_record(Layout.of(study).record("fetch_gguf", "files"), record)


def test_a_file_of_the_wrong_size_and_two_that_are_one(study):
    entry = {"bytes": 1_000_000, "parameters": 1_000_000, "sha256": "a" * 64}
    write_files_record(
        study, {"q8_0": entry | {"bytes": 1_062_500}, "q4_0": entry | {"bytes": 600_000, "sha256": "b" * 64}}
    )
    assert not {check for check, _ in findings(study)} & {"gguf_size", "gguf_files_differ"}
    write_files_record(study, {"q8_0": entry | {"bytes": 500_000}, "q4_0": entry})
    assert {("gguf_size", "error"), ("gguf_files_differ", "error")} <= findings(study)


def test_the_report_of_a_study_without_matrix_misses_nothing_of_it(study):
    from gainwatt.report.material import Material
    from gainwatt.report.page import report_page
    from gainwatt.tables.write import write_csv

    layout = Layout.of(study)
    results = Results.load(study, layout)
    for name in ("backends", "arms"):
        write_csv(layout.tables / f"llamacpp_{name}.csv", getattr(tables, name)(results))
    page = report_page(Material.read(study, layout, "study.yaml"), [], None)
    assert "llama.cpp: backends, ablations, types" in page
    assert "This study profiles" in page
    assert "How fast, and for how many joules?" in page
    assert "survive quantization" not in page
    for heading in ("Accuracy of every cell", "Does the gain survive?", "Cost per correct answer"):
        assert f"{heading}</h2>" not in page
