"""Does a training learn the same on one process and on several, sharded or not?

    python benchmarks/same_curve.py --study FILE --variant grpo-s0            trains with scripts/train_grpo.py
    python benchmarks/same_curve.py --compare ONE.steps.parquet OTHER.steps.parquet

Sampling would hide the answer: every number of processes draws other completions. Here completion and reward are
functions of the prompt, the place in its group and the step alone; all the rest (loss, gradients, optimizer, sharding,
checkpoints, the final weights) is the training script's own. The loss of on-policy GRPO is the same for any weights;
gradient norm and entropy are not, and are what the comparison is about.

SAME_CURVE_ROLLOUTS=real leaves completions and rewards as they are. ACCELERATE_USE_CPU=true trains on the CPU;
accelerate itself knows no FSDP there, and is told here.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
COMPARED = ("loss", "grad_norm", "entropy", "reward", "tokens_seen")


def completion(prompt: list[int], place: int, step: int, vocabulary: int, longest: int, end: int) -> list[int]:
    """Tokens that depend on nothing else; they end with the end token unless they are `longest` tokens long."""
    draw = random.Random(f"{prompt} {place} {step}")
    tokens = [draw.randrange(vocabulary) for _ in range(draw.randint(2, longest))]
    tokens = [token for token in tokens if token != end] or [0]
    return tokens if len(tokens) == longest else [*tokens, end]


def canned(self: Any, prompt_ids: list[list[int]], *_: Any, **__: Any) -> tuple[list[list[int]], None]:
    """Stands for the trainer's generation: this process's part of the group's completions."""
    first, group = self.accelerator.process_index * len(prompt_ids), self.num_generations
    tokenizer = self.processing_class
    return [
        completion(ids, (first + place) % group, self.state.global_step, len(tokenizer) - 1,
                   self.max_completion_length, tokenizer.eos_token_id)
        for place, ids in enumerate(prompt_ids)
    ], None  # fmt: skip


def reward(text: str, gold: str) -> float:
    """0 or 1, about equally often."""
    return float(zlib.crc32(f"{text} {gold}".encode()) & 1)


def allow_fsdp_on_cpu() -> None:
    """Let accelerate take several CPU processes for what it otherwise takes several GPUs for."""
    from accelerate import state

    original = state.AcceleratorState.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self.distributed_type = state.DistributedType.FSDP
        if options.get("fsdp_plugin") is not None:
            self.fsdp_plugin = options["fsdp_plugin"]

    state.AcceleratorState.__init__ = init  # type: ignore[method-assign]


def script() -> ModuleType:
    """scripts/train_grpo.py with canned completions and rewards."""
    spec = importlib.util.spec_from_file_location("train_grpo", ROOT / "scripts" / "train_grpo.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("there is no scripts/train_grpo.py beside this file's folder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if os.environ.get("SAME_CURVE_ROLLOUTS") == "real":
        return module
    module.score_reward = reward  # type: ignore[attr-defined]
    from trl import GRPOTrainer

    GRPOTrainer._generate_single_turn = canned
    return module


def compare(one: Path, other: Path) -> dict[str, float]:
    """Largest relative deviation of each column over the steps. Raises ValueError where the steps differ."""
    from pyarrow import parquet

    left, right = (parquet.read_table(path).to_pydict() for path in (one, other))
    if left["step"] != right["step"] or list(map(sorted, left["prompt_indices"])) != list(
        map(sorted, right["prompt_indices"])
    ):
        raise ValueError("the two runs have not seen the same prompts in the same steps")
    found = {}
    for name in COMPARED:
        pairs = [(a, b) for a, b in zip(left[name], right[name], strict=True) if a is not None and b is not None]
        largest = max((abs(a) for a, _ in pairs), default=0.0) or 1.0
        found[name] = max((abs(a - b) / largest for a, b in pairs), default=0.0)
    return found


def main(argv: list[str]) -> int:
    """Command line; options of a training are those of scripts/train_grpo.py."""
    if argv[:1] == ["--compare"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--compare", nargs=2, type=Path)
        for name, value in compare(*parser.parse_args(argv).compare).items():
            print(f"{name:12s} {value:.2e}")
        return 0
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and os.environ.get("ACCELERATE_USE_CPU") == "true":
        allow_fsdp_on_cpu()
    from gainwatt import cli

    module = script()
    cli.run(lambda _: int(module.main(None)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
