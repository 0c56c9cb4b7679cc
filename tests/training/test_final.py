"""The saved checkpoint computes what the trained model computed."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from gainwatt.checkpoint import hash_folder
from gainwatt.modeling import load_model, load_tokenizer
from gainwatt.schemes import get_scheme
from gainwatt.training.final import save_final, update_size


@pytest.fixture
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, get_scheme("fp32"), "fp32")


@pytest.fixture
def tokenizer(tiny_folder):
    return load_tokenizer(tiny_folder)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.arange(5, 25)[None]).logits


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_full_training_keeps_the_weights(model, tokenizer, tiny_checkpoint, tmp_path):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    before = logits(model)
    save_final(model, tokenizer, tiny_checkpoint, tmp_path / "out", dtype="fp32")
    assert torch.equal(logits(load(tmp_path / "out")), before)
    assert load_tokenizer(tmp_path / "out").chat_template == tokenizer.chat_template
    hash_folder(tmp_path / "out")


@pytest.mark.parametrize(("dtype", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_weights_are_cast_to_the_studys_type(model, tokenizer, tiny_checkpoint, tmp_path, dtype, kind):
    expected = {name: value.to(kind) for name, value in model.state_dict().items()}
    save_final(model, tokenizer, tiny_checkpoint, tmp_path / "out", dtype=dtype)
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {kind}
    assert all(torch.equal(value, expected[name]) for name, value in saved.items())


def test_an_existing_checkpoint_is_replaced(model, tokenizer, tiny_checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "left-over.safetensors").touch()
    save_final(model, tokenizer, tiny_checkpoint, tmp_path / "out", dtype="fp32")
    assert not (tmp_path / "out" / "left-over.safetensors").exists()


def test_merged_adapters_compute_what_the_adapted_model_computed(model, tokenizer, tiny_checkpoint, tmp_path):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    base = logits(model)
    adapted = get_peft_model(model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = logits(adapted.eval())
    assert not torch.allclose(expected, base, atol=1e-2)
    save_final(adapted, tokenizer, tiny_checkpoint, tmp_path / "out", dtype="fp32")
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "lora" in name]
    assert torch.allclose(logits(load(tmp_path / "out")), expected, atol=1e-4)


def folder(path, **tensors):
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


def test_update_size_of_a_known_difference(tmp_path):
    base = folder(tmp_path / "a", x=torch.tensor([3.0, 4.0]), y=torch.tensor([0.0, 0.0]))
    trained = folder(tmp_path / "b", x=torch.tensor([3.0, 1.0]), y=torch.tensor([0.0, 4.0]), new=torch.ones(3))
    assert update_size(base, trained) == {"relative_update_norm": 1.0, "weights_changed_frac": 0.5}
    assert update_size(base, base) == {"relative_update_norm": 0.0, "weights_changed_frac": 0.0}


def test_a_step_that_vanishes_in_bf16_is_seen_as_no_change(tmp_path):
    base = folder(tmp_path / "a", x=torch.tensor([1.0]).bfloat16())
    trained = folder(tmp_path / "b", x=torch.tensor([1.0 + 1e-4]).bfloat16())
    assert update_size(base, trained)["weights_changed_frac"] == 0.0


def test_a_tensor_is_compared_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("gainwatt.training.final.AT_ONCE", 4)
    generator = torch.Generator().manual_seed(0)
    x, step = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    step[1] = 0
    found = update_size(folder(tmp_path / "a", x=x), folder(tmp_path / "b", x=x + step))
    assert found["weights_changed_frac"] == pytest.approx(10 / 15)
    assert found["relative_update_norm"] == pytest.approx(float(step.norm() / x.norm()), rel=1e-12)


def test_shards_are_read_together(tmp_path):
    base = folder(tmp_path / "a", x=torch.ones(2), y=torch.ones(2))
    trained = folder(tmp_path / "b", x=torch.ones(2))
    (trained / "model.safetensors").rename(trained / "model-1.safetensors")
    save_file({"y": torch.ones(2) * 2}, trained / "model-2.safetensors")
    assert update_size(base, trained) == {"relative_update_norm": pytest.approx(0.5**0.5), "weights_changed_frac": 0.5}
