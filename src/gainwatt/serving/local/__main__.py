"""Serve one checkpoint by transformers, in OpenAI's API: /v1/completions, /v1/chat/completions, /v1/models, /health.

`transformers serve` of version 5 is not used: it needs packages that the pinned environment does not hold (fastapi,
uvicorn), knows no API key, and loads whatever model a request names. This server serves the one checkpoint that it was
started with, decodes greedily, and sends each token when it is there.

The API key, if there is to be one, comes in the variable GAINWATT_API_KEY and is taken out of the environment at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gainwatt.errors import GainwattError, InputError
from gainwatt.oom import is_out_of_memory
from gainwatt.serving.spec import is_loopback

if TYPE_CHECKING:
    from gainwatt.serving.local.service import Service

KEY_VARIABLE = "GAINWATT_API_KEY"
ERROR_MARK = "gainwatt-serving-error "
"""Before the JSON line by which the server says why it did not start."""
DEFAULT_ROWS = 64
DEFAULT_CONTEXT = 2048


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gainwatt.serving.local", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--folder", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--scheme", required=True, help="how it is stored, e.g. bnb-nf4")
    parser.add_argument("--dtype", default="bf16", help="fp32, bf16 or fp16, where the scheme does not decide it")
    parser.add_argument("--model-name", required=True, help="what requests call it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, help="prompt and answer together (default: the model's, at most "
                        f"{DEFAULT_CONTEXT})")  # fmt: skip
    parser.add_argument("--max-num-seqs", type=int, default=DEFAULT_ROWS, help="answers generated at once")
    parser.add_argument("--trust-remote-code", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Load, serve until SIGTERM or SIGINT, end."""
    args = _options(argv)
    key = os.environ.pop(KEY_VARIABLE, None)
    if key is None and not is_loopback(args.host):
        raise InputError(f"no API key, and {args.host} is reachable by others", f"set {KEY_VARIABLE}")

    from gainwatt.serving.local.http import HttpServer

    service = _load(args)
    server = HttpServer(args.host, args.port, service, key)

    def end(number: int, frame: FrameType | None) -> None:
        # shutdown() waits for the loop, which runs in this very thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    print(f"serving {args.model_name} at {args.host}:{server.server_port}", flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()
        service.close()
    return 0


def _load(args: argparse.Namespace) -> Service:
    from gainwatt.checkpoint import Checkpoint
    from gainwatt.engines.start import context_tokens
    from gainwatt.modeling import load_model, load_tokenizer
    from gainwatt.schemes import get_scheme
    from gainwatt.serving.local.service import Service

    checkpoint = Checkpoint("", args.scheme, args.folder, "", {}, None, {})
    trusted = args.trust_remote_code
    tokenizer = load_tokenizer(args.folder, trust_remote_code=trusted)
    limit = context_tokens(args.folder)
    context = args.max_model_len or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if limit is not None and context > limit:
        raise InputError(f"max_model_len = {context}, and the model has {limit} positions", "lower it")
    model = load_model(checkpoint, get_scheme(args.scheme), args.dtype, trust_remote_code=trusted)
    return Service(model, tokenizer, model_name=args.model_name, context=context, max_rows=args.max_num_seqs)


def _say(kind: str, what: str, hint: str) -> None:
    print(f"{ERROR_MARK}{json.dumps({'kind': kind, 'what': what, 'hint': hint})}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        code = main()
    except GainwattError as error:
        _say(type(error).__name__, error.what, error.hint)
        code = error.exit_code
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _say("MemoryError", " ".join(str(error).split())[:500], "")
        code = 6
    raise SystemExit(code)
