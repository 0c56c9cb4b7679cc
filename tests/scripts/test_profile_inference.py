"""The inference profile by the command line: its record, rows for what fails, going on after a kill, bad input."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from factories import script_main, write_study
from gainwatt.checkpoint import write_manifest, write_missing
from gainwatt.errors import InputError
from gainwatt.limits import DeviceLimits
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study
from gainwatt.study.profiling_cells import STAGE
from gainwatt.tables.profile import inference_benchmark, profile, ratios
from gainwatt.tables.results import Results
from gainwatt.validation import validate

PROFILE = {
    "baseline": "fp32", "schemes": ["bf16"], "modes": ["eager", "static", "cuda-graphs"], "batches": [1, 2],
    "prompt_tokens": [6], "new_tokens": [3], "together": 9, "repeats": 2, "window_s": 0, "warmup_runs": 1,
    "kernels": False,
}  # fmt: skip
GROUP = "base.bf16+fp32~static+fp32~cuda-graphs"


@pytest.fixture
def prepared(tmp_path, tiny_folder, monkeypatch):
    """Call with changes of the section; returns the study's file and its layout."""

    def prepare(**changes):
        sections = {
            "matrix": False, "model": {"source": str(tiny_folder), "dtype": "fp32"}, "profile": PROFILE | changes,
        }  # fmt: skip
        file = write_study(tmp_path, sections)
        layout = Layout.of(load_study(file))
        manifest = layout.manifest("base")
        manifest.parent.mkdir(parents=True)
        write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
        return file, layout

    return prepare


@pytest.fixture
def main(monkeypatch):
    """The script's main function; the machine's limits, which take seconds, are given."""
    found = script_main("profile_inference")
    limits = DeviceLimits(20, 0.1, 2, "made up")
    monkeypatch.setattr(sys.modules[found.__module__], "measure_limits", lambda where, dtype: limits)
    return found


def run(main, file, group=GROUP, *options):
    return main(["--study", str(file), "--group", group, *options])


def test_a_group(prepared, main, capsys):
    file, layout = prepared()
    assert run(main, file) == 0
    path = layout.record(STAGE, GROUP)
    record = read_record(path, stage=STAGE)
    metrics = record["metrics"]
    assert (metrics["cells_ok"], metrics["cells_unavailable"], metrics["cells_oom"]) == (6, 2, 0)
    assert [(c["arm"], c["batch"], c["status"]) for c in metrics["cells"]][:4] == [
        ("fp32", 1, "ok"), ("bf16", 1, "ok"), ("fp32~static", 1, "ok"), ("fp32~cuda-graphs", 1, "unavailable"),
    ]  # fmt: skip
    cell = metrics["cells"][1]
    assert cell["n_calls"] == cell["n_windows"] == 2
    assert cell["gross_j_per_ktok"] is None or cell["gross_j_per_ktok"] > 0
    assert all(cell[name] is not None or cell["null_reasons"][name] for name in cell if name in cell["null_reasons"])
    assert cell["decode_roof_tok_s"] > 0
    calls = parquet.read_table(path.with_suffix(".calls.parquet")).to_pylist()
    assert len(calls) == 6 * 2
    assert {call["order"] for call in calls if call["batch"] == 1} == set(range(6))
    assert record["settings"]["limits"]["fp32"]["how"] == "made up"
    paths = [phase["path"] for phase in record["phases"]]
    assert len(paths) == len(set(paths))
    assert not (layout.work(STAGE, GROUP) / "loads.jsonl").exists()
    assert "3 arms, 2 windows each" in capsys.readouterr().err

    study = load_study(file)
    results = Results.load(study, layout)
    assert len(profile(results)) == len(inference_benchmark(results)) == 8
    assert len(ratios(results)) == 6
    errors = [f for f in validate(study, layout) if f.severity == "error" and f.check.startswith("profile_")]
    assert errors == []


def test_a_killed_profile_goes_on_with_what_is_left(prepared, main, monkeypatch):
    file, layout = prepared(schemes=[], modes=["eager", "static"])
    module = sys.modules[main.__module__]
    real, seen = module.measure_load, []

    def dies_at_the_second(bench, load):
        seen.append(load.batch)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(bench, load)

    monkeypatch.setattr(module, "measure_load", dies_at_the_second)
    group = "base.fp32~static"
    with pytest.raises(KeyboardInterrupt):
        run(main, file, group)
    unfinished = layout.work(STAGE, group) / "loads.jsonl"
    before = json.loads(unfinished.read_text().splitlines()[2])
    assert not layout.record(STAGE, group).exists()
    monkeypatch.setattr(module, "measure_load", lambda bench, load: seen.append(load.batch) or real(bench, load))
    assert run(main, file, group) == 0
    assert seen == [1, 2, 2]
    metrics = read_record(layout.record(STAGE, group))["metrics"]
    assert metrics["resumed_loads"] == 1
    assert metrics["cells"][:2] == before["cells"]
    assert [cell["batch"] for cell in metrics["cells"]] == [1, 1, 2, 2]
    assert not unfinished.exists()


