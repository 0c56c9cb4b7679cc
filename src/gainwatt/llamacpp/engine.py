"""Requests through the low-level interface of llama.cpp, with its own counters read around prefill and decode.

llama.cpp counts what it evaluates: `n_p_eval`, `t_p_eval_ms` in batches of several tokens, `n_eval`, `t_eval_ms` one
token at a time (llama_perf_context in llama.h). They are set to zero before the prefill and again before the decode,
so that both parts are known also where several requests are decoded together, which llama.cpp counts as batches. The
first token of an answer comes from the prefill: n answers of m tokens are n·(m−1) evaluated tokens.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from gainwatt.errors import GainwattError, InputError, UnavailableError

_CONTEXT_STEP = 256
ALL_LAYERS = 999


class LoadError(GainwattError):
    """llama.cpp gave no model or no context; why stands in its log."""


class Engine:
    """One loaded file with one setting. `spec` is what `child.spec_of` makes of an arm."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import llama_cpp

        self.api = llama_cpp
        self.spec = spec
        if spec["backend"] == "gpu" and not llama_cpp.llama_supports_gpu_offload():
            raise UnavailableError(
                "llama.cpp finds no GPU: it was built without one, or none is visible. The package index has the "
                "source only",
                'build it with CMAKE_ARGS="-DGGML_CUDA=on" make env NAME=llamacpp on a machine with the CUDA toolkit',
            )
        self.model: Any = self._load_model()
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.prompts = {suite: [self._tokens(text) for text in texts] for suite, texts in spec["prompts"].items()}
        self.context: Any = self._make_context()
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(max(spec["prompt_batch"], spec["parallel"]), 0, 1)
        self.sampler = self._make_sampler()

    def _load_model(self) -> Any:
        api, spec = self.api, self.spec
        api.llama_backend_init()
        params = api.llama_model_default_params()
        layers = spec["gpu_layers"]
        params.n_gpu_layers = ALL_LAYERS if layers is None else layers  # 0 is a value: no layer at all
        params.load_mode = api.LLAMA_LOAD_MODE_MMAP if spec["mmap"] else api.LLAMA_LOAD_MODE_NONE
        model = api.llama_model_load_from_file(os.fsencode(spec["file"]), params)
        if not model:
            raise LoadError(f"llama.cpp cannot load {spec['file']}")
        blocks = int(api.llama_model_n_layer(model))
        if layers is not None and layers > blocks + 1:
            raise InputError(
                f"{layers} layers are to be offloaded, and {spec['file']} has {blocks} (and the output)",
                "correct llamacpp.gpu_layers or llamacpp.ablation_gpu_layers",
            )
        return model

    def _make_context(self) -> Any:
        api, spec = self.api, self.spec
        longest = max(len(ids) for prompts in self.prompts.values() for ids in prompts) + spec["max_new_tokens"]
        trained = int(api.llama_model_n_ctx_train(self.model))
        if trained and longest > trained:
            raise InputError(
                f"the longest prompt and answer are {longest} tokens, and the model holds {trained}",
                "lower llamacpp.max_new_tokens or shorten the prompt",
            )
        params = api.llama_context_default_params()
        # One shared cache: each request needs room for its own tokens, and no more than that is reserved.
        params.n_ctx = -(-longest * spec["parallel"] // _CONTEXT_STEP) * _CONTEXT_STEP
        params.n_seq_max, params.kv_unified = spec["parallel"], True
        params.n_batch = max(spec["prompt_batch"], spec["parallel"])
        params.n_ubatch = params.n_batch
        params.n_threads = params.n_threads_batch = spec["threads"]
        params.no_perf = False
        if spec["backend"] == "cpu":
            params.op_offload = params.offload_kqv = False
        context = api.llama_init_from_model(self.model, params)
        if not context:
            raise LoadError(f"llama.cpp cannot make a context of {params.n_ctx} tokens for {spec['file']}")
        return context

    def _make_sampler(self) -> Any:
        api, spec = self.api, self.spec
        chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if spec["temperature"] > 0:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(spec["temperature"]))
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(spec["seed"]))
        else:
            api.llama_sampler_chain_add(chain, api.llama_sampler_init_greedy())
        return chain

    def _tokens(self, text: str) -> list[int]:
        api = self.api
        formatted, special = self._through_template(text)
        data = formatted.encode()
        room = len(data) + 8
        ids = (api.llama_token * room)()
        count = api.llama_tokenize(self.vocabulary, data, len(data), ids, room, special, True)
        if count < 1:
            raise InputError(f"llama.cpp makes no tokens of the prompt {text[:60]!r}", "write another prompt")
        return list(ids[:count])

    def _through_template(self, text: str) -> tuple[str, bool]:
        """The prompt in the file's chat template, and whether the tokenizer still has to add a start token."""
        api = self.api
        template = api.llama_model_chat_template(self.model, None) if self.spec["chat"] else None
        if not template:
            return text, True
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        start, end = (
            (api.llama_vocab_get_text(self.vocabulary, token) or b"").decode() if token >= 0 else ""
            for token in (api.llama_vocab_bos(self.vocabulary), api.llama_vocab_eos(self.vocabulary))
        )
        formatter = Jinja2ChatFormatter(template.decode(), eos_token=end, bos_token=start)
        formatted = formatter(messages=[{"role": "user", "content": text}]).prompt
        return formatted, not (start and formatted.startswith(start))

    def run(self, suite: str, kind: str, window_s: float) -> list[dict[str, Any]]:
        """Repeat the suite's prompts until `window_s` have passed, at least once; one entry per group of requests.

        `kind` is `prefill` (the prompts alone) or `generate`. Requests that are decoded together are one group.
        """
        prompts, together = self.prompts[suite], self.spec["parallel"]
        begin = time.monotonic()
        found: list[dict[str, Any]] = []
        while not found or time.monotonic() - begin < window_s:
            for first in range(0, len(prompts), together):
                places = [(first + place) % len(prompts) for place in range(together)]
                found.append(self._group([prompts[place] for place in places], kind) | {"prompts": places})
        return found

    def _group(self, prompts: list[list[int]], kind: str) -> dict[str, Any]:
        api = self.api
        api.llama_memory_clear(self.memory, True)
        api.llama_sampler_reset(self.sampler)
        api.llama_perf_context_reset(self.context)
        started = time.monotonic()
        tokens = self._prefill(prompts)
        first_token_s = time.monotonic() - started
        evaluated, prefill_s = self._counters()
        found: dict[str, Any] = {
            "requests": len(prompts), "prompt_tokens": evaluated, "prefill_s": prefill_s, "ttft_s": first_token_s,
            "generated_tokens": 0, "decoded_tokens": 0, "decode_s": 0.0,
        }  # fmt: skip
        if evaluated != sum(map(len, prompts)):
            raise GainwattError(f"llama.cpp counts {evaluated} prompt tokens, {sum(map(len, prompts))} were given")
        if kind == "generate":
            api.llama_perf_context_reset(self.context)
            sampled = self._decode(prompts, tokens)
            decoded, decode_s = self._counters()
            found |= {"decoded_tokens": decoded, "generated_tokens": decoded + len(prompts), "decode_s": decode_s}
            if decoded + len(prompts) != sampled:
                raise GainwattError(
                    f"llama.cpp counts {decoded} decoded tokens, {sampled - len(prompts)} were asked for"
                )
        return found | {"latency_s": time.monotonic() - started}

    def _prefill(self, prompts: list[list[int]]) -> list[int]:
        """Evaluate all prompts in chunks of the prompt batch; returns the first token of each answer."""
        entries = [
            (token, place, sequence, place == len(ids) - 1)
            for sequence, ids in enumerate(prompts)
            for place, token in enumerate(ids)
        ]
        first = [0] * len(prompts)
        size = self.spec["prompt_batch"]
        for begin in range(0, len(entries), size):
            chunk = entries[begin : begin + size]
            self._evaluate(chunk)
            for row, (_, _, sequence, last) in enumerate(chunk):
                if last:
                    first[sequence] = int(self.api.llama_sampler_sample(self.sampler, self.context, row))
        self.api.llama_synchronize(self.context)
        return first

    def _decode(self, prompts: list[list[int]], tokens: list[int]) -> int:
        """Decode until every answer has its length or its end; returns how many tokens were sampled in all."""
        running = {sequence: token for sequence, token in enumerate(tokens) if not self._ends(token)}
        sampled = len(tokens)
        for step in range(self.spec["max_new_tokens"] - 1):
            if not running:
                break
            self._evaluate([(token, len(prompts[s]) + step, s, True) for s, token in running.items()])
            rows = enumerate(running)
            drawn = {s: int(self.api.llama_sampler_sample(self.sampler, self.context, row)) for row, s in rows}
            sampled += len(drawn)
            running = {sequence: token for sequence, token in drawn.items() if not self._ends(token)}
        self.api.llama_synchronize(self.context)
        return sampled

    def _ends(self, token: int) -> bool:
        return not self.spec["ignore_eos"] and bool(self.api.llama_vocab_is_eog(self.vocabulary, token))

    def _evaluate(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """One call of llama_decode over (token, position, sequence, whether its logits are needed)."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for row, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[row], batch.pos[row], batch.logits[row] = token, position, wanted
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        code = self.api.llama_decode(self.context, batch)
        if code != 0:
            raise GainwattError(f"llama.cpp failed to evaluate {len(entries)} tokens (code {code})")

    def _counters(self) -> tuple[int, float]:
        """(tokens evaluated, seconds) since the counters were set to zero; llama.cpp shows at least 1 for a count."""
        self.api.llama_synchronize(self.context)
        seen = self.api.llama_perf_context(self.context)
        pairs = ((seen.n_p_eval, seen.t_p_eval_ms), (seen.n_eval, seen.t_eval_ms))
        counted = [(int(count), float(ms)) for count, ms in pairs if ms > 0]
        return sum(count for count, _ in counted), sum(ms for _, ms in counted) / 1e3

    def facts(self) -> dict[str, Any]:
        """What the loaded file and the engine say of themselves."""
        api = self.api
        text = ctypes.create_string_buffer(256)
        api.llama_model_desc(self.model, text, 256)
        return {
            "description": text.value.decode(errors="replace"),
            "weight_bytes": int(api.llama_model_size(self.model)),
            "parameters": int(api.llama_model_n_params(self.model)),
            "layers": int(api.llama_model_n_layer(self.model)),
            "context_tokens": int(api.llama_n_ctx(self.context)),
            "gpu_offload": bool(api.llama_supports_gpu_offload()),
            "kernels": api.llama_print_system_info().decode().strip(),
            "version": str(api.__version__),
            "chat_template": bool(api.llama_model_chat_template(self.model, None)) and self.spec["chat"],
            "prompt_tokens": {suite: [len(ids) for ids in prompts] for suite, prompts in self.prompts.items()},
        }
