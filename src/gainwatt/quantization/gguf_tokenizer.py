"""The tokenizer of a GGUF file: a byte-level BPE vocabulary from tokenizer.json, and llama.cpp's way of splitting text.

llama.cpp knows ways of splitting by name only. The name is looked for by trying: it must give the same token ids as the
checkpoint's own tokenizer on every sample text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError

# Names that llama.cpp knows, the likeliest first.
CANDIDATES = ("qwen2", "llama-bpe", "gpt-2", "smollm", "default")
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # token types of GGUF


def add_tokenizer(writer: Any, source: Path, *, vocab_size: int, pre_tokenizer: str) -> None:
    """Write vocabulary, merges, special tokens and chat template to `writer` (a gguf.GGUFWriter).

    Ids of the embedding that no token has are filled with unused ones. Raises InputError for another kind of tokenizer.
    """
    content = _read(source / "tokenizer.json")
    model = content.get("model", {})
    if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(content.get("pre_tokenizer")):
        raise InputError(
            f"the tokenizer in {source} is no byte-level BPE tokenizer, and no other kind is converted to GGUF",
            "leave the gguf schemes out of quantize.schemes for this model",
        )
    tokens, types = _tokens(content, vocab_size, source)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    _add_special(writer, source, {token: index for index, token in enumerate(tokens)})
    template = source / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text(encoding="utf-8"))


def _tokens(content: dict[str, Any], vocab_size: int, source: Path) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    types = [_UNUSED] * vocab_size
    entries = [(index, token, _NORMAL) for token, index in content["model"]["vocab"].items()]
    entries += [
        (added["id"], added["content"], _CONTROL if added.get("special") else _USER_DEFINED)
        for added in content.get("added_tokens", [])
    ]
    for index, token, kind in entries:
        if index >= vocab_size:
            raise InputError(
                f"the tokenizer in {source} has a token {index}, and the model only {vocab_size} embeddings",
                "give model and tokenizer that belong together",
            )
        tokens[index], types[index] = token, kind
    return tokens, types


def _add_special(writer: Any, source: Path, ids: dict[str, int]) -> None:
    path = source / "tokenizer_config.json"
    config = _read(path) if path.exists() else {}
    found = {}
    for name in ("bos", "eos", "pad"):
        token = config.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token in ids:
            found[name] = ids[token]
    for name, index in found.items():
        getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(bool(config.get("add_bos_token", False)))


def agrees(file: Path, texts: Sequence[str], expected: Sequence[Sequence[int]]) -> bool:
    """Whether llama.cpp, reading `file`, splits each text into the expected token ids."""
    from llama_cpp import Llama

    vocabulary = Llama(str(file), vocab_only=True, verbose=False)
    try:
        return all(
            vocabulary.tokenize(text.encode(), add_bos=False, special=True) == list(ids)
            for text, ids in zip(texts, expected, strict=True)
        )
    finally:
        vocabulary.close()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}", "give a checkpoint with tokenizer.json") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object", "give a checkpoint with tokenizer.json")
    return content
