"""Load a checkpoint with vLLM and generate, as a process of vLLM's own environment: `smoke_vllm TASK.json ANSWER.json`.

It takes no more GPU memory than the weights and a small cache, and starts without graph capture.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_CACHE_BYTES = 1 << 28
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def main(task_path: str, answer_path: str) -> None:
    """Do what the task says and write the answer; any exception of vLLM's ends the process."""
    task: dict[str, Any] = json.loads(Path(task_path).read_text(encoding="utf-8"))
    # In this process, so that the layers can be looked at and no worker outlives it.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import torch
    from vllm import LLM, SamplingParams

    free, total = torch.cuda.mem_get_info() if torch.cuda.is_available() else (1, 2)
    llm = LLM(
        model=task["folder"],
        skip_tokenizer_init=True,
        dtype=_DTYPES[task["dtype"]],
        max_model_len=len(task["prompt_ids"]) + task["tokens"],
        max_num_seqs=1,
        enforce_eager=True,
        gpu_memory_utilization=0.5 * free / total,
        kv_cache_memory_bytes=_CACHE_BYTES,
        trust_remote_code=task["trust_remote_code"],
        quantization=task.get("quantization"),  # none: vLLM chooses the fastest kernel for the checkpoint's format
        seed=0,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=task["tokens"], ignore_eos=True, detokenize=False)
    output = llm.generate([{"prompt_token_ids": task["prompt_ids"]}], sampling, use_tqdm=False)[0].outputs[0]
    kernels = llm.apply_model(linear_methods)[0]
    size = llm.apply_model(_loaded_bytes)[0]
    answer = {
        "status": "ok" if output.token_ids else "failed",
        "tokens": len(output.token_ids),
        "token_ids": list(output.token_ids),
        "kernels": kernels,
        "loaded_bytes": size,
        "used_bytes": size,
        "allocated_mib": None,
    }
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


def linear_methods(model: Any) -> dict[str, int]:
    """How many layers use which method and kernel, e.g. CompressedTensorsWNA16/MacheteLinearKernel."""
    found: Counter[str] = Counter()
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is None:
            continue
        names = [type(method).__name__]
        scheme = getattr(module, "scheme", None)
        for holder in (scheme, method):
            for name in ("kernel", "fp8_linear", "linear_kernel"):
                part = getattr(holder, name, None)
                if part is not None:
                    names.append(type(part).__name__)
        if scheme is not None:
            names.insert(1, type(scheme).__name__)
        found["/".join(names)] += 1
    return dict(sorted(found.items()))


def _loaded_bytes(model: Any) -> int:
    from gainwatt.modeling import loaded_bytes

    return loaded_bytes(model)


if __name__ == "__main__":
    main(*sys.argv[1:3])
