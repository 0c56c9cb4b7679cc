"""What quantization or training does to a model's outputs on text: hidden states after each block, and logits.

Weights of an activation-aware scheme are scaled against the layer before them, so their error cannot be read off the
weights; the residual stream between blocks and the logits are on the same scale in every scheme.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gainwatt.weights.channels import channel_columns
from gainwatt.weights.measure import snr_db
from gainwatt.weights.quantizers import Quantizer
from gainwatt.weights.update import column_name

_LOGIT_TOKENS = 64  # tokens whose log-probabilities are held at once: 39 MB each way for 152k words
_SAMPLED_TOKENS = 4  # of each text, evenly spread: holding every input of every layer would exceed the model itself
_LLM_INT8_THRESHOLD = 6.0  # Dettmers et al., LLM.int8(), https://arxiv.org/abs/2208.07339: an outlier feature


@dataclass(frozen=True)
class OutputChange:
    """Another model's outputs against the reference's, over `tokens` tokens.

    `block_errors[i]`: mean over tokens of ‖h' - h‖² / ‖h‖² after block i (the last one after the final norm); per
    token, because the energy of the first token's state can exceed that of all others together. `kl_nats`: mean of
    KL(reference ‖ other) of the next-token distributions. `top1_agreement`: share of equal most likely tokens.
    """

    tokens: int
    block_errors: list[float]
    kl_nats: float
    top1_agreement: float

    def rows(self, against: str) -> list[dict[str, Any]]:
        """One row per block for the parquet file."""
        return [
            {"against": against, "block": block, "relative_error": error, "snr_db": snr_db(error)}
            for block, error in enumerate(self.block_errors)
        ]


def compare_outputs(reference: Any, other: Any, texts: Iterable[list[int]]) -> OutputChange:
    """Run both models on each text (token ids) and compare."""
    import torch

    tokens, agreeing, divergence = 0, 0, 0.0
    errors: Any = 0.0
    with torch.inference_mode():
        for ids in texts:
            one, two = (_outputs(model, ids) for model in (reference, other))
            errors = errors + torch.stack(
                [_token_errors(h, g).sum() for h, g in zip(one.hidden_states[1:], two.hidden_states[1:], strict=True)]
            )
            for first in range(0, len(ids), _LOGIT_TOKENS):
                part = slice(first, first + _LOGIT_TOKENS)
                p, q = (torch.log_softmax(out.logits[0, part].float(), dim=-1) for out in (one, two))
                divergence += float((p.exp() * (p - q)).sum().double())
                agreeing += int((p.argmax(-1) == q.argmax(-1)).sum())
            tokens += len(ids)
    return OutputChange(tokens, (errors / tokens).tolist(), divergence / tokens, agreeing / tokens)


def _outputs(model: Any, ids: list[int]) -> Any:
    import torch

    return model(torch.tensor([ids], device=model.device), output_hidden_states=True, use_cache=False)


def _token_errors(reference: Any, other: Any) -> Any:
    h, g = reference[0].double(), other[0].double()
    return (g - h).square().sum(-1) / h.square().sum(-1).clamp(min=1e-300)


def activation_rows(
    model: Any, texts: Iterable[list[int]], *, multiplier: float, quantizers: Sequence[Quantizer] = ()
) -> list[dict[str, Any]]:
    """Inputs and quantized outputs of each linear layer inside the blocks, one row each.

    `act_channel_outlier_frac` counts input channels whose maximum over tokens exceeds `multiplier` times the median
    one; `act_channels_ge_6_frac` those that reach 6.0, the threshold of LLM.int8(). `output_relative_error_*` is the
    mean over a sample of tokens of ‖(Ŵ - W) x‖² / ‖W x‖², with the unquantized model's x.
    """
    import torch

    tokens = 0
    with torch.inference_mode(), _watched(model) as layers:
        for ids in texts:
            model.base_model(torch.tensor([ids], device=model.device), use_cache=False)
            tokens += len(ids)
        return [_activation_row(name, seen, tokens, multiplier, quantizers) for name, seen in layers.items()]


@dataclass
class _Seen:
    """What went into a linear layer: maximum |x| of each input channel, and a sample of inputs."""

    module: Any
    maxima: Any = None
    sample: list[Any] = field(default_factory=list)

    def look(self, _module: Any, inputs: tuple[Any, ...]) -> None:
        """Forward pre-hook."""
        import torch

        rows = inputs[0].detach().flatten(0, -2)
        largest = rows.abs().amax(0)
        self.maxima = largest if self.maxima is None else torch.maximum(self.maxima, largest)
        self.sample.append(rows[:: -(-len(rows) // _SAMPLED_TOKENS)].clone())


@contextlib.contextmanager
def _watched(model: Any) -> Iterator[dict[str, _Seen]]:
    """While it lasts, every linear layer inside the blocks is watched."""
    import torch

    layers = {
        name: _Seen(module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    }
    handles = [seen.module.register_forward_pre_hook(seen.look) for seen in layers.values()]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def _activation_row(
    name: str, seen: _Seen, tokens: int, multiplier: float, quantizers: Sequence[Quantizer]
) -> dict[str, Any]:
    import torch

    channels = seen.maxima.float().cpu().numpy()
    found = channel_columns(channels, multiplier)
    row = {
        "module_name": name,
        "in_channels": len(channels),
        "tokens": tokens,
        "act_max_abs": found["channel_max_abs_max"],
        "act_channel_max_abs_median": found["channel_max_abs_median"],
        "act_channel_max_abs_p99": found["channel_max_abs_p99"],
        "act_channel_outlier_frac": found["channel_outlier_frac"],
        "act_channels_ge_6_frac": float((channels >= _LLM_INT8_THRESHOLD).mean()),
        "sampled_tokens": sum(len(part) for part in seen.sample),
    }
    inputs, weights = torch.cat(seen.sample).float(), seen.module.weight.float()
    exact = (inputs @ weights.T).square().sum(1)
    for quantizer in quantizers:
        change = (inputs @ (quantizer.restore(weights) - weights).T).square().sum(1)
        error = float((change / exact.clamp(min=1e-38)).double().mean())
        row[f"output_relative_error_{column_name(quantizer.name)}"] = error
        row[f"output_snr_db_{column_name(quantizer.name)}"] = snr_db(error)
    return row
