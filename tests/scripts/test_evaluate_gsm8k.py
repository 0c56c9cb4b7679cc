"""One cell by the command line: what the record holds, going on after a kill or a dead engine, and bad input."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys

import pytest
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from factories import ROOT, run_script, write_items, write_study
from gainwatt.checkpoint import write_manifest, write_missing
from gainwatt.engines.base import Completion, EngineError
from gainwatt.errors import InputError
from gainwatt.evaluation.partial import PartialResults
from gainwatt.record import file_sha256, read_record, text_sha256
from gainwatt.study import Cell, Layout, load_study
from gainwatt.tables.accuracy import accuracy_matrix
from gainwatt.tables.cost import per_correct_answer
from gainwatt.tables.results import Results

CELL = Cell("base", "fp32")


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    """Study file and layout with data and base model in place."""
    evaluate = {"batch_size": 3, "max_new_tokens": 8}
    file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "evaluate": evaluate})
    study = load_study(file)
    layout = Layout.of(study)
    write_items(layout.data("test").parent, test=5)
    manifest = layout.manifest("base")
    manifest.parent.mkdir(parents=True)
    made = write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
    return file, study, layout, made


@pytest.fixture(scope="module")
def script():
    """scripts/evaluate_gsm8k.py as a module: a process of its own for every case would import torch every time."""
    spec = importlib.util.spec_from_file_location("evaluate_gsm8k", ROOT / "scripts" / "evaluate_gsm8k.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def evaluate(prepared, script, monkeypatch):
    """Call with further options to evaluate the cell base.fp32 in this process."""
    monkeypatch.setattr(sys, "argv", ["evaluate_gsm8k"])

    def run(*options, scheme="fp32"):
        words = ["--study", prepared[0], "--variant", "base", "--scheme", scheme, *options]
        return script.main([str(word) for word in words])

    return run


@pytest.fixture
def fake_vllm(monkeypatch, tmp_path):
    """`import vllm` finds the stand-in of tests/engines; call with its script."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "engines" / "fake_vllm")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setenv("FAKE_VLLM", str(tmp_path / "fake.json"))
    yield lambda **said: (tmp_path / "fake.json").write_text(json.dumps(said), "utf-8")
    sys.modules.pop("vllm", None)


def test_a_cell(prepared):
    file, study, layout, made = prepared
    done = run_script("evaluate_gsm8k", "--study", file, "--variant", "base", "--scheme", "fp32")
    assert done.returncode == 0, done.stderr
    path = layout.record("evaluate_gsm8k", CELL.name)
    record = read_record(path, stage="evaluate_gsm8k")
    metrics = record["metrics"]
    assert record["status"] == "ok"
    assert record["inputs"]["checkpoint"]["sha256"] == made.sha256
    assert record["inputs"]["data"]["sha256"] == file_sha256(layout.data("test"))
    assert (metrics["num_examples"], metrics["resumed_items"]) == (5, 0)
    assert metrics["generate_s"] > 0
    assert metrics["reference_ppl"] > 1
    effective = record["settings"]["effective"]
    assert (effective["batch_size"], effective["batch_size_final"], effective["dtype"]) == (3, 3, "fp32")
    assert record["settings"]["events"] == []
    generated = next(phase for phase in record["phases"] if phase["path"] == "generate")
    assert metrics["generate_s"] == pytest.approx(generated["seconds"], rel=0.1, abs=0.05)
    assert {"load", "warm_up", "generate", "reference"} == {phase["name"] for phase in record["phases"]}
    rows = parquet.read_table(path.with_suffix(".items.parquet")).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]
    assert sum(row["tokens"] for row in rows) == metrics["generated_tokens"]
    assert [row["batch_size"] for row in rows if row["latency_s"] > 0] == [3, 3, 3, 2, 2]
    assert not (layout.work("evaluate_gsm8k", CELL.name) / "completions.jsonl").exists()
    results = Results.load(study, layout)
    assert accuracy_matrix(results)[0]["num_examples"] == 5
    assert per_correct_answer(results)[0]["batch_size"] == 3


