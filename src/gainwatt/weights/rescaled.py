"""Channel scales that a scheme folded into the layer before, found again so that weights can be compared.

AWQ (Lin et al., https://arxiv.org/abs/2306.00978) multiplies the input channels of a matrix by scales and divides the
layer before by them: the model computes the same, and the stored weights are other ones. Where the layer before is a
norm, which is stored unquantized, the scales are its weights before over after, exactly. Where it is another quantized
matrix, they are fitted on its rows by least squares: one number for as many weights as the matrix is wide, and a row's
own quantization does not depend on its scale. Names that are not known here are fitted column by column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gainwatt.weights.stored import StoredMatrix
from gainwatt.weights.tensors import Tensor, read_rows, row_blocks, rows_per_block

# Which norm feeds which matrices, in the decoder blocks of Llama, Qwen, Mistral and their like. Where a block has two
# norms around each part (Gemma 2 and 3), the first one that is there feeds the MLP.
_MLP = ("mlp.gate_proj", "mlp.up_proj")
_FED_BY = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "pre_feedforward_layernorm": _MLP,
    "post_attention_layernorm": _MLP,
}
# Models whose norms multiply by 1 + weight.
_OFFSET_NORMS = {"gemma", "gemma2", "gemma3", "gemma3_text", "qwen3_next"}
# Which matrix's rows feed which one's columns.
_FED_BY_ROWS = {"self_attn.o_proj": "self_attn.v_proj", "mlp.down_proj": "mlp.up_proj"}
_NOTICED = 0.01  # a norm that differs by less was rounded, not rescaled
_FITTED = 0.05  # fits that all lie closer to 1 are noise of the quantization


@dataclass(frozen=True)
class Rescaling:
    """`columns` [columns] and `rows` [rows]: by how much the stored weights are larger; None where not rescaled."""

    columns: Any = None
    rows: Any = None

    def undo(self, values: Any, first: int) -> Any:
        """Stored values or steps [rows, columns] of the block that begins at row `first`, on the scale before."""
        found = values if self.columns is None else values / self.columns.to(values.device)
        if self.rows is None:
            return found
        return found / self.rows[first : first + len(values)].to(values.device).unsqueeze(1)


@dataclass(frozen=True)
class Norms:
    """Ratio before over after of each norm's weights, by the norm's name; empty where nothing was rescaled."""

    ratios: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def compare(cls, dense: dict[str, Tensor], stored: dict[str, Tensor], model_type: str | None = None) -> Norms:
        """From all tensors of the unquantized and of the quantized checkpoint; `model_type` as in config.json."""
        offset = 1.0 if model_type in _OFFSET_NORMS else 0.0
        found = {}
        for name, tensor in stored.items():
            if name.endswith("norm.weight") and len(tensor.shape) == 1 and name in dense:
                before, after = (offset + read_rows(one).float() for one in (dense[name], tensor))
                if before.shape == after.shape and bool((after != 0).all()):
                    found[name.removesuffix(".weight")] = before / after
        noticed = any(bool(((ratio - 1).abs() > _NOTICED).any()) for ratio in found.values())
        return cls(found if noticed else {})

    def rescaling(
        self, module: str, dense: dict[str, Tensor], stored: dict[str, StoredMatrix], elements: int
    ) -> Rescaling:
        """Of one matrix; reads it once where something must be fitted."""
        if not self.ratios:
            return Rescaling()
        for name, feeder in _FED_BY_ROWS.items():
            before = f"{module.removesuffix(name)}{feeder}"
            if module.endswith(f".{name}") and before in stored and before in dense:
                rows = self.rescaling(before, dense, stored, elements).rows
                # A layer that shares its heads has fewer rows than the next one has columns, and is not rescaled.
                fits = rows is not None and len(rows) == stored[module].shape[1]
                return Rescaling(columns=1 / rows if fits else None)
        columns = self._exact(module)
        if columns is not None and columns.numel() != stored[module].shape[1]:
            columns = None
        fits = _fit(dense[module], stored[module], columns, elements)
        close = bool(((fits - 1).abs() < _FITTED).all())
        if columns is None:
            return Rescaling(columns=None if close else fits)
        return Rescaling(columns=columns, rows=None if close else fits)

    def _exact(self, module: str) -> Any | None:
        for norm, fed in _FED_BY.items():
            for name in fed:
                ratio = self.ratios.get(f"{module.removesuffix(name)}{norm}") if module.endswith(f".{name}") else None
                if ratio is not None:
                    return ratio
        return None


def _fit(dense: Tensor, stored: StoredMatrix, columns: Any | None, elements: int) -> Any:
    """Least-squares factor of each row (where the columns' scales are known), else of each column, in float64."""
    import torch

    axis = 0 if columns is None else 1
    products: list[Any] = []
    squares: list[Any] = []
    first, step = 0, rows_per_block(dense.shape, elements)
    for block in row_blocks(dense, elements=elements):
        expected = block.float() if columns is None else block.float() * columns
        values = stored.block(first, step).values
        products.append((values * expected).sum(axis).double())
        squares.append(expected.square().sum(axis).double())
        first += len(block)
    if axis == 0:
        product, square = torch.stack(products).sum(0), torch.stack(squares).sum(0)
    else:
        product, square = torch.cat(products), torch.cat(squares)
    fits = product / square.clamp(min=1e-300)
    return torch.where((square > 0) & (fits > 0), fits, torch.ones_like(fits)).float()
