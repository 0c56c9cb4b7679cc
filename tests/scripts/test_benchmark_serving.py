"""The serving benchmark by its command line, on the tiny model: both modes, resuming, failing, bad input."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from factories import run_script, script_main, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study
from gainwatt.study.serving_cells import STAGE

SERVE = {
    "engine": "transformers", "max_new_tokens": 6, "fixed_prompt_tokens": 8, "fixed_new_tokens": 4,
    "max_model_tokens": 96, "repeats": 1, "window_s": 0, "warmup_batches": 1, "limits": False, "schemes": ["fp32"],
    "variants": ["base"], "lengths": ["fixed"], "offline": {"sequential_prompts": 2, "batch_sizes": [2]},
}  # fmt: skip
ONLINE = {"concurrency": [2], "requests_per_client": 3, "rates_per_s": [50.0], "requests_per_rate": 6}


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    def make(**serve):
        model = {"source": str(tiny_folder), "dtype": "fp32"}
        file = write_study(tmp_path, {"model": model, "serve": SERVE | serve})
        layout = Layout.of(load_study(file))
        write_items(layout.data("test").parent, test=5)
        manifest = layout.manifest("base")
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
        return file, layout

    return make


def measure(file, *options):
    return script_main("benchmark_serving")(["--study", str(file), "--variant", "base", "--scheme", "fp32", *options])


def cell(layout, load):
    return read_record(layout.record(STAGE, f"base.fp32.{load}"))


def test_a_server_and_this_process(prepared):
    file, layout = prepared(online=ONLINE, lengths=["natural", "fixed"])
    done = run_script("benchmark_serving", "--study", file, "--variant", "base", "--scheme", "fp32")
    assert done.returncode == 0, done.stderr
    grid = read_record(layout.record(STAGE, "base.fp32"))
    assert (grid["metrics"]["cells"], grid["metrics"]["cells_ok"]) == (8, 8)
    assert grid["settings"]["stopped"]["base.fp32.start-online"]["processes_left"] == []
    fixed, natural = cell(layout, "offline-fixed-b2"), cell(layout, "offline-natural-b2")
    assert fixed["metrics"]["new_tokens_mean"] == 4.0
    assert (fixed["metrics"]["num_prompts"], fixed["metrics"]["num_batches"]) == (8, 4)
    assert fixed["metrics"]["decode_tok_s"] or fixed["null_reasons"]["decode_tok_s"]
    assert natural["metrics"]["generated_tokens"] <= 8 * 6
    assert fixed["settings"]["facts"]["memory_mib"]["weights"] > 0
    online = cell(layout, "online-fixed-c2")
    assert (online["metrics"]["completed"], online["metrics"]["generated_tokens"]) == (6, 24)
    assert online["metrics"]["prefix_hits"] == 0
    rows = parquet.read_table(layout.sidecar(STAGE, "base.fp32.online-fixed-c2", "requests")).to_pylist()
    assert len(rows) == 6 + 6
    assert sum(row["tokens"] for row in rows) == 24 + 6
    assert cell(layout, "online-fixed-r50")["metrics"]["completed"] == 6
    assert cell(layout, "start-online")["settings"]["facts"]["engine"] == "transformers"
    assert not list(layout.work(STAGE, "base.fp32").rglob("*.jsonl"))
    assert (layout.log(STAGE, "base.fp32").parent / "base.fp32.start-online.log").exists()


def test_what_is_done_is_not_measured_again_and_one_more_size_measures_only_itself(prepared):
    file, layout = prepared()
    assert measure(file) == 0
    before = {path.name: path.read_bytes() for path in layout.record(STAGE, "x").parent.glob("*b2.json")}
    assert measure(file, "--set", "serve.offline.batch_sizes=[2, 3]") == 0
    after = {path.name: path.read_bytes() for path in layout.record(STAGE, "x").parent.glob("*b2.json")}
    assert before == after
    assert cell(layout, "offline-fixed-b3")["metrics"]["num_prompts"] == 12
    assert read_record(layout.record(STAGE, "base.fp32"))["metrics"]["cells"] == 3
    assert measure(file, "--set", "serve.fixed_new_tokens=5") == 0
    assert cell(layout, "offline-fixed-b2")["metrics"]["new_tokens_mean"] == 5.0


def test_a_cell_that_runs_out_of_memory_is_a_result_and_the_next_one_is_measured(prepared, monkeypatch):
    from gainwatt.engines.transformers import TransformersEngine

    whole = TransformersEngine._batch
    starts = []

    def small(self, batch):
        if len(batch) > 2:
            raise MemoryError("no room")
        return whole(self, batch)

    keep = TransformersEngine.__init__
    monkeypatch.setattr(TransformersEngine, "_batch", small)
    monkeypatch.setattr(
        TransformersEngine, "__init__", lambda self, *a, **k: (starts.append(1), keep(self, *a, **k))[1]
    )
    file, layout = prepared(offline={"sequential_prompts": 0, "batch_sizes": [1, 2, 4]})
    assert measure(file) == 0
    record = cell(layout, "offline-fixed-b4")
    assert (record["status"], record["reason"]) == ("oom", "out of memory at batch size 4")
    assert record["metrics"]["throughput_tok_s"] is None
    assert cell(layout, "offline-fixed-b2")["status"] == "ok"
    assert read_record(layout.record(STAGE, "base.fp32"))["metrics"]["cells_oom"] == 1
    assert measure(file) == 0  # what did not fit is a result: the engine is not even started
    assert len(starts) == 1


def test_an_engine_that_dies_fails_its_cell_keeps_its_windows_and_is_started_anew(prepared, monkeypatch):
    from gainwatt.engines.base import EngineError
    from gainwatt.engines.transformers import TransformersEngine

    whole, calls = TransformersEngine._batch, []

    def dying(self, batch):
        calls.append(len(batch))
        if len(calls) == 8:
            raise EngineError("the GPU fell off the bus")
        return whole(self, batch)

    monkeypatch.setattr(TransformersEngine, "_batch", dying)
    file, layout = prepared(offline={"sequential_prompts": 0, "batch_sizes": [1, 2]}, repeats=2, split_phases=False)
    assert measure(file) == 0
    record = cell(layout, "offline-fixed-b1")
    assert (record["status"], record["reason"]) == ("failed", "the GPU fell off the bus")
    assert (record["metrics"]["windows"], record["metrics"]["generated_tokens"]) == (1, 16)
    assert cell(layout, "offline-fixed-b2")["status"] == "ok"
    assert measure(file) == 0  # what failed is measured again
    assert cell(layout, "offline-fixed-b1")["status"] == "ok"


def test_a_server_that_does_not_start_fails_every_cell_of_it(prepared, monkeypatch):
    from gainwatt.serving import sessions
    from gainwatt.serving.server import ServerError

    def refuse(*_, **__):
        raise ServerError("the server ended with code 1")

    monkeypatch.setattr(sessions, "serve", refuse)
    file, layout = prepared(online={"concurrency": [1, 2]}, offline=None)
    assert measure(file) == 0
    for load in ("start-online", "online-fixed-c1", "online-fixed-c2"):
        assert cell(layout, load)["status"] == "failed"
        assert "ended with code 1" in cell(layout, load)["reason"]


def test_an_engine_that_is_not_installed_is_unavailable(prepared):
    file, layout = prepared(engine="vllm", offline={"sequential_prompts": 0, "batch_sizes": [2]})
    assert measure(file) == 0
    record = cell(layout, "offline-fixed-b2")
    assert record["status"] in ("unavailable", "failed")
    assert "vllm" in record["reason"].lower()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "serve=null"), "has no section serve"),
        (("--set", "serve.schemes=[bnb-nf4]"), "does not serve base.fp32"),
        (("--set", "serve.schemes=[fp16]"), "the study has no 'fp16'"),
        (("--set", "serve.lengths=[long]"), "natural"),
        (("--set", "serve.kernels=[awq]"), "kernels can be chosen with vllm only"),
        (("--set", "serve.fixed_new_tokens=500"), "must not exceed max_model_tokens"),
        (("--set", "serve.max_model_tokens=4096", "--set", "serve.fixed_new_tokens=3000"), "there are 2048"),
        (("--set", "serve.offline=null"), "give offline, online, or both"),
        (("--set", "serve.repeatz=3"), "did you mean 'repeats'?"),
        (("--only", "offline-fixed-b7"), "the study has no load 'offline-fixed-b7'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(prepared, options, said):
    file, layout = prepared()
    with pytest.raises(InputError) as error:
        measure(file, *options)
    assert said in str(error.value)
    assert not layout.record(STAGE, "x").parent.exists()


def test_cells_of_other_settings_are_not_listed_as_done(prepared, capsys):
    file, layout = prepared()
    assert measure(file) == 0
    before = layout.record(STAGE, "base.fp32").read_bytes()
    assert measure(file, "--only", "offline-fixed-b2", "--set", "serve.fixed_new_tokens=5") == 0
    assert "some cells are left" in capsys.readouterr().err
    assert layout.record(STAGE, "base.fp32").read_bytes() == before


def test_how_an_engine_ended_stays_known(prepared):
    file, layout = prepared()
    for options in ((), ("--set", "serve.offline.batch_sizes=[2]")):
        assert measure(file, *options) == 0
        grid = read_record(layout.record(STAGE, "base.fp32"))
        assert set(grid["settings"]["stopped"]) == {"base.fp32.start-offline"}


def test_one_load_alone_leaves_the_list_for_later(prepared, capsys):
    file, layout = prepared()
    assert measure(file, "--only", "offline-fixed-b2") == 0
    assert "some cells are left" in capsys.readouterr().err
    assert not layout.record(STAGE, "base.fp32").exists()
    assert json.loads(layout.record(STAGE, "base.fp32.offline-fixed-b2").read_text())["status"] == "ok"
