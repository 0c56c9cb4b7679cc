"""scripts/profile_llamacpp.py and scripts/fetch_gguf.py by their command lines, and the session with a worker that is
no llama.cpp."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from pyarrow import parquet

from factories import ROOT, run_script, script_main, study_content, write_study
from gainwatt.energy.device import Device, DeviceError, DeviceInfo
from gainwatt.errors import InputError
from gainwatt.llamacpp import child
from gainwatt.llamacpp.files import GgufFile, write_files
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study
from gainwatt.tables import llamacpp as tables
from gainwatt.tables.results import Results

WORKER = [sys.executable, str(ROOT / "tests" / "llamacpp" / "fake_worker.py")]
SECTION = {
    "source": "base", "quant_types": ["q4_0", "q8_0"], "threads": 1, "suites": ["sd", "ar"], "rounds": 2,
    "window_s": 0.001, "max_new_tokens": 4,
}  # fmt: skip


@pytest.fixture
def study(tmp_path):
    """A study whose files are brought: one of Q4_0, none of Q8_0."""
    path = write_study(tmp_path, study_content(tmp_path, matrix=False, llamacpp=SECTION))
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF" + bytes(96))
    files = {
        "q4_0": GgufFile(str(gguf), None, "a" * 64, 100, "found", {"Q4_0": 4}, 200),
        "q8_0": GgufFile(None, "there is no file *.Q8_0.gguf"),
    }
    write_files(Layout.of(load_study(path)).gguf / "files.json", files)
    return path


def records(study):
    return Layout.of(load_study(study)).record("profile_llamacpp", "x").parent


def test_a_session_writes_one_record_per_arm(study, monkeypatch, capsys):
    monkeypatch.setattr(child, "COMMAND", WORKER)
    assert script_main("profile_llamacpp")(["--study", str(study)]) == 0
    folder = records(study)
    session = read_record(folder / "session.json")
    assert session["metrics"] == {"visits": 8, "resumed_visits": 0, "arms": 4, "arms_measured": 1}
    assert session["settings"]["not_measured"]["cpu-q8_0"]["reason"] == "there is no file *.Q8_0.gguf"
    record = read_record(folder / "cpu.json")
    assert (record["status"], record["cell"]["gpu_layers"], record["cell"]["threads"]) == ("ok", 0, 1)
    assert record["metrics"]["sd_generated_tokens"] == 2 * 3 * 4
    assert record["metrics"]["sd_decode_tok_s"] == pytest.approx(3 / 0.002)
    assert record["metrics"]["sd_gross_j_per_request"] is None
    assert "no RAPL" in record["null_reasons"]["sd_gross_j_per_request"]
    assert {
        name: read_record(folder / f"{name}.json")["status"] for name in ("gpu", "gpu-q8_0", "cpu-q8_0")
    } == dict.fromkeys(("gpu", "gpu-q8_0", "cpu-q8_0"), "unavailable")
    rows = parquet.read_table(folder / "cpu.windows.parquet").to_pylist()
    # Two visits: a load, and for each suite prefill and generate; suites in turned order in the second round.
    assert [(row["round"], row["kind"], row["suite"]) for row in rows if row["kind"] != "prefill"] == [
        (0, "load", ""), (0, "generate", "sd"), (0, "generate", "ar"),
        (1, "load", ""), (1, "generate", "ar"), (1, "generate", "sd"),
    ]  # fmt: skip
    assert not (Layout.of(load_study(study)).work("profile_llamacpp", "session") / "visits.jsonl").exists()
    loaded = load_study(study)
    results = Results.load(loaded, Layout.of(loaded))
    assert [row["arm"] for row in tables.arms(results)] == ["cpu", "cpu", "gpu", "cpu-q8_0", "gpu-q8_0"]


class Counter(Device):
    """A device that counts the joules of a constant power."""

    def __init__(self, label, boundary, watts):
        super().__init__(DeviceInfo(label, boundary, "rapl", label), has_counter=True, counter_tick_s=None)
        self.watts = watts

    def counter_j(self):
        return self.watts * time.monotonic()

    def power_w(self):
        raise DeviceError("counts energy only")


def test_joules_of_an_arm_are_those_of_the_whole_boundary(study, monkeypatch):
    devices = [Counter("cpu:0", "cpu_package", 60.0), Counter("dram:0", "dram", 5.0)]
    monkeypatch.setattr("gainwatt.energy.sources.open_rapl", lambda root: (devices, {}))
    monkeypatch.setattr(child, "COMMAND", WORKER)
    run = script_main("profile_llamacpp")
    options = ["--study", str(study), "--arms", "cpu", "--set", "llamacpp.boundary=[cpu_package, dram]"]
    assert run(options) == 0
    record = read_record(records(study) / "cpu.json")
    for row in parquet.read_table(records(study) / "cpu.windows.parquet").to_pylist():
        # Clock and counter are read one after the other: on a busy machine a few milliseconds apart.
        assert row["gross_j"] == pytest.approx(65.0 * row["seconds"], abs=65.0 * 0.005)
        assert row["cpu_package_gross_j"] == pytest.approx(60.0 * row["seconds"], abs=60.0 * 0.005)
        assert row["gross_j"] == pytest.approx(row["cpu_package_gross_j"] * 65 / 60, abs=65.0 * 0.005)
        assert row["gpu_board_gross_j"] is None
    assert record["metrics"]["sd_mean_w"] == pytest.approx(65.0, rel=0.3)
    assert record["metrics"]["sd_own_device_j_per_token"] > 0
    # idle_s is 0 in this study: there is no idle power, and so no net energy.
    assert "idle" in record["null_reasons"]["sd_net_j_per_request"]
    session = read_record(records(study) / "session.json")
    assert session["energy"]["gross_j"] > 0


def test_killed_in_the_middle_it_goes_on_with_what_is_left(study, tmp_path):
    marks = tmp_path / "marks"
    marks.touch()
    code = (
        "import runpy, sys; from gainwatt.llamacpp import child; "
        f"child.COMMAND = {WORKER!r}; sys.argv = ['profile_llamacpp.py', '--study', {str(study)!r}]; "
        f"runpy.run_path({str(ROOT / 'scripts/profile_llamacpp.py')!r}, run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "STOP_AT": str(marks), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (records(study) / "session.json").exists()
    done = (Layout.of(load_study(study)).work("profile_llamacpp", "session") / "visits.jsonl").read_text().splitlines()
    assert len(done) == 1 + 4  # a header, and the whole first round; the second visit of `cpu` was cut
    del environment["STOP_AT"]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 0, second.stderr
    session = read_record(records(study) / "session.json")
    assert session["metrics"]["resumed_visits"] == 4
    assert read_record(records(study) / "cpu.json")["metrics"]["sd_windows"] == 2


def test_without_llama_cpp_every_arm_is_a_row_with_the_reason(study):
    done = run_script("profile_llamacpp", "--study", study, "--arms", "cpu")
    assert done.returncode == 0, done.stderr
    record = read_record(records(study) / "cpu.json")
    assert record["status"] == "unavailable"
    assert "llama-cpp-python cannot be used" in record["reason"]
    assert not (records(study) / "gpu.json").exists()


def test_listing_arms_runs_none(study, capsys):
    assert script_main("profile_llamacpp")(["--study", str(study), "--list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in shown] == ["cpu", "gpu", "cpu-q8_0", "gpu-q8_0"]
    assert "gpu_layers=None" in shown[1]
    assert shown[2].endswith("there is no file *.Q8_0.gguf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--arms", "cpu,tpu"], "the study has no arm 'tpu'"),
        (["--files", "none.json"], "the list of GGUF files none.json does not exist"),
    ],
)
def test_bad_input_ends_with_a_plain_message(study, options, said):
    with pytest.raises(InputError, match=said):
        script_main("profile_llamacpp")(["--study", str(study), *options])


def test_a_file_that_changed_since_is_refused(study, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match="is missing or has another size"):
        script_main("profile_llamacpp")(["--study", str(study)])


def test_a_study_without_the_section(tmp_path):
    path = write_study(tmp_path, study_content(tmp_path))
    for script in ("profile_llamacpp", "fetch_gguf"):
        with pytest.raises(InputError, match="has no section llamacpp"):
            script_main(script)(["--study", str(path)])


def test_fetching_without_llama_cpp_says_which_environment(study):
    done = run_script("fetch_gguf", "--study", study)
    assert done.returncode == 4
    assert "make env NAME=llamacpp" in done.stderr


# The real chain, with llama.cpp.


@pytest.fixture
def python(request):
    found = request.config.getoption("--llamacpp-python")
    if not found:
        pytest.skip("needs --llamacpp-python")
    return found


def real(python, script, study, *options, **environment):
    command = [python, str(ROOT / "scripts" / f"{script}.py"), "--study", str(study), *map(str, options)]
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=300, check=False)


@pytest.mark.llamacpp
def test_the_real_engine_counts_what_it_does(python, tmp_path, tiny_folder):
    section = SECTION | {
        "quant_types": ["q4_0", "q4_k_m", "q8_0", "iq1_s"], "ablation_parallel": [2], "ablation_prompt_batch": [7],
        "ablation_suites": ["sd"], "backends": ["cpu"], "max_new_tokens": 5,
    }  # fmt: skip
    path = write_study(tmp_path, study_content(tmp_path, matrix=False, llamacpp=section))
    done = real(python, "fetch_gguf", path, "--checkpoint", tiny_folder / "manifest.json")
    assert done.returncode == 0, done.stderr
    done = real(python, "profile_llamacpp", path)
    assert done.returncode == 0, done.stderr
    folder = records(path)
    for name in ("cpu", "cpu-p2", "cpu-b7"):
        rows = [
            row for row in parquet.read_table(folder / f"{name}.windows.parquet").to_pylist() if row["suite"] == "sd"
        ]
        for row in rows:
            wanted = 5 * row["requests"] if row["kind"] == "generate" else 0
            assert row["generated_tokens"] == wanted
            assert 0 < row["prefill_s"] + row["decode_s"] <= row["busy_s"] <= row["seconds"] + 0.01
    tokens = {
        n: read_record(folder / f"{n}.json")["settings"]["effective"]["prompt_tokens"]["sd"] for n in ("cpu", "cpu-b7")
    }
    assert tokens["cpu"] == tokens["cpu-b7"]
    assert read_record(folder / "cpu-iq1_s.json")["reason"].startswith(
        "llama.cpp makes IQ1_S with an importance matrix"
    )
    assert read_record(folder / "cpu-q8_0.json")["metrics"]["bits_per_weight"] > 8


@pytest.mark.llamacpp
def test_folders_of_files_and_broken_ones(python, tmp_path, tiny_folder):
    base = write_study(
        tmp_path, study_content(tmp_path, matrix=False, llamacpp={**SECTION, "quant_types": ["q4_0", "q8_0"]})
    )
    assert real(python, "fetch_gguf", base, "--checkpoint", tiny_folder / "manifest.json").returncode == 0
    made = Layout.of(load_study(base)).gguf
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "m.Q8_0.gguf").write_bytes((made / "made.Q8_0.gguf").read_bytes())
    section = {**SECTION, "source": str(folder), "quant_types": ["q4_0", "q8_0", "q5_0"], "make_from": "q8_0"}
    (tmp_path / "b").mkdir()
    path = write_study(tmp_path / "b", study_content(tmp_path / "b", matrix=False, llamacpp=section))
    assert real(python, "fetch_gguf", path).returncode == 0
    files = json.loads((Layout.of(load_study(path)).gguf / "files.json").read_text())["files"]
    assert {name: entry["origin"] for name, entry in files.items()} == {
        "q4_0": "made from q8_0", "q8_0": "found", "q5_0": "made from q8_0",
    }  # fmt: skip
    whole = (folder / "m.Q8_0.gguf").read_bytes()
    for content, said in ((whole[: len(whole) // 2], "truncated or damaged"), (b"no model", "is no GGUF file")):
        (folder / "m.Q8_0.gguf").write_bytes(content)
        done = real(python, "fetch_gguf", path)
        assert done.returncode == 2
        assert said in done.stderr, done.stderr
    (folder / "m.Q8_0.gguf").write_bytes((made / "made.Q4_0.gguf").read_bytes())
    done = real(python, "fetch_gguf", path)
    assert "is to be Q8_0, and its matrices are stored as" in done.stderr
