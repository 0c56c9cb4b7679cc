"""A stand-in for vLLM: the parts of its interface that the engine uses, answering with the prompt's own tokens.

FAKE_VLLM names a file with JSON: `start_error` (text printed before the start fails), `die_after` (answers until
EngineDeadError, once), `last_words` (printed by the dying engine), `length` (tokens before the stop token).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

__version__ = "0.0.fake"


class EngineDeadError(Exception):
    pass


class SamplingParams:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def _write(line, file=2):
    """To the file descriptor, as a child process would, whatever Python's own stderr is."""
    os.write(file, f"{line}\n".encode())


def _script():
    path = os.environ.get("FAKE_VLLM")
    return json.loads(Path(path).read_text("utf-8")) if path and Path(path).exists() else {}


class _Engine:
    def __init__(self, arguments):
        self.arguments = arguments
        self.stderr = os.dup(2)  # what stderr is at the start stays a child's stderr
        self.waiting: list[tuple[str, list[int], SamplingParams]] = []
        self.aborted: list[str] = []
        self.answered = 0
        self.engine_core = SimpleNamespace(shutdown=self.shutdown)
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(
                max_num_seqs=arguments.get("max_num_seqs", 256), max_num_batched_tokens=8192
            ),
            model_config=SimpleNamespace(quantization=None),
            cache_config=SimpleNamespace(cache_dtype="auto", num_gpu_blocks=100, block_size=16),
        )

    def shutdown(self):
        _write("fake vLLM shut down", self.stderr)
        os.close(self.stderr)

    def abort_request(self, names, internal):
        self.aborted += names

    def step(self):
        script = _script()
        if "die_after" in script and self.answered >= script["die_after"]:
            _write(script.get("last_words", ""), self.stderr)
            script.pop("die_after")
            Path(os.environ["FAKE_VLLM"]).write_text(json.dumps(script), "utf-8")
            raise EngineDeadError("EngineCore encountered an issue. See stack trace (above) for the root cause.")
        name, ids, params = self.waiting.pop()  # the last first: an engine may finish in any order
        self.answered += 1
        logprobs = None
        if getattr(params, "prompt_logprobs", None) is not None:
            logprobs = [None, *({token: SimpleNamespace(logprob=-token / 1000)} for token in ids[1:])]
        stops = params.stop_token_ids[:1]
        tokens = [*ids[-script.get("length", 2) :], *stops][: params.max_tokens]
        finished = SimpleNamespace(
            request_id=name.partition("-")[0],
            finished=True,
            outputs=[SimpleNamespace(token_ids=tokens)],
            prompt_logprobs=logprobs,
            metrics=SimpleNamespace(scheduled_ts=10.0, last_token_ts=10.25) if self.arguments else None,
        )
        unfinished = SimpleNamespace(request_id=name.partition("-")[0], finished=False)
        return [unfinished, finished]


class LLM:
    def __init__(self, model, **arguments):
        error = _script().get("start_error")
        if error:
            _write(error)
            raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
        self.model = model
        self.llm_engine = _Engine(arguments)
        self.number = 0

    def enqueue(self, prompts, params, *, use_tqdm):
        assert use_tqdm is False
        names = []
        for prompt in prompts:
            names.append(f"{self.number}-0a1b2c3d")
            self.number += 1
            self.llm_engine.waiting.append((names[-1], prompt["prompt_token_ids"], params))
        return names
