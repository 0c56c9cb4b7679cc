"""A real server on the tiny model by its command line: ready, asked by an evaluation, compared, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from factories import ROOT, script_main, write_items, write_study
from gainwatt.checkpoint import write_manifest
from gainwatt.engines.processes import descendants
from gainwatt.errors import InputError
from gainwatt.record import read_record
from gainwatt.study import Layout, load_study

KEY = "a-key-for-tests"


@pytest.fixture
def study(tmp_path, tiny_folder):
    evaluate = {"batch_size": 3, "max_new_tokens": 8}
    file = write_study(tmp_path, {"model": {"source": str(tiny_folder), "dtype": "fp32"}, "evaluate": evaluate})
    layout = Layout.of(load_study(file))
    write_items(layout.data("test").parent, test=5)
    manifest = layout.manifest("base")
    manifest.parent.mkdir(parents=True)
    write_manifest(manifest, variant="base", scheme="dense", folder=tiny_folder)
    return file, layout


def environment(**more):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GAINWATT_")}
    return {**plain, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def evaluate(monkeypatch, file, *options):
    words = ["--study", file, "--variant", "base", "--scheme", "fp32", *options]
    monkeypatch.setattr(sys, "argv", ["evaluate_gsm8k", *map(str, words)])
    assert script_main("evaluate_gsm8k")([str(word) for word in words]) == 0


def test_serve_evaluate_compare_stop(study, tmp_path, monkeypatch, capsys):
    file, layout = study
    (tmp_path / "key").write_text(f"{KEY}\n", "utf-8")
    command = [
        sys.executable, str(ROOT / "scripts" / "serve.py"), "--study", str(file), "--variant", "base", "--scheme",
        "fp32", "--api-key-file", str(tmp_path / "key"), "--facts", str(tmp_path / "facts.json"),
    ]  # fmt: skip
    with (tmp_path / "said").open("w") as said:
        script = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=said, text=True)
    try:
        url = script.stdout.readline().removeprefix("ready: ").strip()
        assert url.startswith("http://127.0.0.1:"), (tmp_path / "said").read_text("utf-8")
        below = descendants(script.pid)
        monkeypatch.setenv("GAINWATT_API_KEY", KEY)
        evaluate(monkeypatch, file)
        evaluate(monkeypatch, file, "--endpoint", url, "--concurrency", 5)
    finally:
        script.send_signal(signal.SIGINT)
        code = script.wait(60)
    told = (tmp_path / "said").read_text("utf-8")
    assert code == 0, told
    assert "stopped in" in told
    assert not set(below) & set(descendants(os.getpid()))
    check_records(layout, capsys)
    shown = (
        told + (tmp_path / "facts.json").read_text("utf-8") + layout.log("serve", "base.fp32.transformers").read_text()
    )
    assert KEY not in shown
    assert json.loads((tmp_path / "facts.json").read_text("utf-8"))["quantization_kernel"] == {"Linear[float32]": 15}


def check_records(layout, capsys):
    own = layout.record("evaluate_gsm8k", "base.fp32")
    served = layout.record("evaluate_endpoint", "base.fp32.endpoint-url")
    record = read_record(served, stage="evaluate_endpoint")
    assert record["cell"] == {"variant": "base", "scheme": "fp32", "engine": "endpoint-url"}
    assert record["metrics"]["parity_same_text_share"] == 1.0
    assert record["metrics"]["accuracy"] == read_record(own)["metrics"]["accuracy"]
    assert record["settings"]["effective"]["batch_size"] == 5
    assert record["settings"]["effective"]["server"].startswith("was there already")
    assert KEY not in json.dumps(record)
    assert script_main("compare_engines")([str(own), str(served), "--out", str(served.with_suffix(".csv"))]) == 0
    assert "same text         5  100.00%" in capsys.readouterr().out
    assert served.with_suffix(".csv").read_text("utf-8").count("\n") > 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scheme", "fp32"), "nothing names a checkpoint"),
        (("--checkpoint", "/nowhere", "--scheme", "fp32"), "holds no config.json"),
        (("--checkpoint", "TINY", "--scheme", "bnb-nf4"), "is of the scheme dense, not bnb-nf4"),
        (("--checkpoint", "TINY", "--scheme", "fp32", "--host", "0.0.0.0"), "everybody who reaches"),  # noqa: S104
        (("--checkpoint", "TINY", "--scheme", "fp32", "--api-key-file", "/nowhere"), "cannot read the API key"),
        (("--checkpoint", "TINY", "--scheme", "fp32", "--variant", "base"), "both name what is to be served"),
    ],
)
def test_bad_command_lines(tiny_folder, options, said, monkeypatch):
    for name in ("GAINWATT_API_KEY", "GAINWATT_STUDY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=said):
        script_main("serve")([str(tiny_folder) if word == "TINY" else word for word in options])


def test_an_evaluation_through_two_servers_at_once_is_refused(study):
    words = [
        "--study",
        study[0],
        "--variant",
        "base",
        "--scheme",
        "fp32",
        "--serve",
        "vllm",
        "--endpoint",
        "http://x/v1",
    ]
    with pytest.raises(InputError, match="--serve starts a server and --endpoint names one"):
        script_main("evaluate_gsm8k")([str(word) for word in words])
