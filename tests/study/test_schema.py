"""The generated schema and key list are what the model says, and are committed."""

from __future__ import annotations

import json

import yaml

from factories import ROOT
from gainwatt.study import schema


def keys(model: dict, defs: dict, path: str = "") -> set[str]:
    found = set()
    for name, field in model["properties"].items():
        dotted = f"{path}.{name}" if path else name
        found.add(dotted)
        for choice in (field, *field.get("anyOf", [])):
            inner = defs.get(choice.get("$ref", "").rpartition("/")[2], {})
            if "properties" in inner:
                found |= keys(inner, defs, dotted)
    return found


def test_the_committed_schema_is_current():
    committed = (ROOT / schema.SCHEMA_PATH).read_text("utf-8")
    assert committed == schema.schema_text(), "run `python -m gainwatt.study.schema --write`"


def test_the_committed_key_list_is_current():
    committed = (ROOT / schema.README_PATH).read_text("utf-8")
    assert committed == schema.readme_text(), "run `python -m gainwatt.study.schema --write`"


def test_every_key_is_described_and_unknown_keys_are_refused():
    whole = schema.study_schema()
    for name, section in [("study", whole), *whole["$defs"].items()]:
        assert section["additionalProperties"] is False, name
        for key, field in section["properties"].items():
            assert field.get("description") or "$ref" in field, f"{name}.{key}"


def test_the_key_list_names_every_section_and_key():
    text = schema.readme_text()
    whole = schema.study_schema()
    for dotted in keys(whole, whole["$defs"]):
        assert f"| `{dotted.rpartition('.')[2]}` |" in text
        section = dotted.rpartition(".")[0]
        assert not section or f"`{section}`" in text


def test_rows_show_type_default_and_limits():
    text = schema.readme_text()
    assert "| `num_generations` | integer >= 2 | `8` | Completions per prompt: the group size. |" in text
    assert "| `pue` | number >= 1 and <= 3 | `1.0` |" in text
    assert '| `dtype` | `fp32` or `bf16` or `fp16` | `"bf16"` |' in text
    assert "| `epsilon_high` | number > 0, none | none |" in text
    assert '| `light` | section | when left out as a whole: `{"mem_mb": 4000, "runtime_min": 30}` |' in text
    assert "| `source` | text | **required** |" in text


def test_committed_studies_use_only_keys_of_the_schema():
    whole = schema.study_schema()
    known = keys(whole, whole["$defs"])

    def used(tree: dict, path: str = "") -> set[str]:
        found = set()
        for name, value in tree.items():
            dotted = f"{path}.{name}" if path else name
            found.add(dotted)
            if isinstance(value, dict) and dotted != "environments":
                found |= used(value, dotted)
        return found

    for file in sorted((ROOT / "config").glob("*.yaml")):
        assert used(yaml.safe_load(file.read_text("utf-8"))) <= known, file


def test_command_line_prints_and_writes(tmp_path, monkeypatch, capsys):
    assert schema.main([]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Study"
    monkeypatch.chdir(tmp_path)
    assert schema.main(["--write"]) == 0
    assert (tmp_path / schema.SCHEMA_PATH).read_text("utf-8") == schema.schema_text()
    assert (tmp_path / schema.README_PATH).read_text("utf-8") == schema.readme_text()
