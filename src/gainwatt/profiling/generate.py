"""One batch through the model's own `generate`, with the moment of the first token: time to it, and time after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from gainwatt.energy.sync import cuda_synchronize
from gainwatt.errors import UnavailableError

Phase = Callable[[str], AbstractContextManager[Any]]
PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True)
class Timing:
    """Seconds of one batch: to its first token, and to its last."""

    ttft_s: float
    latency_s: float


def no_phase(name: str) -> AbstractContextManager[Any]:
    """For work that is not metered."""
    return contextlib.nullcontext()


class Generator:
    """Greedy generation of exactly as many tokens as asked for, in one of the modes of the section `profile`.

    eager        the cache grows with the sequence; every operation is launched by itself
    static       the cache has its final size from the start; nothing else changes
    compile      static, and the decoding step is compiled by inductor
    cuda-graphs  compile, and the compiled step is captured and replayed as CUDA graphs (`reduce-overhead`)

    Each mode changes one thing, so that neighbours in this list tell what that one thing does. The prompt is read
    uncompiled in every mode, as transformers does it.
    """

    def __init__(self, model: Any, mode: str, *, pad_token_id: int | None, cache_tokens: int) -> None:
        """`cache_tokens`: size of the fixed cache, the same for every call. Raises UnavailableError without a GPU."""
        import torch

        if mode == "cuda-graphs" and model.device.type != "cuda":
            raise UnavailableError("CUDA graphs need an NVIDIA GPU", "profile this mode on a machine with one")
        self.model = model
        self.mode = mode
        self.made: Any = None
        """Ids [batch, new tokens] that the last call generated."""
        # transformers fills what is None in the configuration of a call with the model's own.
        model.generation_config.eos_token_id = None
        self._pad_token_id = pad_token_id
        self._cache_tokens = cache_tokens
        if mode in ("compile", "cuda-graphs"):
            _never_fall_back(torch)

    def __call__(self, ids: Any, new_tokens: int, phase: Phase = no_phase) -> Timing:
        """Generate `new_tokens` for every row of `ids` [batch, prompt]; the prompts lie on the device already.

        `phase` meters: it is entered for `prefill` and then for `decode`. Raises whatever the model raises.
        """
        import torch

        mask = torch.ones_like(ids)
        cuda_synchronize()
        with contextlib.ExitStack() as stack, torch.inference_mode():
            first = _FirstToken(stack, phase)
            begin = time.perf_counter()
            stack.enter_context(phase(PREFILL))
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=self._config(new_tokens),
                logits_processor=[first],
            )
            cuda_synchronize()
            stack.close()
            end = time.perf_counter()
        self.made = out[:, ids.shape[1] :]
        if self.made.shape[1] != new_tokens or first.seen_s is None:
            raise RuntimeError(f"the model generated {self.made.shape[1]} tokens instead of {new_tokens}")
        return Timing(first.seen_s - begin, end - begin)

    def _config(self, new_tokens: int) -> Any:
        from transformers import CompileConfig, GenerationConfig

        options: dict[str, Any] = {}
        if self.mode != "eager":
            options = {"cache_implementation": "static", "max_cache_len": self._cache_tokens}
        if self.mode == "static":
            options["disable_compile"] = True
        if self.mode in ("compile", "cuda-graphs"):
            kind = "default" if self.mode == "compile" else "reduce-overhead"
            options["compile_config"] = CompileConfig(mode=kind, fullgraph=False, dynamic=False)
            options["compile_config"]._compile_all_devices = True
        # Without an end token nothing stops a sequence early: every row of every arm does the same work.
        return GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=new_tokens, eos_token_id=None,
            pad_token_id=self._pad_token_id, use_cache=True, **options,
        )  # fmt: skip

    def forget_cache(self) -> None:
        """Give back the fixed cache, or forget its length: transformers keeps one of the two on the model.

        Since it keeps the length it makes every later cache as long as the longest so far, and a shorter load would
        attend to places that it never fills.
        """
        for name in ("_cache", "_previous_max_cache_length"):
            if hasattr(self.model, name):
                delattr(self.model, name)


class _FirstToken:
    """A logits processor that changes nothing: it is first called when the scores of the first token are there."""

    def __init__(self, stack: contextlib.ExitStack, phase: Phase) -> None:
        self.seen_s: float | None = None
        self._stack = stack
        self._phase = phase

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self.seen_s is None:
            cuda_synchronize()
            self._stack.close()
            self.seen_s = time.perf_counter()
            self._stack.enter_context(self._phase(DECODE))
        return scores


def compiled_graphs() -> int:
    """Graphs that torch has compiled in this process so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def _never_fall_back(torch: Any) -> None:
    """Every load has shapes of its own; beyond its limit of recompilations torch would run uncompiled, silently."""
    config = torch._dynamo.config
    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(config, name):
            setattr(config, name, 256)
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True
