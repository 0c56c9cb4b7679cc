"""Start the engine that a study names on a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint
from gainwatt.engines.base import Engine
from gainwatt.errors import InputError, UnavailableError
from gainwatt.schemes import Scheme
from gainwatt.study import Study


def start_engine(study: Study, checkpoint: Checkpoint, scheme: Scheme, tokenizer: Any) -> Engine:
    """The engine for a scheme (see `engine_for`) with the checkpoint loaded.

    Raises UnavailableError where no engine of the study can load the scheme or the engine is not installed, InputError
    where it cannot load this checkpoint, and MemoryError or torch.OutOfMemoryError where memory does not suffice.
    """
    settings = study.evaluate
    dtype = scheme.compute_dtype or study.model.dtype
    if engine_for(study, scheme) == "vllm":
        from gainwatt.engines.vllm import VllmEngine

        return VllmEngine(
            checkpoint.folder,
            tokenizer,
            dtype=dtype,
            max_new_tokens=settings.max_new_tokens,
            max_model_tokens=model_tokens(study, checkpoint.folder),
            repetition_penalty=settings.repetition_penalty,
            options=settings.vllm,
            trust_remote_code=study.model.trust_remote_code,
        )
    if engine_for(study, scheme) == "llamacpp":
        from gainwatt.engines.llamacpp import LlamaCppEngine

        return LlamaCppEngine(
            checkpoint,
            scheme,
            tokenizer,
            max_tokens=model_tokens(study, checkpoint.folder),
            max_new_tokens=settings.max_new_tokens,
            repetition_penalty=settings.repetition_penalty,
        )
    from gainwatt.engines.transformers import TransformersEngine
    from gainwatt.modeling import load_model

    model = load_model(checkpoint, scheme, dtype, trust_remote_code=study.model.trust_remote_code)
    return TransformersEngine(
        model,
        tokenizer,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        repetition_penalty=settings.repetition_penalty,
    )


def engine_for(study: Study, scheme: Scheme) -> str:
    """The engine that evaluates a scheme: the study's own.

    Raises UnavailableError where that engine cannot load the scheme: another one's accuracy would mix the effect of
    the engine with that of the quantization.
    """
    engine = study.evaluate.engine
    if engine not in scheme.engines:
        raise UnavailableError(
            f"the engine {engine} cannot load the scheme {scheme.name}; {' and '.join(scheme.engines)} can",
            "evaluate the whole matrix with an engine that loads every scheme, or leave the scheme out",
        )
    return engine


def context_tokens(folder: Path) -> int | None:
    """Positions of the model in `folder`: prompt and answer together. None where its config.json does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        limit = config.get("max_position_embeddings", config.get("text_config", {}).get("max_position_embeddings"))
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {folder / 'config.json'}: {error}", "make the checkpoint again") from error
    return int(limit) if limit is not None else None


def model_tokens(study: Study, folder: Path) -> int:
    """Longest sequence that the vLLM engine makes room for: the study's, else what its limits need."""
    settings = study.evaluate
    answer = max(settings.max_new_tokens, settings.max_reference_tokens + 1 if settings.reference_nll else 0)
    needed = settings.vllm.max_model_tokens or settings.max_prompt_tokens + answer
    limit = context_tokens(folder)
    return needed if limit is None else min(needed, limit)
