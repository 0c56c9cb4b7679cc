"""The supervised control: its text, its step size, and the script that makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from factories import run_script, study_content
from gainwatt.checkpoint import read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.gsm8k.data import Item
from gainwatt.modeling import load_tokenizer
from gainwatt.record import read_record
from gainwatt.weights.sft import TOLERANCE, encode, rescale, update_norm

from .naive import checkpoint, heavy, manifest

NAME = "model.layers.0.mlp.up_proj.weight"
BIAS = "model.layers.0.mlp.up_proj.bias"


class Model:
    """Parameters by the names of a checkpoint."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.kept = {name: torch.nn.Parameter(value.clone()) for name, value in tensors.items()}

    def named_parameters(self):
        return self.kept.items()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", [0.02, 0.5])
def test_the_change_gets_the_wanted_norm_as_it_is_stored(tmp_path: Path, dtype: torch.dtype, wanted: float) -> None:
    base = {NAME: heavy((64, 96), 1, dtype), BIAS: torch.ones(64, dtype=dtype)}
    folder = checkpoint(tmp_path / "base", base)
    model = Model({NAME: base[NAME].float() + 0.01 * heavy((64, 96), 2), BIAS: torch.full((64,), 1.5)})
    found = rescale(model, folder, wanted, dtype)
    stored = {name: value.detach().to(dtype) for name, value in model.kept.items()}
    again = update_norm(checkpoint(tmp_path / "sft", stored), folder)
    assert again == pytest.approx(wanted, rel=TOLERANCE)
    assert again / wanted == pytest.approx(found.norm_ratio, rel=1e-3)
    # One factor for everything, also for what the norm does not count.
    assert float(model.kept[BIAS][0].detach()) == pytest.approx(1 + 0.5 * found.factor, rel=1e-5)


def test_a_norm_by_hand(tmp_path: Path) -> None:
    """Only matrices count: 3-4-5, and neither the bias nor the embedding."""
    one = {NAME: torch.tensor([[1.0, 2.0]]), BIAS: torch.ones(1), "model.embed_tokens.weight": torch.ones(2, 2)}
    two = {NAME: torch.tensor([[4.0, 6.0]]), BIAS: torch.zeros(1), "model.embed_tokens.weight": torch.zeros(2, 2)}
    assert update_norm(checkpoint(tmp_path / "a", one), checkpoint(tmp_path / "b", two)) == 5.0
    with pytest.raises(InputError, match="do not hold the same matrices"):
        update_norm(tmp_path / "a", checkpoint(tmp_path / "c", {"x.weight": torch.ones(1, 2)}))


def test_a_step_that_rounding_swallows_is_unavailable(tmp_path: Path) -> None:
    base = {NAME: torch.ones(8, 8, dtype=torch.bfloat16)}
    model = Model({NAME: base[NAME].float() + 1e-5})
    with pytest.raises(UnavailableError, match="cannot be given the norm"):
        rescale(model, checkpoint(tmp_path, base), 1e-4, torch.bfloat16)


def test_a_small_step_is_met_in_bf16(tmp_path: Path) -> None:
    """The first steps of Adam move all weights equally far, so that rounding lets go of many at the same factor."""
    generator = torch.Generator().manual_seed(2)
    base = {NAME: (1 + torch.randint(120, (64, 64), generator=generator) / 128).bfloat16()}  # 1/128 apart
    changes = 1e-3 * (1 + 0.01 * torch.randn((64, 64), generator=generator))
    wanted = (64 * 64 / 2) ** 0.5 / 128  # half of them move, by one step of the type
    found = rescale(Model({NAME: base[NAME].float() + changes}), checkpoint(tmp_path, base), wanted, torch.bfloat16)
    assert found.norm_ratio == pytest.approx(1, abs=TOLERANCE)


def test_solutions_are_learned_without_annotations(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    item = Item(0, "How many apples does Anna have?", "2 + 3 = <<2+3=5>>5\n#### 5", "5")
    ((ids, start),) = encode([item], tokenizer, "{question}", 200)
    assert "<<" not in tokenizer.decode(ids)
    assert "#### 5" in tokenizer.decode(ids[start:])
    assert "#### 5" not in tokenizer.decode(ids[:start])
    ((cut, _),) = encode([item], tokenizer, "{question}", start + 3)
    assert cut == ids[: start + 3]
    with pytest.raises(InputError, match="training item 0 leaves no room"):
        encode([item], tokenizer, "{question}", start)


def test_the_script(tmp_path: Path, tiny_folder: Path) -> None:
    """By its command line: the step size of the trained variant, the base as parent, and the same bytes again."""
    base = read_manifest(tiny_folder / "manifest.json")
    trained = tmp_path / "grpo"
    trained.mkdir()
    (trained / "config.json").write_bytes((tiny_folder / "config.json").read_bytes())
    generator = torch.Generator().manual_seed(4)
    tensors = load_file(tiny_folder / "model.safetensors")
    moved = {n: t + 1e-3 * torch.randn(t.shape, generator=generator) for n, t in tensors.items()}
    save_file(moved, trained / "model.safetensors")
    manifest(trained, "grpo-s0", parent_sha256=base.sha256)
    rows = [{"question": f"What is {i} + 2?", "answer": f"{i} + 2.\n#### {i + 2}"} for i in range(8)]
    data, made = tmp_path / "train.jsonl", tmp_path / "sft" / "manifest.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = {"seeds": [0], "max_steps": 3, "learning_rate": 1e-3, "precision": "fp32"}
    content = study_content(tmp_path, model={"source": str(tiny_folder), "dtype": "fp32"}, train=train)
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    options = ["--study", tmp_path / "study.yaml", "--base", tiny_folder / "manifest.json", "--data", data]
    options += ["--manifest", made, "--record", tmp_path / "r.json", "--trained"]
    done = run_script("train_sft_control", *options, trained / "manifest.json")
    assert done.returncode == 0, done.stderr
    record = read_record(tmp_path / "r.json", stage="train_sft_control")
    assert record["metrics"]["norm_ratio"] == pytest.approx(1, abs=TOLERANCE)
    assert record["settings"]["effective"]["matched"] == "grpo-s0"
    control = read_manifest(made)
    assert (control.variant, control.parent_sha256) == ("sft-s0", base.sha256)
    assert update_norm(made.parent, tiny_folder) == pytest.approx(update_norm(trained, tiny_folder), rel=TOLERANCE)
    refused = run_script("train_sft_control", *options, tiny_folder / "manifest.json")
    assert refused.returncode == 2
    assert "is not the unquantized checkpoint of grpo-s0" in refused.stderr

    save_file(tensors, trained / "model.safetensors")
    manifest(trained, "grpo-s0", parent_sha256=base.sha256)
    nothing = run_script("train_sft_control", *options, trained / "manifest.json")
    assert nothing.returncode == 0, nothing.stderr
    record = read_record(tmp_path / "r.json", stage="train_sft_control")
    assert (record["status"], "does not differ from its base" in record["reason"]) == ("unavailable", True)
    with pytest.raises(UnavailableError, match="does not differ"):
        read_manifest(made)
