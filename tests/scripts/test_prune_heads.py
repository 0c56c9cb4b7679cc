"""A pruning curve by the command line: the record, going on after a kill, and what cannot be used."""

from __future__ import annotations

import math

import pytest
from pyarrow import parquet

from factories import run_script, script_main, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.heads.partial import MeasuredPoints
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study

PERPLEXITY = {"corpus": "data:test", "window": 16, "stride": 8}
PRUNE = {"percents": [50], "random_draws": 2, "items": 3, "perplexity": PERPLEXITY}
HEADS = {"max_prompts": 6, "permutations": 199, "bins": 4, "prune": PRUNE}
POINTS = ["none-0", "tv-50", "random-50-d0", "random-50-d1", "magnitude-50"]


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    evaluate = {"batch_size": 2, "max_new_tokens": 4, "reference_nll": False}
    sections = {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "heads": HEADS, "evaluate": evaluate}
    file = write_study(tmp_path, sections)
    layout = Layout.of(load_study(file))
    write_items(layout.data("test").parent, test=5)
    manifest = layout.manifest("base")
    manifest.parent.mkdir(parents=True)
    write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
    script_main("score_heads")(["--study", str(file), "--variant", "base", "--scheme", "fp32"])
    return file, layout


def prune(file, *options):
    return script_main("prune_heads")(["--study", str(file), "--variant", "base", *options])


def tables(path):
    return {
        name: parquet.read_table(path.with_suffix(f".{name}.parquet")).to_pylist()
        for name in ("points", "items", "windows")
    }


def test_by_the_command_line(prepared):
    file, layout = prepared
    done = run_script("prune_heads", "--study", file, "--variant", "base")
    assert done.returncode == 0, done.stderr
    path = layout.record("prune_heads", "base.fp32")
    record = read_record(path, stage="prune_heads")
    assert record["metrics"]["weights_restored"]
    assert (record["metrics"]["points"], record["metrics"]["items"]) == (5, 3)
    found = tables(path)
    rows = found["points"]
    assert [row["point"] for row in rows] == POINTS
    assert [row["n_pruned_heads"] for row in rows] == [0, 4, 4, 4, 4]
    assert len({row["weights_sha256_before"] for row in rows} | {row["weights_sha256_after"] for row in rows}) == 1
    assert len({row["weights_sha256_pruned"] for row in rows}) >= 4
    assert math.exp(rows[0]["nll_per_token"]) == pytest.approx(record["metrics"]["perplexity_unpruned"])
    assert len({row["nll_per_token"] for row in rows}) >= 4
    assert len(found["items"]) == 5 * 3
    scores = parquet.read_table(layout.sidecar("score_heads", "base.fp32", "heads")).to_pylist()
    lowest = {
        f"L{row['layer_idx']}H{row['head_idx']}" for row in sorted(scores, key=lambda row: row["tv_distance"])[:4]
    }
    assert set(rows[1]["heads"]) == lowest
    assert {phase["name"] for phase in record["phases"]} >= {f"generate {name}" for name in POINTS}


def test_heads_go_by_the_cross_fitted_score(prepared):
    file, layout = prepared
    prune(file, "--set", "heads.prune.score=tv_crossfit", "--set", "heads.prune.strategies=[tv]")
    row = tables(layout.record("prune_heads", "base.fp32"))["points"][1]
    scores = parquet.read_table(layout.sidecar("score_heads", "base.fp32", "heads")).to_pylist()
    scores.sort(key=lambda entry: (entry["crossfit_general"], entry["layer_idx"], entry["head_idx"]))
    assert row["heads"] == [f"L{entry['layer_idx']}H{entry['head_idx']}" for entry in scores[:4]]


def test_a_killed_job_goes_on_with_the_points_that_are_left(prepared, monkeypatch):
    file, layout = prepared
    prune(file)
    path = layout.record("prune_heads", "base.fp32")
    whole = tables(path)
    path.unlink()
    append = MeasuredPoints.append

    def killed(self, row):
        append(self, row)
        if len(self.done) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(MeasuredPoints, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(file)
    assert not path.exists()
    monkeypatch.undo()
    prune(file)
    assert read_record(path)["metrics"]["resumed_points"] == 2
    again = tables(path)
    assert [row["resumed"] for row in again["points"]] == [True, True, False, False, False]
    assert again["items"] == whole["items"]
    assert again["windows"] == whole["windows"]


def test_scores_of_another_checkpoint_are_refused(prepared):
    file, layout = prepared
    other = layout.record("score_heads", "base.fp32")
    text = other.read_text()
    sha256 = read_record(other)["inputs"]["checkpoint"]["sha256"]
    other.write_text(text.replace(sha256, "0" * 64))
    with pytest.raises(InputError, match="does not hold the scores of the checkpoint"):
        prune(file)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "heads.prune=null"), "has no section heads.prune"),
        (("--set", "heads.prune.percents=[0]"), "Input should be greater than 0"),
        (("--set", "heads.prune.percents=[10, 10]"), "names a value twice"),
        (("--set", "heads.prune.strategies=[best]"), "Input should be 'tv', 'random', 'magnitude' or 'tv_highest'"),
        (("--set", "heads.prune.perplexity.corpus=/nowhere.txt"), "names heads.prune.perplexity.corpus: /nowhere.txt"),
        (("--set", "evaluate.max_new_tokens=4000"), "the model has 2048"),
        (("--scheme", "bnb-nf4"), "zero has no exact code in packed weights"),
    ],
)
def test_what_cannot_be_used_is_said(prepared, options, said):
    file, layout = prepared
    with pytest.raises(InputError) as caught:
        prune(file, *options)
    assert said in str(caught.value)
    assert not layout.record("prune_heads", "base.fp32").exists()
