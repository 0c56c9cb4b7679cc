"""The proof that a new checkpoint works: each engine that should read it loads it and generates a few tokens.

An engine of the tool's own environment runs in this process. One of another environment runs in a process of that
environment's interpreter. What cannot run here is kept with its reason.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.base import Completion, Request
from gainwatt.errors import GainwattError, InputError
from gainwatt.modeling import linear_modules, load_model, load_tokenizer, loaded_bytes, memory_mib, reset_peak_memory
from gainwatt.schemes import Loader, Scheme
from gainwatt.study import Study
from gainwatt.workflow import find_interpreter

Result = dict[str, Any]
_TIMEOUT_S = 900


def smoke(study: Study, made: Checkpoint, scheme: Scheme, prompt_ids: list[int]) -> list[Result]:
    """One result per engine: engine, status (`ok`, `unavailable`, `failed`), reason, text, tokens, bytes and kernels.

    Raises InputError where no engine worked, or where one that could have run did not and the study evaluates with it.
    """
    found = []
    for loader in scheme.loaders:
        result = _try(study, made, scheme, loader, prompt_ids)
        found.append({"engine": loader.engine, "environment": loader.environment, "reason": None, **result})
        text = f": {result['reason']}" if result["status"] != "ok" else f", {result['tokens']} tokens"
        print(f"smoke {scheme.name} with {loader.engine}: {result['status']}{text}", file=sys.stderr, flush=True)
    failed = [result for result in found if result["status"] == "failed"]
    worked = [result for result in found if result["status"] == "ok"]
    decisive = [result for result in failed if result["engine"] == study.evaluate.engine or not worked]
    if decisive:
        raise InputError(
            f"the {scheme.name} checkpoint in {made.folder} does not work with {decisive[0]['engine']}: "
            f"{decisive[0]['reason']}",
            "look at the log above",
        )
    if not worked:
        reasons = "; ".join(f"{result['engine']}: {result['reason']}" for result in found)
        raise InputError(
            f"no engine on this machine could load the {scheme.name} checkpoint in {made.folder}: {reasons}",
            "make one of the environments, or leave this scheme out of quantize.schemes",
        )
    return found


def _try(study: Study, made: Checkpoint, scheme: Scheme, loader: Loader, prompt_ids: list[int]) -> Result:
    reason = _unavailable(loader)
    if reason is not None:
        return {"status": "unavailable", "reason": reason}
    if loader.environment == scheme.environment:
        return _here(study, made, scheme, loader, prompt_ids)
    python = find_interpreter(study, loader.environment)
    if python is None:
        name = loader.environment
        return {
            "status": "unavailable",
            "reason": f"there is no environment {name!r} on this machine (make env NAME={name})",
        }
    return _elsewhere(python, study, made, scheme, loader, prompt_ids)


def _unavailable(loader: Loader) -> str | None:
    """Why the engine cannot run on this machine; None where it can."""
    try:
        import torch
    except ImportError:
        return None if loader.cpu else "torch is not installed, so that no GPU can be used"
    if not torch.cuda.is_available():
        return None if loader.cpu else "no GPU"
    capability = torch.cuda.get_device_capability()
    if loader.capability is not None and capability < loader.capability:
        return f"compute capability {capability[0]}.{capability[1]} is below {'.'.join(map(str, loader.capability))}"
    return None


def _here(study: Study, made: Checkpoint, scheme: Scheme, loader: Loader, prompt_ids: list[int]) -> Result:
    try:
        run = _llamacpp if loader.engine == "llamacpp" else _transformers
        result, completion = run(study, made, scheme, prompt_ids)
    except GainwattError as error:
        return {"status": "failed", "reason": str(error)}
    return {"status": "ok" if completion.tokens else "failed", "reason": None if completion.tokens else "no tokens"} | {
        "text": completion.text, "tokens": completion.tokens, **result,
    }  # fmt: skip


def _transformers(study: Study, made: Checkpoint, scheme: Scheme, prompt_ids: list[int]) -> tuple[Result, Completion]:
    from gainwatt.engines.transformers import TransformersEngine

    trust = study.model.trust_remote_code
    reset_peak_memory()
    before = memory_mib()["allocated_mib"]
    model = load_model(made, scheme, study.model.dtype, trust_remote_code=trust)
    about: Result = {"loaded_bytes": loaded_bytes(model), "allocated_mib": None}
    after = memory_mib()["allocated_mib"]
    if before is not None and after is not None:
        about["allocated_mib"] = after - before
    engine = TransformersEngine(
        model,
        load_tokenizer(made.folder, trust_remote_code=trust),
        batch_size=1,
        max_new_tokens=study.quantize.smoke_tokens,
        repetition_penalty=1.0,
    )
    completion = next(iter(engine.generate([Request(0, tuple(prompt_ids))])))[0]
    # Some layers dequantize their weights at the first use: what runs afterwards is what an evaluation measures.
    about |= {"kernels": linear_modules(model), "used_bytes": loaded_bytes(model)}
    del engine, model
    _free()
    return about, completion


def _llamacpp(study: Study, made: Checkpoint, scheme: Scheme, prompt_ids: list[int]) -> tuple[Result, Completion]:
    from gainwatt.engines.llamacpp import LlamaCppEngine

    tokens = study.quantize.smoke_tokens
    engine = LlamaCppEngine(
        made, scheme, load_tokenizer(made.folder), max_tokens=len(prompt_ids) + tokens, max_new_tokens=tokens
    )
    completion = next(iter(engine.generate([Request(0, tuple(prompt_ids))])))[0]
    size = engine.memory().metrics["parameter_bytes"]
    engine.close()
    kernels = engine.settings["kernels"]
    return {"loaded_bytes": size, "used_bytes": size, "kernels": kernels, "allocated_mib": None}, completion


def _free() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _elsewhere(
    python: str, study: Study, made: Checkpoint, scheme: Scheme, loader: Loader, prompt_ids: list[int]
) -> Result:
    with tempfile.TemporaryDirectory(prefix="gainwatt-smoke-") as name:
        task, answer = Path(name) / "task.json", Path(name) / "answer.json"
        task.write_text(
            json.dumps(
                {
                    "folder": str(made.folder.resolve()),
                    "dtype": scheme.compute_dtype or study.model.dtype,
                    "prompt_ids": prompt_ids,
                    "tokens": study.quantize.smoke_tokens,
                    "trust_remote_code": study.model.trust_remote_code,
                }
            ),
            encoding="utf-8",
        )
        command = [python, "-m", f"gainwatt.quantization.smoke_{loader.engine}", str(task), str(answer)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=_with_sources()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"status": "failed", "reason": f"{loader.engine} in {python}: {error}"}
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr, flush=True)
        if not answer.exists():
            return {"status": "failed", "reason": f"exit code {done.returncode}: {_last_line(done.stderr)}"}
        result: Result = json.loads(answer.read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(made.folder, trust_remote_code=study.model.trust_remote_code)
    text = tokenizer.decode(result.pop("token_ids"), skip_special_tokens=True)
    return result | {"text": text, "chosen": kernel_lines(done.stdout + done.stderr)}


def _with_sources() -> dict[str, str]:
    """The environment of this process; the other interpreter finds the package where this one does."""
    source = str(Path(__file__).parents[2])
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != source]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([source, *others])}


def kernel_lines(log: str) -> list[str]:
    """What vLLM's log says of the kernels that it chose: `KERNEL for METHOD`, each once, in order."""
    found = re.findall(r"(?:Using|Selected) (\w*Kernel\w*) for (\w+)", log)
    return list(dict.fromkeys(f"{kernel} for {method}" for kernel, method in found))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["no output"])[-1][:500]