def test_a_killed_evaluation_goes_on(prepared, evaluate):
    _, study, layout, made = prepared
    data = file_sha256(layout.data("test"))
    identity = text_sha256(f"{study.settings_sha256('evaluate_gsm8k')} {made.sha256} {data} fp32")
    path = layout.work("evaluate_gsm8k", CELL.name) / "completions.jsonl"
    before = [Completion(i, f"#### {i + 2}", 7, "stop", 1.5, 2) for i in (1, 3)]
    PartialResults(path, identity).add(before, seconds=100.0, events=["halved before the kill"])
    with path.open("a") as handle:
        handle.write('{"seconds": 1.0, "comple')
    assert evaluate() == 0
    record = read_record(layout.record("evaluate_gsm8k", CELL.name))
    assert record["metrics"]["resumed_items"] == 2
    assert record["metrics"]["correct"] >= 2
    assert 100 < record["metrics"]["generate_s"] < 200
    assert record["settings"]["events"] == ["halved before the kill"]
    rows = parquet.read_table(layout.sidecar("evaluate_gsm8k", CELL.name, "items")).to_pylist()
    assert [row["correct"] for row in rows][1:4:2] == [True, True]
    assert [row["tokens"] for row in rows][1:4:2] == [7, 7]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.max_prompt_tokens=3", "the prompt of test item 0 has"),
        ("evaluate.max_new_tokens=4000", "need 40.. positions, and the model has 2048"),
    ],
)
def test_what_does_not_fit_is_named_before_the_first_item(prepared, evaluate, setting, said):
    refused(prepared, evaluate, said, "--set", setting)


def test_a_checkpoint_that_could_not_be_made_is_a_result(prepared, evaluate):
    layout = prepared[2]
    write_missing(
        layout.manifest("base", "bnb-nf4"), variant="base", scheme="bnb-nf4", status="oom", reason="too large"
    )
    assert evaluate(scheme="bnb-nf4") == 0
    record = read_record(layout.record("evaluate_gsm8k", "base.bnb-nf4"))
    assert record["status"] == "unavailable"
    assert "oom, too large" in record["reason"]


def test_several_data_sets_share_one_start(prepared, evaluate, tmp_path, capsys):
    layout = prepared[2]
    other = write_items(tmp_path / "other", test=2) / "test.jsonl"
    other.write_text(other.read_text().replace("what is", "how much is"))
    record = tmp_path / "other.json"
    assert evaluate("--also", other, record) == 0
    first, second = (read_record(path) for path in (layout.record("evaluate_gsm8k", CELL.name), record))
    assert (first["metrics"]["num_examples"], second["metrics"]["num_examples"]) == (5, 2)
    assert first["inputs"]["checkpoint"] == second["inputs"]["checkpoint"]
    assert second["inputs"]["data"]["sha256"] == file_sha256(other)
    assert "load" in {phase["name"] for phase in first["phases"]}
    assert {phase["name"] for phase in second["phases"]} == {"warm_up", "generate", "reference"}
    assert second["settings"]["engine_started_for"] == f"{CELL.name}.json"
    assert parquet.read_table(tmp_path / "other.items.parquet").num_rows == 2
    # The same command again finds both; with one record gone it makes that one alone.
    record.unlink()
    capsys.readouterr()
    assert evaluate("--also", other, record) == 0
    assert f"{CELL.name}.json is there already" in capsys.readouterr().err
    assert "engine_started_for" not in read_record(record)["settings"]


