"""The three clients of benchmarks/serving_peers.py: each a process of its own that sends the same prompts.

What they call the same is not the same; here a row of each means: `output_tok_s` generated tokens over the whole load,
`ttft_*` from SENDING a request to its first chunk (the only TTFT that all three know), `tpot_*` (last chunk − first)
/ (tokens − 1) for each request. guidellm calls the latter inter-token latency; its time per output token counts the
first token in.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOST_MAX = 0.01
"""Share of its requests that a client may lose: guidellm 0.8.1 once reported 255 of 256."""

VLLM_BENCH = """
from vllm.benchmarks import serve
try:
    from vllm.utils.argparse_utils import FlexibleArgumentParser as Parser
except ImportError:
    from argparse import ArgumentParser as Parser
parser = Parser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
"""What the command `vllm bench serve` runs; builds of vLLM for CPUs lack the command."""


@dataclass(frozen=True)
class Load:
    """One closed loop: the first `requests` of the prompts, `concurrency` at a time, `tokens` each."""

    root: str  # address of the server without /v1
    model: str
    tokenizer: Path
    prompts: Path  # JSON lines with prompt, output_tokens, output_tokens_count
    requests: int
    concurrency: int
    tokens: int
    temperature: int = 0

    def some(self, folder: Path) -> Path:
        """A file with these prompts only: guidellm reads its whole file again and again."""
        path = folder / f"prompts{self.requests}.jsonl"
        lines = self.prompts.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[: self.requests]), "utf-8")
        return path


