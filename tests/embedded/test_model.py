from __future__ import annotations

import pytest
import torch

from gainwatt.embedded import model
from gainwatt.errors import InputError


def test_every_linear_layer_can_be_cut_into_groups_of_128(small_tokenizer):
    made = model.build_model(small_tokenizer, layers=2)
    linear = [module for module in made.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 2 * 7 + 1
    assert all(module.in_features % 128 == 0 for module in linear)
    assert made.config.model_type == "qwen2"
    assert made.get_input_embeddings().num_embeddings % 64 == 0
    assert made.get_input_embeddings().num_embeddings >= len(small_tokenizer)


def test_end_and_padding_tokens_survive_saving(make_model, small_tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM

    make_model().save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    config = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert config.eos_token_id == small_tokenizer.eos_token_id
    assert config.pad_token_id == small_tokenizer.pad_token_id


def test_the_seed_decides_the_weights_and_leaves_the_global_state_alone(make_model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (make_model(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 96}, "hidden_size is 96"),
        ({"intermediate_size": 200}, "intermediate_size is 200"),
        ({"heads": 3}, "3 heads"),
        ({"kv_heads": 3}, "3 key/value heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(small_tokenizer, sizes, message):
    with pytest.raises(InputError, match=message):
        model.build_model(small_tokenizer, **sizes)
