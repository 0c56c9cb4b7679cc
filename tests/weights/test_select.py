from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gainwatt.errors import InputError
from gainwatt.weights.select import counterparts, matrices

from .naive import checkpoint, heavy

Q = "model.layers.0.self_attn.q_proj"


def model(head: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    tensors = {
        "model.embed_tokens.weight": heavy((32, 16), 0),
        f"{Q}.weight": heavy((16, 16), 1),
        f"{Q}.bias": torch.ones(16),
        "model.norm.weight": torch.ones(16),
        "model.layers.0.conv.weight": torch.ones(4, 4, 4),
        "model.layers.0.table": torch.ones(4, 4),
    }
    return tensors | ({"lm_head.weight": head} if head is not None else {})


def names(folder: Path, **options: bool) -> list[str]:
    return [matrix.module for matrix in matrices(folder, **options)]


def test_only_two_dimensional_weights(tmp_path: Path) -> None:
    assert names(checkpoint(tmp_path, model())) == [Q]


def test_embeddings_on_request(tmp_path: Path) -> None:
    found = matrices(checkpoint(tmp_path, model()), include_embeddings=True)
    assert [(m.module, m.kind) for m in found] == [("model.embed_tokens", "Embedding"), (Q, "Linear")]


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": True}])
def test_a_tied_head_counts_as_its_embedding(tmp_path: Path, config: dict[str, bool]) -> None:
    folder = checkpoint(tmp_path, model(model()["model.embed_tokens.weight"].clone()), **config)
    assert names(folder) == [Q]
    assert names(folder, include_embeddings=True) == ["model.embed_tokens", Q]


def test_an_untied_head_is_a_linear_layer(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", model(heavy((32, 16), 9)), tie_word_embeddings=False)
    assert names(folder) == ["lm_head", Q]
    same = checkpoint(tmp_path / "b", model(model()["model.embed_tokens.weight"].clone()), tie_word_embeddings=False)
    assert names(same) == ["lm_head", Q]


def test_quantized_or_empty_checkpoints_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", model(), quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(InputError, match=r"is quantized \(bitsandbytes\)"):
        matrices(folder)
    with pytest.raises(InputError, match="no 2-D weight"):
        matrices(checkpoint(tmp_path / "b", {"a.bias": torch.ones(3)}))


def test_counterparts_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    base = matrices(checkpoint(tmp_path / "base", model()))
    assert counterparts(base, base)[Q] is base[0].tensor
    more = matrices(checkpoint(tmp_path / "more", model(heavy((32, 16), 9))))
    with pytest.raises(InputError, match=r"lm_head is in .*more and not in the base"):
        counterparts(more, base)
    with pytest.raises(InputError, match=r"lm_head is in .*more and not in the trained"):
        counterparts(base, more)
    for label, changed, what in (
        ("wide", heavy((16, 32), 1), "shape"),
        ("half", heavy((16, 16), 1).half(), "type"),
    ):
        other = matrices(checkpoint(tmp_path / label, model() | {f"{Q}.weight": changed}))
        with pytest.raises(InputError, match=f"q_proj has the {what}"):
            counterparts(other, base)
