"""AutoAWQ's search with its losses kept. Importing this module imports AutoAWQ."""

from __future__ import annotations

from typing import Any

import torch
from awq.quantize.quantizer import AwqQuantizer
from awq.utils.module import get_op_name


class KeepingQuantizer(AwqQuantizer):
    """AwqQuantizer that remembers the loss of plain rounding and of the best scales, which the original drops."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.errors: dict[str, dict[str, float]] = {}
        self._losses: list[float] = []
        super().__init__(*args, **options)

    def _search_best_scale(self, module: Any, prev_op: Any, layers: Any, *args: Any, **options: Any) -> Any:
        self._losses = []
        found = super()._search_best_scale(module, prev_op, layers, *args, **options)
        initial, *searched = self._losses
        block = get_op_name(self.model, module)
        self.errors[f"{block}.{get_op_name(module, prev_op)}"] = {"initial": initial, "best": min(searched)}
        return found

    def _compute_best_scale(
        self, x: Any, w_mean: Any, x_mean: Any, module2inspect: Any, linears2scale: Any, fp16_output: Any, kwargs: Any
    ) -> Any:
        self._plain_rounding(x, module2inspect, linears2scale, fp16_output, kwargs)
        return super()._compute_best_scale(x, w_mean, x_mean, module2inspect, linears2scale, fp16_output, kwargs)

    @torch.no_grad()
    def _plain_rounding(self, x: Any, module: Any, linears: Any, output: Any, kwargs: Any) -> None:
        """The loss without any scales; the search itself never tries that."""
        before = [linear.weight.data.clone() for linear in linears]
        for linear in linears:
            linear.weight.data = self.pseudo_quantize_tensor(linear.weight.data)[0]
        rounded = self._module_forward(x, module, kwargs)
        for linear, weight in zip(linears, before, strict=True):
            linear.weight.data = weight
        self._compute_loss(output, rounded, x.device)

    def _compute_loss(self, *args: Any) -> float:
        loss = float(super()._compute_loss(*args))
        self._losses.append(loss)
        return loss