def test_an_engine_that_dies_loses_no_finished_item_and_the_same_command_goes_on(prepared, evaluate, fake_vllm, capfd):
    path = prepared[2].record("evaluate_gsm8k", CELL.name)
    fake_vllm(die_after=7, last_words="ERROR [core.py:9] RuntimeError: NCCL error")
    with pytest.raises(EngineError) as died:
        evaluate("--set", "evaluate.engine=vllm")
    assert died.value.what == "the vLLM engine died: RuntimeError: NCCL error (2 of 5 items were finished)"
    assert "run the same command again" in died.value.hint
    assert not path.exists()
    assert "fake vLLM shut down" in capfd.readouterr().err
    assert evaluate("--set", "evaluate.engine=vllm") == 0
    record = read_record(path)
    assert (record["metrics"]["resumed_items"], record["metrics"]["num_examples"]) == (2, 5)
    assert record["cell"]["engine"] == record["settings"]["effective"]["engine"] == "vllm"
    assert record["null_reasons"]["peak_allocated_mib"]
    assert record["metrics"]["reference_ppl_token_count"] > 0


@pytest.mark.parametrize(
    "line", ["torch.OutOfMemoryError: CUDA out of memory.", "No available memory for the cache blocks"]
)
def test_an_engine_without_memory_is_a_result(prepared, evaluate, fake_vllm, line):
    fake_vllm(start_error=line)
    assert evaluate("--set", "evaluate.engine=vllm") == 0
    record = read_record(prepared[2].record("evaluate_gsm8k", CELL.name))
    assert record["status"] == "oom"
    assert line in record["reason"]


def test_a_scheme_that_the_engine_cannot_load_is_a_result(prepared, evaluate):
    options = ("--set", "evaluate.engine=vllm", "--set", "quantize.schemes=[bnb-int8]")
    assert evaluate(*options, scheme="bnb-int8") == 0
    record = read_record(prepared[2].record("evaluate_gsm8k", "base.bnb-int8"))
    assert record["status"] == "unavailable"
    assert "the engine vllm cannot load the scheme bnb-int8" in record["reason"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "test.jsonl holds no items"),
        ('{"question": "a?", "answer": "so it is 4"}\n', "test.jsonl, line 1"),
        ('{"question": "a?", "answer": "#### 4"}\n' * 2, "line 2 repeats the question of line 1"),
        ('{"question": "a?", "ans', "test.jsonl, line 1"),
        (None, "test.jsonl"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_named(prepared, evaluate, text, said):
    layout = prepared[2]
    layout.data("test").unlink()
    if text is not None:
        layout.data("test").write_text(text, "utf-8")
    refused(prepared, evaluate, said)


def refused(prepared, evaluate, said, *options):
    """The evaluation ends with an InputError that says `said` and what to do, and leaves no record."""
    with pytest.raises(InputError, match=said) as caught:
        evaluate(*options)
    assert caught.value.hint
    assert not prepared[2].record("evaluate_gsm8k", CELL.name).exists()


def damage(prepared, change):
    """Do `change` to a copy of the checkpoint, and write a manifest that fits the result."""
    _, _, layout, made = prepared
    folder = layout.results / "damaged"
    shutil.copytree(made.folder, folder)
    change(folder)
    write_manifest(layout.manifest("base"), variant="base", scheme="dense", folder=folder)
    return folder


def config_of(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:9000])


def drop_a_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "cut": (cut, "cannot load the fp32 checkpoint"),
    "foreign bytes": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "cannot load the fp32 checkpoint"),
    "a tensor less": (drop_a_tensor, r"not in the files, e\.g\. model\.layers\.1\.mlp\.up_proj\.weight"),
    "other shapes": (lambda f: config_of(f, intermediate_size=384), "does not describe the tensors"),
    "unknown model": (lambda f: config_of(f, model_type="nosuch", architectures=["NoSuch"]), "nosuch"),
    "another model": (
        lambda f: config_of(f, model_type="llama", architectures=["LlamaForCausalLM"]),
        "no place in the",
    ),
    "no chat template": (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "cannot load the tokenizer"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_checkpoint_that_cannot_be_loaded_is_named(prepared, evaluate, name):
    change, said = DAMAGE[name]
    damage(prepared, change)
    refused(prepared, evaluate, said)


def test_a_checkpoint_that_changed_since_its_manifest_is_named(prepared, evaluate):
    cut(damage(prepared, lambda folder: None))
    refused(prepared, evaluate, "is not the one that")
