"""What vLLM says of itself in its log and nowhere else: kernels, attention backend, and why it died."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_ATTENTION = re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) (?:attention )?backend")
_KERNEL = re.compile(r"(?:Using|Selected) (\w*(?:Kernel|Marlin|Machete|Cutlass)\w*) for (\w+)")
_WEIGHTS = re.compile(r"[Mm]odel loading took ([0-9.]+) GiB")
_ERROR = re.compile(r"(?:^|\s)((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt)): (.+)$")
_MEMORY = (
    "OutOfMemoryError", "CUDA out of memory", "No available memory for the cache blocks",
    "larger than the available KV cache memory", "less than desired GPU memory utilization",
    "DefaultCPUAllocator: can't allocate memory", "is larger than the maximum number of tokens that can be stored",
)  # fmt: skip
_GENERAL = ("Engine core initialization failed", "EngineCore encountered an issue", "WorkerProc initialization failed")


def facts(lines: Sequence[str]) -> dict[str, Any]:
    """Attention backend, kernels by layer kind and weight memory, each None where the log does not say."""
    attention = next((found[1] for line in lines if (found := _ATTENTION.search(line))), None)
    kernels = {found[2]: found[1] for line in lines if (found := _KERNEL.search(line))}
    weights = next((float(found[1]) for line in lines if (found := _WEIGHTS.search(line))), None)
    return {"attention_backend": attention, "kernels": kernels or None, "weights_gib": weights}


def lack_of_memory(lines: Sequence[str]) -> str | None:
    """The line that says that memory did not suffice; None where none does."""
    return next((_plain(line) for line in lines if any(text in line for text in _MEMORY)), None)


def last_error(lines: Sequence[str]) -> str | None:
    """The last exception in the log that says what happened, as `Type: text`; None where there is none."""
    found = [match for line in lines if (match := _ERROR.search(line)) and not _general(match[2])]
    return f"{found[-1][1]}: {found[-1][2].strip()}" if found else None


def _general(text: str) -> bool:
    return any(words in text for words in _GENERAL)


def _plain(line: str) -> str:
    """A log line without process, level, time and place in front."""
    return re.sub(r"^.*?\[[\w./]+:\d+\]\s*", "", line).strip()[:400]
