"""scripts/diagnose_weights.py by its command line: base, trained variant, and inputs that cannot be used."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from gainwatt.errors import InputError
from gainwatt.record import file_sha256, read_record
from gainwatt.weights.measure import Plan

from .naive import checkpoint, heavy, manifest

ROOT = Path(__file__).parents[2]
NAME = "model.layers.0.mlp.up_proj.weight"


def made(folder: Path, variant: str, *, parent: str | None = None, nudge: float = 0.0, scheme: str = "dense") -> Path:
    values = heavy((64, 128), 1) + nudge * heavy((64, 128), 2)
    checkpoint(folder, {NAME: values.bfloat16(), "model.embed_tokens.weight": heavy((32, 128), 3).bfloat16()})
    return manifest(folder, variant, scheme=scheme, parent_sha256=parent)


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "diagnose_weights.py", "--study", ROOT / "config" / "demo.yaml"]
    command += ["--set", "energy.idle_s=0", "--set", f"paths.results={folder / 'results'}", "--set", "train.seeds=[0]"]
    return subprocess.run(
        [str(word) for word in (*command, *arguments)],
        capture_output=True, text=True, check=False, cwd=folder,
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_base_and_trained(tmp_path: Path) -> None:
    base = made(tmp_path / "base", "base")
    record_path = tmp_path / "base.json"
    done = run(tmp_path, "--variant", "base", "--checkpoint", base, "--record", record_path)
    assert done.returncode == 0, done.stderr
    record = read_record(record_path, stage="diagnose_weights")
    sha256 = record["inputs"]["checkpoint"]["sha256"]
    assert (record["cell"], record["status"]) == ({"variant": "base"}, "ok")
    assert record["metrics"]["weights"] == 64 * 128
    assert record["metrics"]["code_flip_frac_bnb_nf4"] is None
    assert "base" in record["null_reasons"]["code_flip_frac_bnb_nf4"]

    trained = made(tmp_path / "trained", "grpo-s0", parent=sha256, nudge=0.02)
    record_path = tmp_path / "grpo-s0.json"
    done = run(tmp_path, "--variant", "grpo-s0", "--checkpoint", trained, "--base", base, "--record", record_path)
    assert done.returncode == 0, done.stderr
    record = read_record(record_path, stage="diagnose_weights")
    assert record["inputs"]["base"]["sha256"] == sha256
    assert 0 < record["metrics"]["code_flip_frac_bnb_nf4"] < 1
    assert 0 < record["metrics"]["relative_update_norm"] < 0.1
    layers = tmp_path / "grpo-s0.layers.parquet"
    assert record["outputs"]["layers"]["sha256"] == file_sha256(layers)
    table = parquet.read_table(layers)
    assert table.column_names == Plan(schemes=("symmetric-w4", "bnb-nf4")).columns()
    assert table.to_pylist()[0]["module_name"] == NAME.removesuffix(".weight")


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], int]:
    """The script's `main`, in this process."""
    spec = importlib.util.spec_from_file_location("diagnose_weights", ROOT / "scripts" / "diagnose_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def refusal(main: Callable[[list[str]], int], folder: Path, *arguments: str | Path) -> str:
    """What the script says when it refuses; it must leave no record."""
    record = folder / "r.json"
    options = ["--study", ROOT / "config" / "demo.yaml", "--set", "energy.idle_s=0", "--set", "train.seeds=[0]"]
    with pytest.raises(InputError) as error:
        main([str(word) for word in (*options, "--record", record, *arguments)])
    assert not record.exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"variant": "base"}, "is the dense checkpoint of base, not the unquantized one of grpo-s0"),
        ({"scheme": "bnb-nf4"}, "is the bnb-nf4 checkpoint of grpo-s0"),
        ({"parent": "0" * 64}, "was trained from another checkpoint"),
    ],
)
def test_other_checkpoints_are_refused(
    tmp_path: Path, main: Callable[[list[str]], int], change: dict[str, str], says: str
) -> None:
    base = made(tmp_path / "base", "base")
    trained = made(tmp_path / "trained", **({"variant": "grpo-s0"} | change), nudge=0.1)
    assert says in refusal(main, tmp_path, "--variant", "grpo-s0", "--checkpoint", trained, "--base", base)


def test_a_bad_manifest(tmp_path: Path) -> None:
    path = made(tmp_path / "base", "base")
    path.write_text('{"kind": "something else"}')
    done = run(tmp_path, "--variant", "base", "--checkpoint", path, "--record", tmp_path / "r.json")
    assert (done.returncode, (tmp_path / "r.json").exists()) == (2, False)
    assert f"{path} is not a checkpoint manifest" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_checkpoint(tmp_path: Path, main: Callable[[list[str]], int]) -> None:
    path = made(tmp_path / "base", "base")
    checkpoint(path.parent, {NAME: torch.ones(4, 4)})
    assert "model-0.safetensors" in refusal(main, tmp_path, "--variant", "base", "--checkpoint", path)


def test_a_variant_that_the_study_lacks(tmp_path: Path, main: Callable[[list[str]], int]) -> None:
    assert "no variant 'grpo-s7'" in refusal(main, tmp_path, "--variant", "grpo-s7")
