"""What the tests of the engine in the process share."""

from __future__ import annotations

from gainwatt.engines.transformers import TransformersEngine


def engine(model, tokenizer, **options):
    settings = {"batch_size": 4, "max_new_tokens": 12, "repetition_penalty": 1.0}
    return TransformersEngine(model, tokenizer, **{**settings, **options})


def texts(batches):
    return {c.index: (c.text, c.tokens, c.finish_reason) for batch in batches for c in batch}
