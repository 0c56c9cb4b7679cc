"""The options of an evaluation that asks a server instead of an engine in its own process, and the server behind them.

--serve vllm                            start a server for this cell, and end it afterwards
--endpoint http://127.0.0.1:8000/v1     ask one that runs already
"""

from __future__ import annotations

import argparse
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.endpoint import EndpointEngine
from gainwatt.engines.start import model_tokens
from gainwatt.errors import InputError
from gainwatt.serving.spec import ENGINES
from gainwatt.study import Study

STAGE = "evaluate_endpoint"
KEY_VARIABLE = "GAINWATT_API_KEY"


@dataclass(frozen=True)
class Served:
    """What is asked: a server of `engine` started for it, or the one at `url`. `log` is for one that is started."""

    engine: str | None
    url: str | None
    model: str | None
    concurrency: int
    ready_s: float
    log: Path

    @property
    def name(self) -> str:
        """What the record calls the engine, e.g. endpoint-vllm."""
        return f"endpoint-{self.engine or 'url'}"

    @property
    def scores(self) -> bool:
        """Whether the server tells the log-probabilities of a prompt, so that the reference loss can be measured."""
        return self.engine == "vllm"

    def start(self, study: Study, checkpoint: Checkpoint, scheme: str, tokenizer: Any) -> EndpointEngine:
        """The engine, with a server of its own unless one was named. Raises what `serve` and EndpointEngine raise."""
        settings = study.evaluate
        common: dict[str, Any] = {
            "concurrency": self.concurrency,
            "max_new_tokens": settings.max_new_tokens,
            "repetition_penalty": settings.repetition_penalty,
        }
        key = os.environ.get(KEY_VARIABLE)
        if self.url is not None:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            model = self.model or f"{checkpoint.variant}.{scheme}"
            engine = EndpointEngine(self.url, model, tokenizer, headers=headers, **common)
            engine.settings["server"] = "was there already: its weights cannot be checked by their hash"
            return engine
        from gainwatt.serving.of_study import spec_of
        from gainwatt.serving.server import serve

        spec = spec_of(
            study, checkpoint, scheme, str(self.engine), max_model_len=model_tokens(study, checkpoint.folder),
            max_num_seqs=study.evaluate.vllm.max_num_seqs or self.concurrency, api_key=key,
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(serve(spec, log=self.log, ready_s=self.ready_s))
            engine = EndpointEngine(
                server.base_url, server.model, tokenizer, headers=server.headers, facts=lambda: server.facts,
                log=self.log, **common,
            )  # fmt: skip
            engine.on_close = stack.pop_all().close
        engine.settings["server"] = "started for this record, from the checkpoint that it names"
        engine.settings["server_startup_s"] = server.startup_s
        return engine


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose a server."""
    group = parser.add_argument_group("through a server", "the record is one of the stage evaluate_endpoint")
    group.add_argument("--serve", choices=ENGINES, metavar="ENGINE", help="start a server for this cell and ask it")
    group.add_argument("--endpoint", metavar="URL", help=f"ask a server that runs (ends in /v1; key: ${KEY_VARIABLE})")
    group.add_argument("--served-model", metavar="NAME", help="its name there (default: VARIANT.SCHEME)")
    group.add_argument("--concurrency", type=int, metavar="N", help="requests at once (default: evaluate.batch_size)")
    group.add_argument("--ready-s", type=float, default=600, metavar="S", help="patience for its start (%(default)s)")


def served_of(args: argparse.Namespace, study: Study, log: Path) -> Served | None:
    """What the options ask for; None for an engine in this process. Raises InputError where they contradict."""
    if args.serve is None and args.endpoint is None:
        return None
    if args.serve is not None and args.endpoint is not None:
        raise InputError("--serve starts a server and --endpoint names one that runs", "give one of them")
    concurrency = args.concurrency if args.concurrency is not None else study.evaluate.batch_size
    if concurrency < 1:
        raise InputError(f"--concurrency = {concurrency}", "give a number of at least 1")
    if args.endpoint is not None and not args.endpoint.startswith(("http://", "https://")):
        raise InputError(f"--endpoint = {args.endpoint!r} is no address", "write e.g. http://127.0.0.1:8000/v1")
    return Served(args.serve, args.endpoint, args.served_model, concurrency, args.ready_s, log)
