"""Weight diagnostics against the obvious way, one thread each: `python benchmarks/weights.py --layers 28 --layers 14`.

Makes Qwen2-shaped bf16 checkpoints of random weights (default: the shape of Qwen2.5-1.5B), sharded, written tensor by
tensor, and measures each of these in a process of its own:

  obvious     transformers builds the model on the CPU; per 2-D weight: float(), mean, std, kurtosis, quantiles, median,
              group-128 error, channel maxima
  blocks      gainwatt's columns of the same content (symmetric proxy)
  obvious+nf4 the obvious way, and NF4's error by bitsandbytes on the whole weight
  blocks+nf4  gainwatt's columns with NF4's error
  change      the same with both quantizers, of a trained checkpoint against its base (twice the bytes)
  control     the same, and the codes that noise as large as the change flips

Prints wall and processor seconds (imports left out; `faster` compares the latter, which other jobs disturb less), peak
resident memory of the whole process and above its start after imports (the mark is reset in between), bytes of measured
weights per wall second, and beside them the speed of this disk's reads and of memory copies. `faster` is by the byte:
`change` reads two checkpoints, which the obvious way would load and measure one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MIB = 2**20
SHARD_BYTES = 1 << 30
HEADER = (
    "shape", "way", "GB read", "s", "processor s", "faster", "peak MiB", "memory", "MiB above imports", "GB/s",
    "relative MSE",
)  # fmt: skip


def shapes(args: argparse.Namespace, layers: int) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a Qwen2 model with tied embeddings."""
    h, kv = args.hidden, args.hidden // args.heads * args.kv_heads
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (args.vocab, h), "model.norm.weight": (h,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        found |= {f"{prefix}.{name}.weight": (h,) for name in ("input_layernorm", "post_attention_layernorm")}
        for name, rows in (("q", h), ("k", kv), ("v", kv)):
            found[f"{prefix}.self_attn.{name}_proj.weight"] = (rows, h)
            found[f"{prefix}.self_attn.{name}_proj.bias"] = (rows,)
        found[f"{prefix}.self_attn.o_proj.weight"] = (h, h)
        found |= {f"{prefix}.mlp.{name}_proj.weight": (args.intermediate, h) for name in ("gate", "up")}
        found[f"{prefix}.mlp.down_proj.weight"] = (h, args.intermediate)
    return found


def write_shard(path: Path, names: dict[str, tuple[int, ...]], seed: int, nudge: float) -> None:
    """One safetensors file of normal random weights, written tensor by tensor; `nudge` adds a small second draw."""
    import torch

    header: dict[str, Any] = {}
    offset = 0
    for name, shape in names.items():
        size = 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for number, shape in enumerate(names.values()):
            generator = torch.Generator().manual_seed(seed + number)
            values = torch.empty(shape).normal_(0, 0.02, generator=generator)
            if nudge:
                values += torch.empty(shape).normal_(0, nudge, generator=generator)
            values.bfloat16().view(torch.int16).numpy().tofile(handle)


def make(folder: Path, args: argparse.Namespace, layers: int, nudge: float = 0.0) -> Path:
    """A checkpoint folder in shards of about 1 GiB."""
    folder.mkdir()
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": args.hidden,
        "intermediate_size": args.intermediate, "num_hidden_layers": layers, "num_attention_heads": args.heads,
        "num_key_value_heads": args.kv_heads, "vocab_size": args.vocab, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "max_position_embeddings": 4096,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes(args, layers).items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        if filled and filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    index = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_shard(folder / file, names, 1000 * number, nudge)
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def obvious(folder: Path, *, nf4: bool) -> tuple[int, float]:
    """Build the model, then measure each weight whole. Returns measured bytes and the weighted relative error."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
    measured, weighted = 0, 0.0
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or "embed" in name or "lm_head" in name:
            continue
        weights = parameter.detach().float()
        magnitudes = weights.abs()
        mean, std = weights.mean(), weights.std(unbiased=False)
        row = {"kurtosis": (((weights - mean) / std) ** 4).mean(), "rms": (weights**2).mean().sqrt()}
        row |= {"mean_abs": magnitudes.mean(), "max_abs": magnitudes.max(), "median_abs": magnitudes.median()}
        row["outliers"] = (magnitudes > 6 * row["median_abs"]).float().mean()
        channels = magnitudes.amax(1)
        row |= {"p95": torch.quantile(channels, 0.95), "p99": torch.quantile(channels, 0.99)}
        row["channel_outliers"] = (channels > 6 * channels.median()).float().mean()
        groups = torch.nn.functional.pad(weights, (0, -weights.shape[1] % 128)).reshape(weights.shape[0], -1, 128)
        scale = (groups.abs().amax(-1, keepdim=True) / 7).clamp(min=1e-12)
        restored = (torch.clamp(torch.round(groups / scale), -7, 7) * scale).reshape(weights.shape[0], -1)
        error = restored[:, : weights.shape[1]] - weights
        row |= {"mse": (error**2).mean(), "max_error": error.abs().max()}
        if nf4:
            row["nf4_mse"] = nf4_error(weights)
        values = {key: float(value) for key, value in row.items()}
        measured += parameter.numel() * parameter.element_size()
        weighted += values["mse"] / values["rms"] ** 2 * parameter.numel()
    return measured, weighted / (measured / 2)


def blocks(folder: Path, base: Path | None, schemes: tuple[str, ...], *, noise: bool) -> tuple[int, float]:
    """gainwatt's way. Returns the bytes of the measured weights and the weighted relative error."""
    from gainwatt.weights.measure import Plan
    from gainwatt.weights.run import diagnose
    from gainwatt.weights.summary import summarize

    plan = Plan(schemes=schemes, random_control=noise)
    found = summarize(diagnose(folder, base, plan, label="benchmark"), plan)
    return 2 * found["weights"] * (2 if base else 1), found["w4_relative_mse_weighted"]


def nf4_error(weights: Any) -> Any:
    """Mean squared error of NF4 with double quantization, as a user of bitsandbytes would compute it."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(weights, blocksize=64, quant_type="nf4", compress_statistics=True)
    return ((functional.dequantize_4bit(packed, state) - weights) ** 2).mean()


def child(args: argparse.Namespace) -> None:
    """Run one way in this process and print its figures as JSON."""
    import torch

    from gainwatt.weights.memory import peak_rss_mib, reset_peak_rss

    torch.set_num_threads(1)
    if args.way.startswith("obvious"):
        import transformers  # noqa: F401 - its import is not what is measured
    if args.way not in ("obvious", "blocks"):
        import bitsandbytes  # noqa: F401
    reset_peak_rss()
    before = peak_rss_mib()
    start, start_cpu = time.perf_counter(), time.process_time()
    if args.way.startswith("obvious"):
        size, error = obvious(args.folder, nf4=args.way == "obvious+nf4")
    else:
        both = ("symmetric-w4", "bnb-nf4")
        schemes = both[:1] if args.way == "blocks" else both
        size, error = blocks(args.folder, args.base, schemes, noise=args.way == "control")
    figures = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}
    peak = peak_rss_mib()
    print(json.dumps(figures | {"bytes": size, "error": error, "peak_mib": peak, "above_mib": peak - before}))


def start(way: str, folder: Path, base: Path | None) -> dict[str, float]:
    """Run one way in a new process with one thread."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    command += ["--base", str(base)] if base else []
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=os.environ | one, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def limits(folder: Path) -> dict[str, float]:
    """Bytes per second of reading the first shard from the disk and from the page cache, and of a memory copy."""
    import numpy as np

    path = sorted(folder.glob("*.safetensors"))[0]
    buffer = memoryview(bytearray(8 * MIB))
    found = {}
    for name in ("disk", "page cache"):
        with path.open("rb", buffering=0) as handle:
            if name == "disk":
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start_s, total = time.perf_counter(), 0
            while got := handle.readinto(buffer):
                total += got
        found[name] = total / (time.perf_counter() - start_s)
    source = np.ones(256 * MIB, np.uint8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(5):
        start_s = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start_s)
    return found | {"memory copy": source.nbytes / min(seconds)}


def compare(args: argparse.Namespace, layers: int, temporary: Path) -> None:
    """Make the checkpoints of one size, run every way, print rows."""
    folder = make(temporary / f"base-{layers}", args, layers)
    trained = (
        make(temporary / f"trained-{layers}", args, layers, nudge=2e-5)
        if {"change", "control"} & set(args.ways)
        else None
    )
    label = f"{args.hidden}x{layers}"
    reference: dict[str, float] | None = None
    for way in args.ways:
        pair = way in ("change", "control")
        found = start(way, trained if trained and pair else folder, folder if pair else None)
        reference = found if way.startswith("obvious") else reference
        ratio = ""
        if reference:  # by the byte: a change reads two checkpoints
            per_byte = reference["cpu_s"] / reference["bytes"], found["cpu_s"] / found["bytes"]
            ratio = f"{per_byte[0] / per_byte[1]:.1f}x"
        memory = f"1/{reference['peak_mib'] / found['peak_mib']:.1f}" if reference else ""
        cells = (
            label, way, f"{found['bytes'] / 1e9:.2f}", f"{found['s']:.2f}", f"{found['cpu_s']:.2f}", ratio,
            f"{found['peak_mib']:.0f}", memory, f"{found['above_mib']:.0f}",
            f"{found['bytes'] / found['s'] / 1e9:.2f}", f"{found['error']:.6f}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
    speeds = ", ".join(f"{name} {speed / 1e9:.2f} GB/s" for name, speed in limits(folder).items())
    args.limits.append(f"{label}: {speeds}")
    for path in (*folder.iterdir(), *(trained.iterdir() if trained else ())):
        path.unlink()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("hidden", 1536), ("intermediate", 8960), ("heads", 12), ("kv-heads", 2), ("vocab", 151936)):
        parser.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"({value})")
    parser.add_argument("--layers", type=int, action="append", metavar="N", help="one size each (28 and 14)")
    parser.add_argument(
        "--ways", default="obvious,blocks,obvious+nf4,blocks+nf4,change,control", help="which to run, in order"
    )
    parser.add_argument("--temporary", type=Path, help="where checkpoints are made (the system's temporary folder)")
    for name in ("--way", "--folder", "--base"):
        parser.add_argument(name, type=Path if name != "--way" else str, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        child(args)
        return
    args.ways = args.ways.split(",")
    args.limits = []
    print(f"| {' | '.join(HEADER)} |")
    print("|---" * len(HEADER) + "|")
    with tempfile.TemporaryDirectory(dir=args.temporary) as temporary:
        for layers in args.layers or (14, 28):
            compare(args, layers, Path(temporary))
    print("\n" + "\n".join(args.limits))


if __name__ == "__main__":
    main()
