"""One cell by the command line: the record, going on after a kill, and settings that do not fit."""

from __future__ import annotations

import json

import pytest
from pyarrow import parquet

from factories import run_script, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    perplexity = {"corpus": "data:test", "window": 16, "stride": 8, "batch_size": 2}
    file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "perplexity": perplexity})
    layout = Layout.of(load_study(file))
    write_items(layout.data("test").parent, test=5)
    manifest = layout.manifest("base")
    manifest.parent.mkdir(parents=True)
    write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
    return file, layout


def measure(file, *options):
    return run_script("evaluate_perplexity", "--study", file, "--variant", "base", "--scheme", "fp32", *options)


def test_a_cell(prepared):
    file, layout = prepared
    done = measure(file)
    assert done.returncode == 0, done.stderr
    path = layout.record("evaluate_perplexity", "base.fp32")
    record = read_record(path, stage="evaluate_perplexity")
    metrics = record["metrics"]
    assert (metrics["documents"], metrics["resumed_windows"]) == (5, 0)
    assert [phase["name"] for phase in record["phases"]] == ["load", "warm_up", "perplexity"]
    assert metrics["perplexity"] > 1
    assert metrics["bits_per_byte"] > 0
    assert record["inputs"]["corpus"]["source"] == "data:test"
    rows = parquet.read_table(path.with_suffix(".windows.parquet")).to_pylist()
    assert sum(row["tokens"] for row in rows) == metrics["tokens_scored"]
    assert not (layout.work("evaluate_perplexity", "base.fp32") / "windows.jsonl").exists()


def test_a_killed_job_goes_on(prepared):
    from gainwatt.modeling import load_tokenizer
    from gainwatt.perplexity.corpus import read_corpus
    from gainwatt.perplexity.windows import encode
    from gainwatt.record import text_sha256

    file, layout = prepared
    study = load_study(file)
    settings = study.perplexity
    manifest = json.loads(layout.manifest("base").read_text())
    found = encode(
        load_tokenizer(layout.manifest("base").parent if manifest["folder"] == "." else manifest["folder"]),
        read_corpus(settings, layout.data).documents,
        window=settings.window, stride=settings.stride, prefix=settings.prefix, max_tokens=None,
    )  # fmt: skip
    identity = text_sha256(f"{study.settings_sha256('evaluate_perplexity')} {manifest['sha256']} {found.sha256} fp32")
    work = layout.work("evaluate_perplexity", "base.fp32") / "windows.jsonl"
    work.parent.mkdir(parents=True)
    work.write_text(json.dumps({"identity": identity}) + '\n{"sums": [[0, 1000.0]], "seconds": 3.0}\n{"sums": [[1')
    done = measure(file)
    assert done.returncode == 0, done.stderr
    record = read_record(layout.record("evaluate_perplexity", "base.fp32"))
    assert record["metrics"]["resumed_windows"] == 1
    assert record["metrics"]["score_s"] > 3
    rows = parquet.read_table(layout.sidecar("evaluate_perplexity", "base.fp32", "windows")).to_pylist()
    assert rows[0]["nll_sum"] == 1000.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("perplexity.window=4096", "the model holds 2048"),
        ("perplexity.stride=16", "stride 16 must be smaller than window 16"),
        ("perplexity.corpus=/nowhere.txt", "names perplexity.corpus: /nowhere.txt"),
        ("perplexity=null", "has no section perplexity"),
        ("perplexity.windw=3", "did you mean 'window'?"),
    ],
)
def test_what_does_not_fit_is_said(prepared, settings, said):
    file, layout = prepared
    done = measure(file, "--set", settings)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not layout.record("evaluate_perplexity", "base.fp32").exists()
