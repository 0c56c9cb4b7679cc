"""AWQ through this project against a plain llm-compressor run of the same settings, one after the other on one machine.

    python benchmarks/awq.py --checkpoint results/…/base/dense/manifest.json --data results/…/data/train.jsonl

Both load the checkpoint, quantize it on the same calibration ids and save it, each in a process of its own, in turn.
The plain run is what llm-compressor's own AWQ example does. Printed: seconds of each, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def plain(checkpoint: Path, folder: Path, token_ids: list[list[int]], grid_points: int) -> None:
    """llm-compressor by itself."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from transformers import AutoModelForCausalLM

    if not torch.accelerator.is_available():
        from llmcompressor.pipelines.cache import IntermediatesCache

        IntermediatesCache.pin_memory = lambda *_args, **_kwargs: None
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto")
    oneshot(
        model=model,
        dataset=Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in token_ids]),
        recipe=[
            AWQModifier(n_grid=grid_points),
            QuantizationModifier(targets=["Linear"], scheme="W4A16_ASYM", ignore=["lm_head"]),
        ],
        max_seq_length=max(map(len, token_ids)),
        num_calibration_samples=len(token_ids),
        shuffle_calibration_samples=False,
    )
    model.save_pretrained(folder, save_compressed=True)


def ours(manifest: Path, folder: Path, token_ids: list[list[int]], grid_points: int) -> None:
    """The same through `gainwatt.quantization`."""
    from gainwatt.checkpoint import read_manifest
    from gainwatt.quantization import llmcompressor
    from gainwatt.quantization.calibration import Calibration
    from gainwatt.schemes import get_scheme

    checkpoint = read_manifest(manifest)
    config = json.loads((checkpoint.folder / "config.json").read_text())
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    dtype = names[config.get("dtype") or config["torch_dtype"]]
    made = llmcompressor.quantize(
        checkpoint, get_scheme("awq-w4g128"), folder, dtype=dtype, trust_remote_code=False,
        calibration=Calibration(token_ids, ""), grid_points=grid_points,
    )  # fmt: skip
    if not made.search_errors:
        raise SystemExit("the search told no errors")


def run_one(args: argparse.Namespace) -> None:
    """One side, in this process; the seconds go to stdout as the last line."""
    import torch

    token_ids = json.loads(args.ids.read_text())
    if torch.cuda.is_available():
        torch.cuda.init()
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        if args.side == "plain":
            plain(args.checkpoint.parent, Path(name), token_ids, args.grid_points)
        else:
            ours(args.checkpoint, Path(name), token_ids, args.grid_points)
        print(time.perf_counter() - started)


def calibration_ids(args: argparse.Namespace) -> list[list[int]]:
    """Chat prompt and solution of the first training items, cut at the limit."""
    from gainwatt.gsm8k.data import read_items
    from gainwatt.gsm8k.prompt import solved_chat
    from gainwatt.modeling import load_tokenizer

    tokenizer = load_tokenizer(args.checkpoint.parent)
    texts = [
        solved_chat(tokenizer, item.question, item.solution, args.template)
        for item in read_items(args.data)[: args.items]
    ]
    return [tokenizer(text, add_special_tokens=False)["input_ids"][: args.max_tokens] for text in texts]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="manifest of an unquantized checkpoint")
    parser.add_argument("--data", type=Path, help="train.jsonl")
    parser.add_argument("--template", default="{question}", help="user turn")
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--grid-points", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--ids", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_one(args)
        return
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        ids = Path(name) / "ids.json"
        ids.write_text(json.dumps(calibration_ids(args)))
        for _ in range(args.repeats):
            for side, found in seconds.items():
                command = [sys.executable, __file__, "--side", side, "--ids", str(ids)]
                command += ["--checkpoint", str(args.checkpoint), "--grid-points", str(args.grid_points)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found.append(float(done.stdout.split()[-1]))
        tokens = sum(map(len, json.loads(ids.read_text())))
    ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["plain"])
    rounded = {side: [round(value, 2) for value in found] for side, found in seconds.items()}
    print(json.dumps({"calibration_tokens": tokens, "seconds": rounded, "ratio": round(ratio, 3)}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    main()
