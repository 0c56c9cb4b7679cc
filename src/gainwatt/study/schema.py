"""The study's keys for editors and for people: JSON schema and config/README.md, both from the model itself.

python -m gainwatt.study.schema            print the JSON schema
python -m gainwatt.study.schema --write    write workflow/schemas/study.schema.json and config/README.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_text
from gainwatt.study.model import Study

SCHEMA_PATH = Path("workflow/schemas/study.schema.json")
README_PATH = Path("config/README.md")

_INTRODUCTION = """\
# Studies

One YAML file is one study. `demo.yaml` runs on a CPU without any download; `qwen2.5-0.5b.yaml` and
`qwen2.5-1.5b.yaml` are the real ones. Start a study of your own from the nearest of them: a key that is left out takes
the default below, and a key that does not exist, a value of a wrong type or a missing folder is an error before any
job starts.

    make run STUDY=demo                                                    # config/demo.yaml
    snakemake --cores 2 --config study=my/study.yaml                       # any other file
    snakemake --cores 2 --config study=my/study.yaml 'set=["evaluate.batch_size=8"]'
    python scripts/make_tables.py --study my/study.yaml --set cost.pue=1.2 # one script by hand

An editor that understands JSON schema completes and checks the keys after this first line:

    # yaml-language-server: $schema=../workflow/schemas/study.schema.json

PyYAML reads `1e-6` as text and `1.0e-6` as a number; both are accepted where a number is asked for.

Everything below is written by `python -m gainwatt.study.schema --write` from the model in `src/gainwatt/study/`.
"""


def study_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a study file; the fields' docstrings are the descriptions."""
    schema = Study.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The content of `SCHEMA_PATH`."""
    return json.dumps(study_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def readme_text() -> str:
    """The content of `README_PATH`: an introduction, then every key with type, default and meaning."""
    schema = study_schema()
    places: dict[str, list[str]] = {}
    found: dict[str, dict[str, Any]] = {}
    for path, section in _sections(schema, schema["$defs"], ""):
        places.setdefault(section["title"], []).append(path)
        found[section["title"]] = section
    tables = [_table(paths, found[title], schema["$defs"]) for title, paths in places.items()]
    return "\n".join([_INTRODUCTION, *tables])


def _sections(node: dict[str, Any], defs: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The study and each of its sections, depth first, with their dotted paths."""
    yield path, node
    for name, field in node["properties"].items():
        inner = _section_of(field, defs)
        if inner is not None:
            yield from _sections(inner, defs, f"{path}.{name}" if path else name)


def _section_of(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any] | None:
    for choice in (field, *field.get("anyOf", [])):
        if "$ref" in choice:
            found = defs[choice["$ref"].rpartition("/")[2]]
            return found if "properties" in found else None
    return None


def _table(paths: list[str], section: dict[str, Any], defs: dict[str, Any]) -> str:
    heading = "## " + (", ".join(f"`{path}`" for path in paths) if paths[0] else "Top level")
    lines = [heading, "", _one_line(section.get("description", "")), ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    required = section.get("required", [])
    for name, field in section["properties"].items():
        inner = _section_of(field, defs)
        kind = _type(field) if inner is None else "section" + (", none" if "anyOf" in field else "")
        default = "**required**" if name in required else _default(field, inner)
        # pydantic leaves a description out where it repeats the section's own.
        meaning = _one_line(field.get("description") or (inner or {}).get("description", ""))
        cells = (f"`{name}`", kind, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: dict[str, Any], inner: dict[str, Any] | None) -> str:
    value = field.get("default")
    if inner is not None and value is not None:
        own = {name: known for name, known in value.items() if known != inner["properties"][name].get("default")}
        own = {name: known for name, known in own.items() if not isinstance(known, dict)}
        return f"when left out as a whole: `{_plain(own)}`" if own else "its own defaults"
    if value is None:
        return "none" if "anyOf" in field else "empty"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return _one_line(json.dumps(value, ensure_ascii=False))


def _type(field: dict[str, Any]) -> str:
    """A field's type and limits in words, e.g. `integer >= 1, none`."""
    if "anyOf" in field:
        return ", ".join(_type(choice) for choice in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    kind = str(field.get("type", "any"))
    if kind == "null":
        return "none"
    if kind == "array":
        return f"list of {_type(field['items'])}" + (" (one or more)" if field.get("minItems") else "")
    if kind == "object":
        return f"mapping of text to {_type(field['additionalProperties'])}"
    limits = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    if "pattern" in field:
        return f"text that matches `{field['pattern']}`, at most {field['maxLength']} characters"
    words = " and ".join(f"{sign} {field[name]:g}" for name, sign in limits if name in field)
    return {"string": "text", "boolean": "true or false"}.get(kind, kind) + (f" {words}" if words else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {SCHEMA_PATH} and {README_PATH}")
    args = parser.parse_args(argv)
    if args.write:
        write_text(SCHEMA_PATH, schema_text())
        write_text(README_PATH, readme_text())
    else:
        sys.stdout.write(schema_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