def test_nothing_compiled_before_is_found_again(prepared, main, monkeypatch):
    file, _ = prepared(schemes=[], modes=["eager"], batches=[1])
    module, seen = sys.modules[main.__module__], []
    real = module.measure_load

    def look(bench, load):
        seen.append((Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]), *os.listdir(os.environ["TORCHINDUCTOR_CACHE_DIR"])))
        return real(bench, load)

    monkeypatch.setattr(module, "measure_load", look)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/kept")
    assert run(main, file, "base.fp32") == 0
    ((folder,),) = seen  # its own, and empty
    assert not folder.exists()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/kept"


def test_limits_outlive_a_kill_after_the_last_load(prepared, main, monkeypatch):
    file, layout = prepared(schemes=[], modes=["eager"], batches=[1])
    module = sys.modules[main.__module__]
    describe = module.describe
    monkeypatch.setattr(module, "describe", lambda *args: pytest.fail("killed"))
    with pytest.raises(BaseException, match="killed"):
        run(main, file, "base.fp32")
    monkeypatch.setattr(module, "describe", describe)
    assert run(main, file, "base.fp32") == 0
    found = read_record(layout.record(STAGE, "base.fp32"))
    assert found["metrics"]["resumed_loads"] == 1
    assert found["settings"]["limits"]["fp32"]["bandwidth_gb_s"] == 20


def test_a_checkpoint_that_could_not_be_made_is_a_row(prepared, main):
    file, layout = prepared(schemes=["bnb-nf4"], modes=["eager"])
    group = "base.bnb-nf4"
    manifest = layout.manifest("base", "bnb-nf4")
    manifest.parent.mkdir(parents=True)
    write_missing(manifest, variant="base", scheme="bnb-nf4", status="unavailable", reason="the GPU is too old")
    assert run(main, file, group) == 0
    cells = read_record(layout.record(STAGE, group))["metrics"]["cells"]
    assert [(cell["arm"], cell["status"]) for cell in cells][:2] == [("fp32", "ok"), ("bnb-nf4", "unavailable")]
    assert "the GPU is too old" in cells[1]["reason"]


def test_nothing_that_fits_is_a_record_that_says_so(prepared, main, monkeypatch):
    file, layout = prepared(schemes=["bf16"], modes=["eager"], batches=[1])

    def no_memory(*args, **options):
        raise MemoryError("not enough memory for this model")

    monkeypatch.setattr(sys.modules[main.__module__], "load_arm", no_memory)
    assert run(main, file, "base.bf16") == 0
    record = read_record(layout.record(STAGE, "base.bf16"))
    assert record["status"] == "oom"
    assert "not enough memory" in record["reason"]
    assert record["metrics"]["cells_oom"] == 2


def test_all_groups_skip_what_is_there(prepared, main, monkeypatch, capsys):
    file, _ = prepared(schemes=["bf16"], modes=["eager"], batches=[1])
    assert run(main, file, "base.bf16") == 0
    started = []
    module = sys.modules[main.__module__]
    monkeypatch.setattr(
        module.subprocess,
        "run",
        lambda words, **options: started.append(words) or pytest.fail("a group was measured again"),
    )
    assert main(["--study", str(file)]) == 0
    assert started == []
    assert "is there already" in capsys.readouterr().err


def test_all_groups_run_in_processes_of_their_own(prepared, main, monkeypatch):
    file, _ = prepared(schemes=["bf16", "fp16"], modes=["eager"], together=1)
    module, started = sys.modules[main.__module__], []

    class Done:
        returncode = 0

    monkeypatch.setattr(module.subprocess, "run", lambda words, **options: started.append(words) or Done())
    assert main(["--study", str(file), "--set", "profile.repeats=4"]) == 0
    assert [words[words.index("--group") + 1] for words in started] == ["base.bf16", "base.fp16"]
    assert all(words[-2:] == ["--set", "profile.repeats=4"] for words in started)


def test_a_group_that_a_signal_killed_is_a_failure(prepared, main, monkeypatch):
    file, _ = prepared(schemes=["bf16"], modes=["eager"], together=1)

    class Killed:
        returncode = -9

    monkeypatch.setattr(sys.modules[main.__module__].subprocess, "run", lambda words, **options: Killed())
    assert main(["--study", str(file)]) == 137


@pytest.mark.parametrize(
    ("changes", "group", "said"),
    [
        ({"prompt_tokens": [4000]}, GROUP, "need 4003 positions"),
        ({}, "base.nope", "no profile group 'base.nope'"),
    ],
)
def test_what_cannot_be_is_named(prepared, main, changes, group, said):
    file, _ = prepared(**changes)
    with pytest.raises(InputError, match=said):
        run(main, file, group)


def test_a_missing_checkpoint_and_a_missing_section_are_named(prepared, main, tmp_path):
    file, layout = prepared()
    layout.manifest("base").unlink()
    with pytest.raises(InputError, match="there is no checkpoint manifest"):
        run(main, file)
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "profile"}))
    with pytest.raises(InputError, match="has no section profile"):
        run(main, file)


def test_bandwidth_and_launches_are_those_of_the_machine(main):
    agreed = sys.modules[main.__module__].agreed
    found = agreed({"fp16": DeviceLimits(10, 0.5, 3, "a"), "bf16": DeviceLimits(12, 0.7, 4, "b"), "fp32": "no room"})
    assert found["fp16"] == DeviceLimits(12, 0.5, 3, "a")
    assert found["bf16"] == DeviceLimits(12, 0.7, 3, "b")
    assert found["fp32"] == "no room"
