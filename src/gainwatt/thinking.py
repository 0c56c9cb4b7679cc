"""The thinking of a model switched on or off in the chat template of its checkpoint.

Chat templates of models that can think before they answer read a variable `enable_thinking` (Qwen3, SmolLM3, …). Set
in the template itself it holds for everything that is asked of the checkpoint: training, calibration, evaluation and
every server, and the checkpoint's hash knows it.
"""

from __future__ import annotations

import json
from pathlib import Path

from gainwatt.atomic import write_text
from gainwatt.errors import InputError

SWITCH = "enable_thinking"


def set_thinking(folder: Path, *, on: bool) -> None:
    """Write into the chat template of the checkpoint in `folder` that the model thinks, or does not.

    The changed template is chat_template.jinja, which counts before the one in tokenizer_config.json. Raises
    InputError where there is no template, or none that knows the switch.
    """
    template = _template(folder)
    if SWITCH not in template:
        raise InputError(
            f"model.thinking is set, but the chat template in {folder} knows no {SWITCH!r}",
            "leave model.thinking out: this model has no such switch",
        )
    # The empty expression keeps a line break with which the template may begin: behind a block it would be dropped.
    write_text(folder / "chat_template.jinja", f"{{% set {SWITCH} = {str(on).lower()} %}}{{{{ '' }}}}{template}")


def linked_copy(source: Path, folder: Path) -> None:
    """Links in `folder` to the files of the checkpoint in `source`; its chat template becomes a file of its own."""
    for file in sorted(source.glob("*")):
        if file.is_file() and file.name == "chat_template.jinja":
            write_text(folder / file.name, file.read_text(encoding="utf-8"))
        elif file.is_file():
            (folder / file.name).symlink_to(file.resolve())


def _template(folder: Path) -> str:
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    try:
        if own.exists():
            return own.read_text(encoding="utf-8")
        found = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"cannot read the chat template in {folder}: {error}", "check the checkpoint folder"
        ) from error
    if not isinstance(found, str):
        raise InputError(
            f"the checkpoint in {folder} has no single chat template", "add the one to use as chat_template.jinja"
        )
    return found
