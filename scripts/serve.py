"""Serve a checkpoint by an OpenAI-compatible API until Ctrl-C or SIGTERM, then stop it and say what came back.

    serve.py --study config/demo.yaml --variant grpo-s0 --scheme bnb-nf4 --engine transformers
    serve.py --checkpoint DIR --scheme awq-w4g128 --engine vllm --port 8000

When the server answers, its address is printed to standard output (the line that begins with `ready: `); everything
else goes to standard error. The server is bound to 127.0.0.1. Any other --host wants an API key, in the variable
GAINWATT_API_KEY or in a file (--api-key-file); it is never written to a log. Clients send it as
`Authorization: Bearer KEY`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.atomic import write_json
from gainwatt.checkpoint import MANIFEST, read_manifest
from gainwatt.errors import InputError
from gainwatt.serving.of_study import check_scheme, spec_of
from gainwatt.serving.server import Server, ServerError, ServerSpec, serve
from gainwatt.serving.spec import DTYPES, ENGINES, LOOPBACK, QUANTIZATIONS
from gainwatt.study import check_cell

KEY_VARIABLE = "GAINWATT_API_KEY"
WATCH_S = 0.5
SHOWN = ("engine_version", "quantization_kernel", "attention_backend", "cuda_graphs", "max_num_seqs", "max_concurrency")


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser(__doc__, needs_study=False)
    parser.add_argument("--variant", help="base or grpo-s<seed>, of the study")
    parser.add_argument("--scheme", required=True, help="how the checkpoint is stored, e.g. bf16 or bnb-nf4")
    parser.add_argument("--engine", choices=ENGINES, help="default: the study's evaluate.engine")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="serve this folder (default: from the study)")
    parser.add_argument("--host", default=LOOPBACK, help="address to bind (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help=f"holds the API key (or ${KEY_VARIABLE})")
    parser.add_argument("--dtype", choices=DTYPES, help="type of the arithmetic where the scheme does not decide it")
    parser.add_argument("--max-model-len", type=int, metavar="TOKENS", help="longest prompt and answer together")
    parser.add_argument("--max-num-seqs", type=int, metavar="N", help="answers generated at once")
    parser.add_argument("--memory-fraction", type=float, metavar="SHARE", help="share of each GPU that vLLM reserves")
    parser.add_argument("--tensor-parallel", type=int, metavar="GPUS", help="GPUs that hold one copy of the model")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, help="force one of vLLM's kernels for AWQ")
    parser.add_argument("--prefix-cache", action="store_true", help="keep the work on prompts that begin alike")
    parser.add_argument("--python", metavar="FILE", help="interpreter of the engine's environment")
    parser.add_argument("--ready-s", type=float, default=600, metavar="S", help="patience for the start (%(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="the server's own output")
    parser.add_argument("--facts", type=Path, metavar="FILE", help="write what the server is made of as JSON")
    return parser


def api_key(args: argparse.Namespace) -> str | None:
    """The key by file or environment. Raises InputError for a file that cannot be read."""
    if args.api_key_file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return str(args.api_key_file.read_text(encoding="utf-8")).strip()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the API key in {args.api_key_file}: {error}", "check --api-key-file") from error


def wanted(args: argparse.Namespace) -> tuple[ServerSpec, Path]:
    """The server and its log. Raises InputError where the command line names no checkpoint, or two."""
    given: dict[str, Any] = {
        "host": args.host, "port": args.port, "api_key": api_key(args), "dtype": args.dtype,
        "max_model_len": args.max_model_len, "max_num_seqs": args.max_num_seqs, "python": args.python,
        "memory_fraction": args.memory_fraction, "quantization": args.quantization,
        "prefix_cache": args.prefix_cache, "tensor_parallel": args.tensor_parallel,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    temporary = Path(tempfile.gettempdir()) / f"gainwatt-serve-{os.getpid()}.log"
    if args.checkpoint is not None:
        if args.variant is not None:
            raise InputError("--variant and --checkpoint both name what is to be served", "give one of them")
        manifest = args.checkpoint / MANIFEST
        if manifest.is_file():
            check_scheme(read_manifest(manifest), args.scheme)
        return ServerSpec(args.checkpoint, args.scheme, args.engine or "transformers", **given), args.log or temporary
    if args.study is None or args.variant is None:
        raise InputError("nothing names a checkpoint", "give --study and --variant, or --checkpoint DIR")
    study, layout = cli.study_of(args)
    cell = check_cell(study, args.variant, args.scheme)
    checkpoint = read_manifest(layout.manifest(cell.variant, cell.scheme))
    engine = args.engine or study.evaluate.engine
    spec = spec_of(study, checkpoint, cell.scheme, engine, **given)
    return spec, args.log or layout.log("serve", f"{cell.name}.{engine}")


def announce(server: Server, facts: dict[str, Any]) -> None:
    """Tell where the server is and what it is made of."""
    print(f"ready: {server.base_url}", flush=True)
    print(f"  model {server.model}, after {server.startup_s:.1f} s; log: {server.log}", file=sys.stderr)
    for name in SHOWN:
        print(f"  {name}: {shown(facts, name, facts[name])}", file=sys.stderr)
    for part, value in facts["memory_mib"].items():
        print(f"  memory, {part}: {shown(facts, f'memory_mib.{part}', value)}", file=sys.stderr)
    print("  stop it with Ctrl-C", file=sys.stderr, flush=True)


def shown(facts: dict[str, Any], name: str, value: Any) -> str:
    """A fact for people: its value, or why there is none."""
    if value is None:
        return f"unknown ({facts['null_reasons'].get(name, 'not told')})"
    if name.startswith("memory_mib."):
        return f"{value:.1f} MiB"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def report(stopped: dict[str, Any]) -> bool:
    """Tell how it ended. True where nothing is left."""
    print(
        f"stopped in {stopped['stop_s']:.1f} s, exit code {stopped['exit_code']}"
        + ("; it had to be killed" if stopped["killed"] else ""),
        file=sys.stderr,
    )
    if stopped["processes_left"]:
        print(f"  processes that could not be ended: {stopped['processes_left']}", file=sys.stderr)
    returned = stopped.get("gpu_memory_returned")
    words = {True: "all of it came back", False: "NOT all of it came back", None: "not checked"}[returned]
    reason = stopped.get("gpu_memory_reason")
    print(f"  GPU memory: {words}" + (f" ({reason})" if reason else ""), file=sys.stderr)
    for label, mib in stopped.get("gpu_memory_mib", {}).items():
        print(f"  {label}: {mib} MiB", file=sys.stderr)
    sys.stderr.flush()
    return not stopped["processes_left"] and returned is not False


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    args = options().parse_args(argv)
    # A shell script's background jobs start with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spec, log = wanted(args)
    print(f"starting {spec.engine} on {spec.checkpoint} ({spec.scheme}); log: {log}", file=sys.stderr, flush=True)
    server: Server | None = None
    try:
        with serve(spec, log=log, ready_s=args.ready_s) as server:
            facts = server.facts
            if args.facts is not None:
                write_json(args.facts, facts)
            announce(server, facts)
            while server.running():
                time.sleep(WATCH_S)
            tail = server.log_tail()
    except (KeyboardInterrupt, cli.Terminated):
        if server is None:
            print("stopped before it was ready", file=sys.stderr, flush=True)
            return 130
        return 0 if report(server.stopped) else 5
    except MemoryError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 6
    report(server.stopped)
    raise ServerError(f"the server ended by itself; the end of {log}:\n{tail}", "the reason stands in the log")


if __name__ == "__main__":
    cli.run(main)
