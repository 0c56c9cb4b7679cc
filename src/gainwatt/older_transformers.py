"""Checkpoints saved by transformers 5, shown to transformers 4.

transformers 4 ignores what it does not know: without a translation it would read a model's rotary base as 10,000
whatever the file says, and compute something else without a word.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.errors import InputError

_DEFAULT_ROPE = ("default", None)


def is_older() -> bool:
    """Whether the installed transformers is of version 4 or before."""
    import transformers

    return int(transformers.__version__.split(".")[0]) < 5


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[Path]:
    """A folder that the installed transformers reads rightly: `folder` itself, or a translated view of it.

    The view lives as long as the block; its weights are links. Raises InputError for what version 4 cannot express.
    """
    if not is_older():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gainwatt-view-") as name:
        view = Path(name)
        for path in folder.iterdir():
            if path.is_file():
                (view / path.name).symlink_to(path.resolve())
        _translate(folder, view, "config.json", older_config)
        _translate(folder, view, "tokenizer_config.json", older_tokenizer_config)
        yield view


def _translate(folder: Path, view: Path, name: str, translation: Any) -> None:
    source = folder / name
    if not source.exists():
        return
    try:
        content = translation(json.loads(source.read_text(encoding="utf-8")))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"cannot read {source}: {error}", "give the folder of a saved model") from error
    (view / name).unlink()
    (view / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """config.json of version 5 in the words of version 4; what already is in those is left alone."""
    found = dict(config)
    if "dtype" in found:
        found.setdefault("torch_dtype", found.pop("dtype"))
    rope = found.pop("rope_parameters", None)
    if rope is None:
        return found
    if any(isinstance(value, dict) for value in rope.values()):
        raise InputError(
            "the model's rotary embeddings differ by kind of layer, which transformers 4 cannot read from this "
            "configuration",
            "leave this scheme out of quantize.schemes for this model",
        )
    rope = dict(rope)
    theta = rope.pop("rope_theta", None)
    if theta is not None:
        found.setdefault("rope_theta", theta)
    if rope.get("rope_type") not in _DEFAULT_ROPE:
        found.setdefault("rope_scaling", rope)
    return found


def older_tokenizer_config(config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json of version 5 in the words of version 4."""
    found = dict(config)
    if found.get("tokenizer_class") == "TokenizersBackend":
        found["tokenizer_class"] = "PreTrainedTokenizerFast"
    extra = found.get("extra_special_tokens")
    if isinstance(extra, list):
        del found["extra_special_tokens"]
        found.setdefault("additional_special_tokens", extra)
    return found
