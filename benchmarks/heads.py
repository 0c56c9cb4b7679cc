"""Reading heads against attention maps: `python benchmarks/heads.py --tokens 256 1024 4096`.

Makes a Qwen2-shaped model of random weights in memory (default: the shape of Qwen2.5-0.5B) and reads one number per
token and head of the same prompts in one process, the arms forwards and backwards in turn, so that a drift adds the
same to each:

  ours        gainwatt.heads.read: hooks before the output projections, fast attention kernels, no logits
  floor       the decoder's forward pass by the same kernels and nothing else: nobody reads heads faster
  maps        the decoder alone with output_attentions=True (eager attention), each map reduced on the device
  maps+logits model(..., output_attentions=True), each map reduced on the device
  one by one  the same, a prompt at a time: what one writes, and what memory leaves of a batch where prompts are long

The reduction is the cheapest that there is (the largest weight of each row). Prints seconds (median over repeats), how
many times ours is faster, and peak memory above the loaded model, beside the size of the maps: layers x heads x tokens²
x bytes, for each prompt. Out of memory is a row. On a GPU memory is torch's peak, on a CPU the process's (VmHWM).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapes import qwen2_config

from gainwatt.heads.modules import find_heads
from gainwatt.heads.read import HeadReader
from gainwatt.oom import is_out_of_memory
from gainwatt.weights.memory import peak_rss_mib, reset_peak_rss

ARMS = ("ours", "floor", "maps", "maps+logits", "one by one")
HEADER = ("tokens", "prompts", "arm", "s", "s min", "s max", "times slower", "peak MiB", "times memory", "maps MiB")
MIB = 2**20


def make(args: argparse.Namespace, device: str, dtype: Any) -> Any:
    """A model of random weights on `device`."""
    import torch
    from transformers import Qwen2ForCausalLM

    config = qwen2_config(vars(args), max_tokens=max(args.tokens))
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).to(dtype)
    return model.eval()


def use(model: Any, attention: str) -> None:
    """Switch the attention implementation of a loaded model."""
    model.config._attn_implementation = attention
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = attention


def runners(model: Any, sequences: dict[int, list[int]], batch: int) -> dict[str, Callable[[], Any]]:
    """Each arm as a call that reads all prompts and returns its numbers in main memory."""
    import torch

    ids = torch.tensor(list(sequences.values()), device=model.device)

    def ours() -> Any:
        use(model, "sdpa")
        reader = HeadReader(model, find_heads(model), statistic="mean", batch_size=batch)
        found = [values for values, _ in reader.read(sequences)]
        if reader.events:
            raise MemoryError(reader.events[0])
        return found

    def floor() -> None:
        use(model, "sdpa")
        with torch.inference_mode():
            for start in range(0, len(ids), batch):
                model.base_model(input_ids=ids[start : start + batch], use_cache=False)

    def maps(called: Any, at_once: int) -> Any:
        use(model, "eager")
        found = []
        for start in range(0, len(ids), at_once):
            with torch.inference_mode():
                out = called(input_ids=ids[start : start + at_once], use_cache=False, output_attentions=True)
                found.append(torch.stack([attention.amax(dim=-1) for attention in out.attentions]).cpu())
            del out
        return found

    return {
        "ours": ours,
        "floor": floor,
        "maps": lambda: maps(model.base_model, batch),
        "maps+logits": lambda: maps(model, batch),
        "one by one": lambda: maps(model, 1),
    }


def measure(call: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds, and peak MiB above what was there before."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MIB
    else:
        reset_peak_rss()
        before = peak_rss_mib()
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else peak_rss_mib()
    return seconds, peak - before


def compare(model: Any, tokens: int, args: argparse.Namespace, device: str) -> list[dict[str, Any]]:
    """Rows of one length, ours first."""
    import torch

    draw = torch.Generator().manual_seed(tokens)
    sequences = {i: torch.randint(0, args.vocab, (tokens,), generator=draw).tolist() for i in range(args.prompts)}
    calls = runners(model, sequences, args.batch)
    times: dict[str, list[float]] = {arm: [] for arm in ARMS}
    peaks: dict[str, float] = dict.fromkeys(ARMS, 0.0)
    out_of_memory: set[str] = set()
    for turn in range(args.repeats + 1):  # the first turn warms up
        for arm in ARMS if turn % 2 else ARMS[::-1]:
            if arm in out_of_memory:
                continue
            try:
                seconds, peak = measure(calls[arm], device)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                out_of_memory.add(arm)
                continue
            if turn:
                times[arm].append(seconds)
                peaks[arm] = max(peaks[arm], peak)
    own = statistics.median(times["ours"])
    maps = args.layers * args.heads * tokens**2 * model.dtype.itemsize / MIB
    rows = []
    for arm in ARMS:
        row: dict[str, Any] = {"tokens": tokens, "prompts": args.prompts, "arm": arm, "maps MiB": maps}
        if arm in out_of_memory:
            row["s"] = "out of memory"
        else:
            middle = statistics.median(times[arm])
            row |= {"s": middle, "s min": min(times[arm]), "s max": max(times[arm]), "times slower": middle / own}
            row |= {"peak MiB": peaks[arm], "times memory": peaks[arm] / peaks["ours"] if peaks["ours"] else None}
        rows.append(row)
    return rows


def shown(value: Any) -> str:
    """A cell of the table."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("layers", 24), ("hidden", 896), ("intermediate", 4864), ("heads", 14), ("kv-heads", 2), ("vocab", 151936),
        ("prompts", 32), ("batch", 32), ("repeats", 4),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096], metavar="N")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: bfloat16 on a GPU")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the rows as JSON")
    args = parser.parse_args()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, args.dtype or ("bfloat16" if device == "cuda" else "float32"))
    model = make(args, device, dtype)
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(
        f"{where}, torch {torch.__version__}, {dtype}, {args.layers} layers x {args.heads} heads, batch {args.batch}\n"
    )
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    rows = []
    for tokens in args.tokens:
        found = compare(model, tokens, args, device)
        for row in found:
            print("| " + " | ".join(shown(row.get(name)) for name in HEADER) + " |", flush=True)
        rows += found
    if args.out:
        args.out.write_text(json.dumps({"where": where, "dtype": str(dtype), "rows": rows}, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
