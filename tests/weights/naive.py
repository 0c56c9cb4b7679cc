"""The formulas once more, slowly: whole tensors, float64, numpy only. And checkpoints to use them on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from gainwatt.checkpoint import write_manifest

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def lower_median(values: np.ndarray) -> float:
    ordered = np.sort(values.ravel())
    return float(ordered[(ordered.size - 1) // 2])


def codes_w4(w: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales, one row and one group at a time; w is float32 so that ties round as in fp32."""
    codes = np.zeros(w.shape, np.float32)
    scales = np.zeros((w.shape[0], -(-w.shape[1] // group)), np.float32)
    for row in range(w.shape[0]):
        for index, first in enumerate(range(0, w.shape[1], group)):
            part = w[row, first : first + group]
            scale = np.float32(np.abs(part).max() / np.float32(7))
            scales[row, index] = scale
            if scale > 0:
                codes[row, first : first + group] = np.clip(np.rint(part / scale), -7, 7)
    return codes, scales


def statistics(tensor: torch.Tensor, *, group: int, multiplier: float) -> dict[str, float]:
    w32 = tensor.float().numpy()
    w = w32.astype(np.float64)
    magnitudes = np.abs(w)
    channels = magnitudes.max(1)
    median, channel_median = lower_median(magnitudes), lower_median(channels)
    codes, scales = codes_w4(w32, group)
    error = codes.astype(np.float64) * np.repeat(scales, group, 1)[:, : w.shape[1]] - w
    mse = (error**2).mean()
    return {
        "numel": w.size, "max_abs": magnitudes.max(), "mean_abs": magnitudes.mean(), "median_abs": median,
        "std": w.std(), "rms": np.sqrt((w**2).mean()), "kurtosis": ((w - w.mean()) ** 4).mean() / w.var() ** 2,
        "abs_outlier_threshold": multiplier * median, "abs_outlier_frac": (magnitudes > multiplier * median).mean(),
        "out_channels": w.shape[0], "in_channels": w.shape[1], "channel_max_abs_mean": channels.mean(),
        "channel_max_abs_median": channel_median, "channel_max_abs_p95": np.percentile(channels, 95),
        "channel_max_abs_p99": np.percentile(channels, 99), "channel_max_abs_max": channels.max(),
        "channel_outlier_threshold": multiplier * channel_median,
        "channel_outlier_frac": (channels > multiplier * channel_median).mean(), "w4_group_size": group,
        "w4_mse": mse, "w4_relative_mse": mse / (w**2).mean(), "w4_snr_db": 10 * np.log10((w**2).mean() / mse),
        "w4_max_abs_error": np.abs(error).max(),
    }  # fmt: skip


def heavy(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random weights with a heavy tail, a mean and a few large channels, so that no statistic is trivial."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 0.02 + 0.003
    values = values * (1 + 9 * (torch.rand(shape, generator=generator) > 0.98))
    values[0] *= 40
    return values.to(dtype)


def checkpoint(
    folder: Path, tensors: dict[str, torch.Tensor] | list[dict[str, torch.Tensor]], **config: object
) -> Path:
    """A checkpoint folder; a list of dictionaries makes shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **config}))
    for number, shard in enumerate(tensors if isinstance(tensors, list) else [tensors]):
        save_file({name: t.contiguous() for name, t in shard.items()}, folder / f"model-{number}.safetensors")
    return folder


def manifest(folder: Path, variant: str, *, scheme: str = "dense", parent_sha256: str | None = None) -> Path:
    path = folder / "manifest.json"
    write_manifest(path, variant=variant, scheme=scheme, parent_sha256=parent_sha256)
    return path
