"""Read a study file: strict YAML, overrides, and errors that name the key, the file and the closest valid key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gainwatt.errors import InputError
from gainwatt.study.llamacpp import local_paths as llamacpp_paths
from gainwatt.study.model import Study, hub_id, is_hub


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently keep the last one."""


def _no_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key in line {line} is no plain word", key_node.start_mark
            )
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # construct_mapping merges; keys of the mapping itself may replace merged ones
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"the key {key!r} stands in line {seen[key]} and again in line {line}",
                key_node.start_mark,
            )
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)


def load_study(path: Path | str, overrides: tuple[str, ...] | list[str] = (), *, check_paths: bool = True) -> Study:
    """Load and check the study at `path`; `overrides` are `section.key=value` strings applied on top.

    Raises InputError that names the file and the key for: a missing file, broken YAML, a key given twice, an unknown
    key (with the closest valid one), a wrong type or value, a scheme that does not exist, and, with `check_paths`,
    a source folder or interpreter that is not there.
    """
    path = Path(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error, path), "correct the study file; config/README.md lists every key") from error
    if check_paths:
        _check_sources(study, path)
    return study


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the study {path}: {error.strerror}", "give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the study {path} is not a UTF-8 text file", "give the path of a YAML file") from error
    try:
        # The loader is a SafeLoader: it makes plain values only.
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InputError(f"the study {path} is not valid YAML: {error}", "correct that line") from error
    if not isinstance(tree, dict):
        raise InputError(f"the study {path} does not hold a mapping of keys to values", "start from config/demo.yaml")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    if not separator or not dotted:
        raise InputError(f"cannot read the override {override!r}", "write --set section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"the value of the override {override!r} is not valid YAML", "quote it") from error
    *parents, last = dotted.split(".")
    for key in parents:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InputError(f"the override {override!r} goes through {key!r}, which is not a section", "check the key")
        tree = inner
    tree[last] = value


def _explain(error: ValidationError, path: Path) -> str:
    lines = [f"the study {path} has {error.error_count()} error(s):"]
    for item in error.errors():
        where = "".join(f"{'.' if place else ''}{part}" for place, part in enumerate(item["loc"]))
        where = f"{where}: " if where else ""
        if item["type"] == "extra_forbidden":
            lines.append(f"  {where}there is no such key{_closest(item['loc'])}")
        else:
            given = "" if isinstance(item.get("input"), dict | BaseModel) else f" (given: {item.get('input')!r})"
            lines.append(f"  {where}{item['msg'].removeprefix('Value error, ')}{given}")
    return "\n".join(lines)


def _closest(location: tuple[int | str, ...]) -> str:
    """Name the valid key nearest to the last part of `location`, looked for in its own section first."""
    section: type[BaseModel] | None = Study
    for part in location[:-1]:
        section = _section_at(section, str(part)) if section else None
    own = list(section.model_fields) if section else []
    wrong = str(location[-1])
    near = difflib.get_close_matches(wrong, own, n=1, cutoff=0.8)
    if near:
        return f"; did you mean {near[0]!r}?"
    for name, field in Study.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and wrong in inner.model_fields:
            return f"; {wrong!r} is a key of the section {name!r}"
    near = difflib.get_close_matches(wrong, own, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid keys here: {', '.join(own)}" if own else ""


def _section_at(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = section.model_fields.get(name)
    if field is None:
        return None
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _check_sources(study: Study, path: Path) -> None:
    for key, source, wanted in (
        ("data.source", study.data.source, "train.jsonl and test.jsonl"),
        ("model.source", study.model.source, "config.json and *.safetensors"),
    ):
        if is_hub(source):
            try:
                hub_id(source)
            except InputError as error:
                raise InputError(f"the study {path} names {key}: {error.what}", error.hint) from error
        elif source != "embedded" and not Path(source).is_dir():
            raise InputError(
                f"the study {path} names {key}: {source}, and there is no such folder",
                f"give a folder with {wanted}, hub:ORG/NAME, or embedded",
            )
    _check_texts(study, path)
    for name, interpreter in study.environments.items():
        if not Path(interpreter).is_file():
            raise InputError(
                f"the study {path} names environments.{name}: {interpreter}, and there is no such file",
                f"give the path of a python, or remove the line and run `make env NAME={name}`",
            )


def _check_texts(study: Study, path: Path) -> None:
    """Files that `perplexity`, `tasks` and `heads` name."""
    named = {}
    if study.perplexity and not study.perplexity.corpus.startswith(("data:", "hub:")):
        named["perplexity.corpus"] = study.perplexity.corpus
    if study.tasks and study.tasks.include_path:
        named["tasks.include_path"] = study.tasks.include_path
    if study.tasks:
        named |= {f"tasks.local_data.{name}": folder for name, folder in study.tasks.local_data.items()}
    if study.llamacpp:
        named |= llamacpp_paths(study.llamacpp)
    if study.heads:
        named |= study.heads.files()
    for key, place in named.items():
        if not Path(place).exists():
            raise InputError(
                f"the study {path} names {key}: {place}, and there is no such file or folder", "correct the path"
            )
