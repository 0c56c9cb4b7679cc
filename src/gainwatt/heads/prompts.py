"""The prompts whose activations are compared: reasoning, other kinds, and controls matched to the reasoning prompts.

The prompts that come with the package (`prompts.jsonl`, written for it) are 32 triples: a problem that must be solved
by steps; a prompt with nearly the same words, names and numbers that asks for no solution; and an everyday request.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gainwatt.errors import InputError
from gainwatt.record import text_sha256
from gainwatt.study.heads import Heads

BUILTIN = Path(__file__).with_name("prompts.jsonl")
REASONING, GENERAL, MATCHED = "reasoning", "general", "matched"
_FEWEST = 5


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one kind: `source` as the study names it, and the texts in order."""

    kind: str
    source: str
    texts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 over the texts."""
        return text_sha256(json.dumps(self.texts))


def read_prompts(settings: Heads, data: Callable[[str], Path]) -> dict[str, PromptSet]:
    """The sets by kind; `data` gives the file of a split of the study's questions.

    Raises InputError for a file that is missing, is no UTF-8 text or holds a line of another form, for empty or
    repeated prompts, for fewer than 5 prompts, and for matched prompts that are fewer than the reasoning prompts.
    """
    reasoning = _read(REASONING, settings.reasoning, settings, data)
    found = {REASONING: reasoning, GENERAL: _read(GENERAL, settings.general, settings, data)}
    source = settings.matched
    if source == "auto":
        source = "builtin" if settings.reasoning == "builtin" else "shuffled"
    if source == "shuffled":
        texts = tuple(_shuffled(text, settings.seed + i) for i, text in enumerate(reasoning.texts))
        found[MATCHED] = PromptSet(MATCHED, source, texts)
    elif source != "none":
        found[MATCHED] = _read(MATCHED, source, settings, data)
        if len(found[MATCHED].texts) < len(reasoning.texts):
            raise InputError(
                f"{source} holds {len(found[MATCHED].texts)} matched prompts for {len(reasoning.texts)} reasoning "
                "prompts",
                "give one for each in the same order, or lower heads.max_prompts",
            )
    _check_distinct(found)
    return found


def prompt_files(settings: Heads, data: Callable[[str], Path]) -> list[Path]:
    """The files that `read_prompts` will read, those of the package left out."""
    own = ("builtin", "shuffled", "none", "auto")
    sources = [source for source in (settings.reasoning, settings.general, settings.matched) if source not in own]
    return [data(s.removeprefix("data:")) if s.startswith("data:") else Path(s) for s in sources]


def vocabulary_cosine(first: Sequence[str], second: Sequence[str]) -> float:
    """Cosine of the word counts of two sets of texts: 1 for the same words in the same shares."""
    one, two = (
        Counter(word.strip(".,?!:;").lower() for text in texts for word in text.split()) for texts in (first, second)
    )
    lengths = [sum(count * count for count in words.values()) ** 0.5 for words in (one, two)]
    return sum(count * two[word] for word, count in one.items()) / (lengths[0] * lengths[1])


def _read(kind: str, source: str, settings: Heads, data: Callable[[str], Path]) -> PromptSet:
    if source == "builtin":
        texts = [str(json.loads(line)[kind]) for line in BUILTIN.read_text(encoding="utf-8").splitlines()]
    elif source.startswith("data:"):
        from gainwatt.gsm8k.data import read_items

        path = data(source.removeprefix("data:"))
        texts = [item.question for item in read_items(path, limit=settings.max_prompts)]
    else:
        texts = _from_file(Path(source), kind)
    texts = texts[: settings.max_prompts]
    if len(texts) < _FEWEST:
        raise InputError(f"{source} holds {len(texts)} {kind} prompts", f"give at least {_FEWEST}, better 32")
    return PromptSet(kind, source, tuple(texts))


def _from_file(path: Path, kind: str) -> list[str]:
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the {kind} prompts {path}: {error.strerror}", f"correct heads.{kind}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the {kind} prompts {path} are not UTF-8 text ({error.reason})", "save as UTF-8") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_from_json(line, path, number) if path.suffix == ".jsonl" else line.strip())
    return found


def _from_json(line: str, path: Path, number: int) -> str:
    try:
        row = json.loads(line)
        text = row.get("prompt", row.get("question"))
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}, line {number} is no JSON object: {error}", 'write {"prompt": "…"}') from error
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{path}, line {number} has no text under `prompt` or `question`", 'write {"prompt": "…"}')
    return text.strip()


def _shuffled(text: str, seed: int) -> str:
    words = text.split()
    random.Random(seed).shuffle(words)  # noqa: S311 - nothing secret
    return " ".join(words)


def _check_distinct(sets: dict[str, PromptSet]) -> None:
    first: dict[str, str] = {}
    for kind, found in sets.items():
        for text in found.texts:
            key = " ".join(text.split())
            if key in first:
                raise InputError(
                    f"a prompt stands twice, among the {first[key]} and the {kind} prompts: {text[:80]!r}",
                    "remove one of them: what both sides share tells nothing about their difference",
                )
            first[key] = kind
