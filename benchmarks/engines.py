"""Does the evaluation reach the throughput of vLLM itself? Our path against plain `LLM.generate`, interleaved A B B A.

    python benchmarks/engines.py --out benchmark            # GPU: random weights of the Qwen2.5-1.5B shape, 1,319 x 200
    python benchmarks/engines.py --shape tiny --items 64 --tokens 40 --out benchmark        # any vLLM, to try it

A  the evaluation's own generation: `generate` of scripts/evaluate_gsm8k.py with the energy meter running, latencies
   kept, answers decoded and written to the disk every second.
B  `LLM.generate(prompts, params)` of a second vLLM engine with vLLM's defaults, on the same prompts.

With `--one-engine` B is `LLM.generate` of A's own engine, whose statistics of requests are switched off on this side
meanwhile, as they are in a plain engine.

Neither reuses prefixes, both generate exactly `--tokens` tokens per prompt. A side thread counts the tokens of both in
the same way, 20 times a second. The work is cut into ten slices of equal tokens; a slice of A counts as fast where it
takes no longer than B's same slice / 0.95, each the median over its runs. Reported is the share of A's measured window
(the phase `generate`) spent in fast slices: slices, because throughput falls when the last requests no longer fill the
batch, for A and B alike; medians, because a slice of one run differs by a tenth and more from the same slice of the
next, with plain vLLM too (reported beside it). The medians were chosen after single runs had shown that. The share
hangs on the runs that it sees all the same, so that its interval over them is reported: the ratio is steadier.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import math
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines_judge import SLICES, judge, write
from shapes import SHAPES, qwen2_config

from gainwatt.engines.base import Request
from gainwatt.engines.processes import end_with_parent
from gainwatt.engines.vllm import VllmEngine
from gainwatt.evaluation.partial import PartialResults
from gainwatt.job import Job
from gainwatt.modeling import load_tokenizer
from gainwatt.study import Study, load_study
from gainwatt.study.evaluation import Vllm

ROOT = Path(__file__).parents[1]


@dataclass
class Progress:
    """Tokens generated so far over time, read from the engine's own table of requests by a side thread."""

    llm: Any
    requests: int
    tokens: int
    times_s: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __enter__(self) -> Progress:
        self._first = self.llm.request_counter.counter
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.start_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_s = time.monotonic()
        self._end.set()
        self._thread.join()

    def slices_s(self) -> list[float]:
        """Seconds of each slice of equal tokens, by linear interpolation between the readings."""
        total = self.requests * self.tokens
        inside = [pair for pair in zip(self.times_s, self.counts, strict=True) if self.start_s < pair[0] < self.end_s]
        times = [self.start_s, *(at for at, _ in inside), self.end_s]
        counts = [0, *(count for _, count in inside), total]
        edges = [self.start_s]
        for number in range(1, SLICES):
            wanted = total * number / SLICES
            after = next(i for i, count in enumerate(counts) if count >= wanted)
            left, right = counts[after - 1], counts[after]
            share = (wanted - left) / (right - left) if right > left else 1.0
            edges.append(times[after - 1] + share * (times[after] - times[after - 1]))
        edges.append(self.end_s)
        return [b - a for a, b in itertools.pairwise(edges)]

    def _watch(self) -> None:
        states = self.llm.llm_engine.output_processor.request_states
        highest = 0
        while not self._end.wait(0.05):
            try:
                live = list(states.values())
            except RuntimeError:  # the table changed while it was read
                continue
            added = self.llm.request_counter.counter - self._first
            partly = sum(state.detokenizer.num_output_tokens() for state in live)
            highest = max(highest, max(0, added - len(live)) * self.tokens + partly)
            self.times_s.append(time.monotonic())
            self.counts.append(min(highest, self.requests * self.tokens))


def make_checkpoint(folder: Path, shape: dict[str, int], max_tokens: int) -> None:
    """Random weights, and a tokenizer with one word for each token so that decoding is real work."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

    words = {"<unk>": 0, "<|im_end|>": 1} | {f" w{i}": i for i in range(2, shape["vocab"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106 - not a password
    made.decoder = decoders.Fuse()
    special = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, chat_template="{{ messages[0]['content'] }}", **special)
    tokenizer.save_pretrained(folder)
    config = qwen2_config(shape, max_tokens=max_tokens, dtype=torch.bfloat16)
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Qwen2ForCausalLM(config).state_dict().items()}
    # One block of random numbers over and over: what is multiplied does not change how long it takes.
    torch.manual_seed(0)
    block = (torch.randn(2**22) * 0.02).to(torch.bfloat16)
    tensors = {}
    for name, size in shapes.items():
        count = math.prod(size)
        if name != "lm_head.weight":  # tied to the embeddings
            tensors[name] = block.repeat(-(-count // len(block)))[:count].reshape(size).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def script() -> Any:
    """scripts/evaluate_gsm8k.py as a module: its `generate` is what is measured."""
    path = ROOT / "scripts" / "evaluate_gsm8k.py"
    spec = importlib.util.spec_from_file_location("evaluate_gsm8k", path)
    assert spec is not None  # noqa: S101 - for the type checker
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class TimedJob(Job):
    """A job that keeps the clock times of its last phase: edges on the energy counter's ticks wait outside of it."""

    begin_s = end_s = 0.0

    @contextlib.contextmanager
    def phase(self, name: str, **options: Any) -> Iterator[None]:
        """As in Job."""
        with super().phase(name, **options):
            self.begin_s = time.monotonic()
            yield
            self.end_s = time.monotonic()


