"""One cell's scores by the command line: the record, going on after a kill, and what cannot be used."""

from __future__ import annotations

import json
import shutil

import pytest
from pyarrow import parquet

from factories import ROOT, run_script, script_main, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.errors import InputError
from gainwatt.heads.partial import ReadPrompts
from gainwatt.heads.read import HeadReader
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study

HEADS = {"max_prompts": 6, "permutations": 199, "bins": 4, "batch_size": 4}


@pytest.fixture
def prepared(tmp_path, tiny_folder):
    file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "heads": HEADS})
    layout = Layout.of(load_study(file))
    write_items(layout.data("test").parent, test=8)
    for variant in ("base", "grpo-s0"):
        manifest = layout.manifest(variant)
        manifest.parent.mkdir(parents=True)
        folder = tiny_folder if variant == "base" else None
        if folder is None:
            for name in tiny_folder.iterdir():
                if name.name != "manifest.json":
                    shutil.copy(name, manifest.parent)
            _nudge(manifest.parent)
        write_manifest(manifest, variant=variant, scheme="dense", folder=folder)
    return file, layout


def _nudge(folder):
    """Move the weights of one head of the second layer."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.o_proj.weight"][:, 32:64] += 0.1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def score(file, *options, variant="base"):
    return script_main("score_heads")(["--study", str(file), "--variant", variant, "--scheme", "fp32", *options])


def test_by_the_command_line(prepared):
    file, layout = prepared
    done = run_script("score_heads", "--study", file, "--variant", "base", "--scheme", "fp32")
    assert done.returncode == 0, done.stderr
    path = layout.record("score_heads", "base.fp32")
    record = read_record(path, stage="score_heads")
    metrics = record["metrics"]
    assert (metrics["heads"], metrics["attention_layers"], metrics["prompts"], metrics["resumed_prompts"]) == (
        8,
        2,
        18,
        0,
    )
    assert (metrics["pairs_general"], metrics["pairs_matched"], metrics["pairs_split_half"]) == (6, 6, 3)
    assert [phase["name"] for phase in record["phases"]][:3] == ["load", "warm_up", "read"]
    assert metrics["p_floor_general"] == 1 / 32
    assert record["null_reasons"]["dw_norm_total"] == "the base is what changes are measured from"
    rows = parquet.read_table(path.with_suffix(".heads.parquet")).to_pylist()
    assert list(rows[0])[:3] == ["layer_idx", "head_idx", "tv_distance"]
    assert {(row["layer_idx"], row["head_idx"]) for row in rows} == {(i, h) for i in range(2) for h in range(4)}
    assert {row["kv_head_idx"] for row in rows if row["head_idx"] > 1} == {1}
    assert not list(layout.work("score_heads", "base.fp32").glob("*.jsonl"))


def test_which_weights_training_moved(prepared):
    file, layout = prepared
    assert score(file, variant="grpo-s0") == 0
    path = layout.record("score_heads", "grpo-s0.fp32")
    rows = parquet.read_table(path.with_suffix(".heads.parquet")).to_pylist()
    moved = [(row["layer_idx"], row["head_idx"]) for row in rows if row["dw_norm"] > 0]
    assert moved == [(1, 1)]
    assert read_record(path)["metrics"]["dw_norm_total"] == pytest.approx(0.1 * (128 * 32) ** 0.5, rel=1e-5)


def test_a_killed_job_goes_on_with_the_prompts_that_are_left(prepared, monkeypatch):
    file, layout = prepared
    score(file)
    path = layout.record("score_heads", "base.fp32")
    whole = parquet.read_table(path.with_suffix(".heads.parquet")).to_pylist()
    path.unlink()
    add = ReadPrompts.add

    def killed(self, found, *, seconds):
        add(self, found, seconds=seconds)
        if len(self.done) >= 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(ReadPrompts, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        score(file)
    assert not path.exists()
    monkeypatch.undo()
    with (layout.work("score_heads", "base.fp32") / "prompts.jsonl").open("a") as handle:
        handle.write('{"prompts": [[17, [2, 8], "eJx')  # the line that the kill cut short
    score(file)
    assert read_record(path)["metrics"]["resumed_prompts"] == 8
    again = parquet.read_table(path.with_suffix(".heads.parquet")).to_pylist()
    assert again == whole


def test_out_of_memory_is_a_result(prepared, monkeypatch):
    file, layout = prepared

    def scarce(self, rows):
        raise MemoryError

    monkeypatch.setattr(HeadReader, "_batch", scarce)
    assert score(file) == 0
    record = read_record(layout.record("score_heads", "base.fp32"))
    assert (record["status"], record["reason"]) == ("oom", "MemoryError")


def test_questions_of_the_study_as_reasoning_prompts(prepared):
    file, layout = prepared
    assert score(file, "--set", "heads.reasoning=data:test", "--set", "heads.statistic=rms") == 0
    record = read_record(layout.record("score_heads", "base.fp32"))
    assert record["inputs"]["prompts_matched"]["source"] == "shuffled"
    assert record["metrics"]["vocabulary_cosine_matched"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("heads=null", "has no section heads"),
        ("heads.bins=1", "heads.bins: Input should be greater than or equal to 2"),
        ("heads.reasoning=data:dev", "the study's own questions are"),
        ("heads.general=/nowhere.txt", "names heads.general: /nowhere.txt"),
        ("heads.schemes=[fp8]", "heads.schemes names 'fp8', which is not in the matrix"),
        ("heads.max_tokens=1", "a prompt is the beginning or the end of all others"),
        ("heads.permuations=300", "did you mean 'permutations'?"),
    ],
)
def test_what_cannot_be_used_is_said(prepared, settings, said):
    file, layout = prepared
    with pytest.raises(InputError) as caught:
        score(file, "--set", settings)
    assert said in str(caught.value)
    assert not layout.record("score_heads", "base.fp32").exists()


def test_a_base_of_another_family_is_refused(prepared, tmp_path):
    file, layout = prepared
    manifest = layout.manifest("grpo-s0")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"parent_sha256": "0" * 64}))
    with pytest.raises(InputError, match="was trained from another checkpoint"):
        score(file, variant="grpo-s0")


def test_the_rule_and_the_script_use_one_folder():
    text = (ROOT / "workflow" / "rules" / "heads.smk").read_text()
    assert 'LAYOUT.record("score_heads", "{variant}.{scheme}")' in text
