"""Which files of a checkpoint folder hold its weights; only the standard library is needed.

A folder may hold other safetensors beside them: a copy in another layout (`consolidated.safetensors`), an adapter.
transformers reads those that `model.safetensors.index.json` names, else `model.safetensors`, and so does this.
"""

from __future__ import annotations

import json
from pathlib import Path

from gainwatt.errors import InputError

SINGLE = "model.safetensors"
INDEX = f"{SINGLE}.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the checkpoint in `folder`, sorted; all that are there where none has a usual name.

    An unsharded copy beside the shards counts too: which of the two is meant is not known. Raises InputError for an
    index that cannot be read, and naming a shard that it names and that is not there.
    """
    there = sorted(folder.glob("*.safetensors"))
    index = folder / INDEX
    if not index.exists():
        return [path for path in there if path.name == SINGLE] or there
    named = _named(index)
    for name in sorted(named - {path.name for path in there}):
        raise InputError(
            f"{index} names the file {name}, which is not there: the checkpoint is incomplete",
            "bring the missing file, or bring or make the checkpoint again",
        )
    return [path for path in there if path.name in named | {SINGLE}]


def _named(index: Path) -> set[str]:
    try:
        return {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read {index}: {type(error).__name__}: {error}", "bring or make the checkpoint again"
        ) from error