def run_ours(engine: VllmEngine, requests: list[Request], study: Study, folder: Path, tokens: int) -> dict[str, Any]:
    """One window of our path."""
    partial = PartialResults(folder / f"{time.monotonic_ns()}.jsonl", "benchmark")
    cell = {"variant": "base", "scheme": "bf16", "engine": "vllm"}
    generate = script().generate
    with (
        TimedJob(stage="evaluate_gsm8k", cell=cell, study=study, record=folder / "record.json") as job,
        Progress(engine.llm, len(requests), tokens) as progress,
    ):
        generate(job, engine, requests, partial)
    progress.start_s, progress.end_s = job.begin_s, job.end_s
    made = sum(found.tokens for found in partial.done.values())
    return _run("ours", progress, made, job.end_s - job.begin_s)


def run_raw(llm: Any, requests: list[Request], tokens: int) -> dict[str, Any]:
    """One call of plain vLLM."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": list(request.token_ids)} for request in requests]
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    with _plain_statistics(llm), Progress(llm, len(requests), tokens) as progress:
        outputs = llm.generate(prompts, params)
    made = sum(len(output.outputs[0].token_ids) for output in outputs)
    return _run("raw", progress, made, progress.end_s - progress.start_s)


@contextlib.contextmanager
def _plain_statistics(llm: Any) -> Iterator[None]:
    """No statistics of requests, vLLM's default for `LLM`."""
    engine = llm.llm_engine
    before = engine.log_stats, engine.output_processor.log_stats, engine.logger_manager
    engine.log_stats, engine.output_processor.log_stats, engine.logger_manager = False, False, None
    try:
        yield
    finally:
        engine.log_stats, engine.output_processor.log_stats, engine.logger_manager = before


def _run(arm: str, progress: Progress, tokens: int, window_s: float) -> dict[str, Any]:
    found = {"arm": arm, "tokens": tokens, "window_s": window_s, "tok_s": tokens / window_s}
    found["slices_s"] = progress.slices_s()
    print(json.dumps(found), flush=True)
    return found


def _device() -> str:
    import torch

    # Asked by NVML through torch, without a CUDA context in this process.
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def _study(folder: Path) -> Study:
    content = {
        "study": "benchmark", "data": {"source": "embedded"}, "model": {"source": "embedded"},
        "evaluate": {"engine": "vllm"}, "energy": {"idle_s": 0}, "paths": {"results": str(folder)},
    }  # fmt: skip
    (folder / "study.yaml").write_text(json.dumps(content), "utf-8")
    return load_study(folder / "study.yaml")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-1.5b")
    parser.add_argument("--items", type=int, default=1319)
    parser.add_argument("--prompt-tokens", type=int, default=150)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=2, help="blocks of A B B A")
    parser.add_argument(
        "--one-engine", action="store_true", help="both arms by one engine: a shorter start (see the docstring)"
    )
    parser.add_argument("--memory", type=float, default=0.4, help="share of the GPU for each of the two engines")
    parser.add_argument("--out", type=Path, required=True, help="write OUT.json and OUT.md")
    args = parser.parse_args()
    limit = args.prompt_tokens + args.tokens + 8
    shape = SHAPES[args.shape]
    draw = random.Random(0)
    ids = [tuple(draw.randrange(2, shape["vocab"]) for _ in range(args.prompt_tokens)) for _ in range(args.items)]
    requests = [Request(i, found) for i, found in enumerate(ids)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder / "model", shape, 4096)
        runs = measure(folder, requests, args, limit)
    return 0 if judge(runs)["passed"] else 1


def measure(folder: Path, requests: list[Request], args: argparse.Namespace, limit: int) -> list[dict[str, Any]]:
    """Both engines side by side in one process; each warmed up by a whole run that does not count."""
    options = Vllm(gpu_memory_utilization=args.memory)
    engine = VllmEngine(
        folder / "model", load_tokenizer(folder / "model"), dtype="bf16", max_new_tokens=args.tokens,
        max_model_tokens=limit, repetition_penalty=1.0, options=options,
    )  # fmt: skip
    raw: Any = None
    try:
        engine.ignore_stops()
        raw = engine.llm if args.one_engine else _plain(folder / "model", args, limit)
        study = _study(folder)
        arms = {
            "A": lambda: run_ours(engine, requests, study, folder, args.tokens),
            "B": lambda: run_raw(raw, requests, args.tokens),
        }
        for arm in arms.values():
            arm()
        runs = [arms[letter]() for letter in "ABBA" * args.blocks]
        write(args.out, runs, {**vars(args), "out": str(args.out), "device": _device(), "vllm": engine.settings})
    finally:
        if raw is not None and raw is not engine.llm:
            raw.llm_engine.engine_core.shutdown()
        engine.close()
    return runs


def _plain(folder: Path, args: argparse.Namespace, limit: int) -> Any:
    from vllm import LLM

    return LLM(
        str(folder), dtype="bfloat16", max_model_len=limit, gpu_memory_utilization=args.memory,
        enable_prefix_caching=False,
    )  # fmt: skip


if __name__ == "__mp_main__":
    end_with_parent()
if __name__ == "__main__":
    raise SystemExit(main())
