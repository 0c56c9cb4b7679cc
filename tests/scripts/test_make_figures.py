"""Figures from records by the command line."""

from __future__ import annotations

import json

from factories import run_script, study_content, write_all_records, write_evaluation, write_study
from gainwatt.study import Cell, load_study


def test_files_index_and_the_same_bytes_again(tmp_path):
    file = write_study(tmp_path, study_content(tmp_path))
    write_all_records(load_study(file))
    contents = []
    for out in ("a", "b"):
        done = run_script("make_figures", "--study", file, "--out", tmp_path / out)
        assert done.returncode == 0, done.stderr
        contents.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    assert contents[0] == contents[1]
    index = json.loads(contents[0].pop("index.json"))
    assert {name for entry in index.values() for name in entry["files"]} == set(contents[0])
    for entry in index.values():
        assert entry["made_from"]
        if entry["files"]:
            assert entry["title"]
            assert entry["alt"]
            assert entry["records"]
        else:
            assert entry["reason"]
    assert index["accuracy"]["records"][0]["path"] == "records/evaluate_gsm8k/base.fp32.json"


def test_missing_records_are_a_reason_in_the_index(tmp_path):
    file = write_study(tmp_path, study_content(tmp_path))
    write_evaluation(load_study(file), Cell("base", "fp32"), metered=False)
    done = run_script("make_figures", "--study", file)
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "results" / "tiny" / "figures" / "index.json").read_text())
    assert index["accuracy"]["files"] == ["accuracy.svg", "accuracy.png"]
    for name in ("gain_survival", "paired_changes", "training", "layer_errors", "energy_latency", "power_trace"):
        assert index[name]["files"] == []
        assert index[name]["reason"].startswith(("no record of ", "no cell has joules"))


def test_a_figure_that_can_no_more_be_drawn_is_removed(tmp_path):
    file = write_study(tmp_path, study_content(tmp_path))
    write_evaluation(load_study(file), Cell("base", "fp32"), metered=False)
    left = tmp_path / "results" / "tiny" / "figures" / "training.svg"
    left.parent.mkdir(parents=True)
    left.touch()
    assert run_script("make_figures", "--study", file).returncode == 0
    assert not left.exists()


def test_records_of_other_settings_are_refused_or_marked(tmp_path):
    file = write_study(tmp_path, study_content(tmp_path))
    write_evaluation(load_study(file), Cell("base", "fp32"), metered=False)
    changed = ["--study", file, "--set", "evaluate.batch_size=99"]
    assert run_script("make_figures", *changed).returncode == 3
    assert run_script("make_figures", *changed, "--allow-stale").returncode == 0
    index = json.loads((tmp_path / "results" / "tiny" / "figures" / "index.json").read_text())
    assert index["accuracy"]["stale"] == ["evaluate.batch_size"]
