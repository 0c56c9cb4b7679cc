"""From documents to windows of tokens, each with the part that it scores.

A document becomes the sequence s = (prefix token, its tokens), or its tokens alone with `prefix: none`. Window k holds
s[k·stride : k·stride + window] and scores those of its tokens that no earlier window has scored; s[0] is context only
and never scored. So every other token is scored exactly once, with at least window − stride tokens of context where
the document has so many before it, and the last window ends with the document.

Compared with others:

- The recipe for fixed-length models in the documentation of transformers cuts the same windows over s without a
  prefix token. It weights each window's mean loss by its count of target tokens, which is one too high (the first
  window's first token has no prediction) or, in its later form, one too low in every window but the first; here the
  losses are summed and divided by the number of tokens that were scored.
- The rolling log-likelihood of lm-evaluation-harness with a model length of L predicts disjoint runs of L tokens, each
  after one token of context, the first after the prefix token (start, else end token). It is `window: L + 1`,
  `stride: L`, `prefix: auto` here, but that its last run is filled up with context to L tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gainwatt.errors import InputError


@dataclass(frozen=True)
class Window:
    """Positions [begin, end) of a document's sequence; those from `first` on are scored. `index` is its rank."""

    index: int
    document: int
    begin: int
    end: int
    first: int

    @property
    def tokens(self) -> int:
        """How many tokens are scored."""
        return self.end - self.first


@dataclass(frozen=True)
class Encoded:
    """The corpus as token sequences, its windows, and what was counted.

    `sha256` is that of all token ids: it stands for text and tokenizer together. `text_bytes` are UTF-8 bytes and
    `words` runs between white space, as lm-evaluation-harness counts them (len of a split at white space).
    """

    sequences: tuple[tuple[int, ...], ...]
    windows: tuple[Window, ...]
    sha256: str
    prefix_token_id: int | None
    text_bytes: int
    words: int

    @property
    def tokens(self) -> int:
        """How many tokens are scored in all."""
        return sum(window.tokens for window in self.windows)


def cut(length: int, *, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, end, first scored) of each window over a sequence of `length` positions; see the module."""
    scored = 1
    for begin in range(0, max(length - 1, 0), stride):
        end = min(begin + window, length)
        if end > scored:
            yield begin, end, scored
        scored = end
        if end == length:
            return


def encode(
    tokenizer: Any, documents: Sequence[str], *, window: int, stride: int, prefix: str, max_tokens: int | None
) -> Encoded:
    """Tokenize `documents` without special tokens and cut them into windows; at most `max_tokens` tokens in all.

    Raises InputError where no token would be scored, or where the tokenizer has no token to serve as prefix.
    """
    start = _prefix_id(tokenizer) if prefix == "auto" else None
    sequences: list[tuple[int, ...]] = []
    text_bytes = words = taken = 0
    for document in documents:
        text = document
        ids = [int(token) for token in tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]]
        if max_tokens is not None and taken + len(ids) > max_tokens:
            ids = ids[: max_tokens - taken]
            text = tokenizer.decode(ids)
        if not ids:
            break
        taken += len(ids)
        text_bytes += len(text.encode("utf-8"))
        words += len(re.split(r"\s+", text))
        sequences.append(tuple(ids) if start is None else (start, *ids))
    windows: list[Window] = []
    for rank, sequence in enumerate(sequences):
        for begin, end, first in cut(len(sequence), window=window, stride=stride):
            windows.append(Window(len(windows), rank, begin, end, first))
    if not windows:
        raise InputError("the corpus has no token to score", "give a longer text, or perplexity.prefix: auto")
    return Encoded(tuple(sequences), tuple(windows), _sha256(sequences), start, text_bytes, words)


def _prefix_id(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError("the tokenizer has neither a start nor an end token", "set perplexity.prefix to none")


def _sha256(sequences: Sequence[tuple[int, ...]]) -> str:
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(" ".join(map(str, sequence)).encode() + b"\n")
    return digest.hexdigest()