@dataclass(frozen=True)
class Arm:
    """A client: `command` starts it (its result goes into the given folder), `read` makes a row of the result."""

    name: str
    command: Callable[[Load, Path], list[str]]
    read: Callable[[Path], dict[str, Any]]
    python_path: str | None = None

    def run(self, load: Load, folder: Path) -> dict[str, Any]:
        """Send the load; the row, with the CPU seconds of the process and its children and the wall time."""
        folder.mkdir(parents=True)
        environment = dict(os.environ, HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="WARNING")
        if self.python_path is not None:
            environment["PYTHONPATH"] = self.python_path
        started, log = time.monotonic(), folder / "log.txt"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                self.command(load, folder), stdout=sink, stderr=subprocess.STDOUT, env=environment, cwd=folder
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{self.name} ended with {process.returncode}:\n{log.read_text('utf-8')[-3000:]}")
        row = self.read(folder)
        lost = load.requests - row["completed"]
        if not 0 <= lost <= LOST_MAX * load.requests or row["output_tokens"] != row["completed"] * load.tokens:
            raise SystemExit(f"{self.name} did other work than the others: {row}")
        return {"arm": self.name, "cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.monotonic() - started, **row}


def ours(script: Path) -> Arm:
    """The project's own client, started like the others from a command line."""

    def command(load: Load, folder: Path) -> list[str]:
        content = {
            "root": load.root, "model": load.model, "prompts": str(load.some(folder)), "tokens": load.tokens,
            "concurrency": load.concurrency, "out": str(folder / "ours.json"),
        }  # fmt: skip
        return [sys.executable, str(script), "--run-ours", json.dumps(content)]

    source = str(script.parents[1] / "src")
    return Arm("gainwatt", command, lambda folder: json.loads((folder / "ours.json").read_text("utf-8")), source)


def run_ours(text: str) -> None:
    """The work of the process behind `ours`."""
    from gainwatt.serving.client import run_load
    from gainwatt.serving.percentiles import summarise
    from gainwatt.serving.requests import Limits, Request, Target

    asked = json.loads(text)
    rows = [json.loads(line) for line in Path(asked["prompts"]).read_text("utf-8").splitlines()]
    requests = [Request(i, row["prompt"], asked["tokens"], ignore_eos=True) for i, row in enumerate(rows)]
    result = run_load(
        Target(asked["root"] + "/v1", asked["model"]), requests, concurrency=asked["concurrency"], timeout_s=600,
        stop_when=Limits(),
    )  # fmt: skip
    found = summarise(result)
    row = {name: found[name] for name in ("completed", "output_tokens", "duration_s", "output_tok_s", "tokens_from")}
    for name, source in (("ttft", "sent_ttft"), ("tpot", "tpot"), ("scheduled_ttft", "ttft"), ("slip", "slip")):
        row |= {f"{name}_{level}_ms": found[f"{source}_{level}_ms"] for level in ("mean", "p50", "p99")}
    Path(asked["out"]).write_text(json.dumps(row), "utf-8")


def vllm_bench(python: str, python_path: str | None) -> Arm:
    """vLLM's `vllm bench serve` with its own OpenAI client."""

    def command(load: Load, folder: Path) -> list[str]:
        return [
            python, "-c", VLLM_BENCH, "--backend", "openai", "--base-url", load.root, "--endpoint", "/v1/completions",
            "--model", load.model, "--tokenizer", str(load.tokenizer), "--dataset-name", "custom",
            "--dataset-path", str(load.some(folder)), "--disable-shuffle", "--skip-chat-template",
            "--custom-output-len", "-1", "--num-prompts", str(load.requests), "--max-concurrency",
            str(load.concurrency), "--ignore-eos", "--temperature", str(load.temperature), "--percentile-metrics",
            "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99", "--ready-check-timeout-sec", "0", "--disable-tqdm",
            "--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json",
        ]  # fmt: skip

    def read(folder: Path) -> dict[str, Any]:
        found = json.loads((folder / "vllm.json").read_text("utf-8"))
        row = {
            "completed": found["completed"], "output_tokens": found["total_output_tokens"],
            "duration_s": found["duration"], "output_tok_s": found["output_throughput"],
        }  # fmt: skip
        for name in ("ttft", "tpot"):
            row |= {f"{name}_{level}_ms": found[f"{level}_{name}_ms"] for level in ("mean", "p50", "p99")}
        return row

    return Arm("vllm bench serve", command, read, python_path)


def guidellm(python: str, python_path: str | None) -> Arm:
    """guidellm's concurrent profile."""

    def command(load: Load, folder: Path) -> list[str]:
        backend = {
            "kind": "openai_http", "target": load.root, "model": load.model, "request_format": "/v1/completions",
            "extras": {"body": {"temperature": load.temperature}},
        }  # fmt: skip
        return [
            python, "-m", "guidellm", "run", "--backend", json.dumps(backend),
            "--profile", f"kind=concurrent,streams={load.concurrency}",
            "--constraint", f"kind=max_requests,count={load.requests}",
            "--data", f"kind=json_file,path={load.some(folder)}",
            "--tokenizer", f"kind=hf_auto,model={load.tokenizer}",
            "--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console",
        ]  # fmt: skip

    def read(folder: Path) -> dict[str, Any]:
        (found,) = json.loads((folder / "guidellm.json").read_text("utf-8"))["benchmarks"]
        done = found["requests"]["successful"]
        tokens = sum(row["output_tokens"] for row in done)
        row = {
            "completed": len(done), "output_tokens": tokens, "duration_s": found["duration"],
            "output_tok_s": found["metrics"]["output_tokens_per_second"]["successful"]["mean"],
        }  # fmt: skip
        for name, source in (("ttft", "time_to_first_token_ms"), ("tpot", "inter_token_latency_ms")):
            values = sorted(each[source] for each in done)
            place = (len(values) - 1) * 0.99
            low, high = values[math.floor(place)], values[math.ceil(place)]
            p99 = low + (high - low) * (place - math.floor(place))
            row |= {f"{name}_mean_ms": statistics.fmean(values), f"{name}_p50_ms": statistics.median(values)}
            row[f"{name}_p99_ms"] = p99
        return row

    return Arm("guidellm", command, read, python_path)
