"""The prompts of each suite: built-in ones, files, and combinations drawn from templates."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from gainwatt.errors import InputError
from gainwatt.llamacpp.prompts import MANUAL, TEMPLATES
from gainwatt.study.llamacpp import SUITES, LlamaCpp, PromptTemplate

MANUAL_TEMPLATE = "manual"
"""What stands for a template in a prompt that was written by hand."""


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite; `template` names the template that it was made of."""

    suite: str
    id: str
    text: str
    template: str


def prompts_of(section: LlamaCpp) -> list[Prompt]:
    """Every prompt that the study runs, suite by suite.

    Raises InputError naming the file and line of a prompt that cannot be used, and a suite that is left without any.
    """
    found: list[Prompt] = []
    for given, name in zip(section.suites, section.suite_names, strict=True):
        own = _manual(given, name) if section.prompt_source != "auto" else []
        drawn = _drawn(section, name) if section.prompt_source != "manual" else []
        if not own and not drawn:
            raise InputError(
                f"the suite {name!r} has no prompts with llamacpp.prompt_source = {section.prompt_source}",
                "name a template for it, or set llamacpp.prompt_source to manual",
            )
        found += [*own, *drawn]
    ids = [prompt.id for prompt in found]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two prompts are called {twice!r}", "give every prompt an id of its own")
    return found


def prompts_sha256(prompts: list[Prompt]) -> str:
    """SHA-256 of all prompts in their order."""
    return hashlib.sha256(json.dumps([asdict(prompt) for prompt in prompts]).encode()).hexdigest()


def _manual(given: str, name: str) -> list[Prompt]:
    if given in SUITES:
        return [Prompt(name, f"{name}-{i}", text, MANUAL_TEMPLATE) for i, text in enumerate(MANUAL[given], 1)]
    return read_prompts(Path(given))


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a JSON-lines file {"id", "text", "template"}, of the suite that the file is named after.

    `template` may be left out. Raises InputError naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the prompts {path}: {error.strerror}", "check llamacpp.suites") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a UTF-8 text file", "check llamacpp.suites") from error
    found = [_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{path} holds no prompt", 'write a line {"id": "a-1", "text": "…"} for each')
    return found


def _line(path: Path, number: int, line: str) -> Prompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number} is not JSON: {error}", "correct that line") from error
    wanted = {"id": str, "text": str}
    wrong = [key for key, kind in wanted.items() if not (isinstance(row, dict) and isinstance(row.get(key), kind))]
    if wrong or not row["text"].strip() or set(row) - {"id", "text", "template"}:
        raise InputError(
            f'{path}, line {number} is no prompt: it needs "id" and "text", and may have "template"',
            "correct that line",
        )
    return Prompt(path.stem, row["id"], row["text"], str(row.get("template") or MANUAL_TEMPLATE))


def _drawn(section: LlamaCpp, suite: str) -> list[Prompt]:
    if section.templates is None:
        if suite not in TEMPLATES:
            return []
        text, variables = TEMPLATES[suite]
        templates = [PromptTemplate(name=f"{suite}-auto", suite=suite, text=text, variables=variables)]
    else:
        templates = [template for template in section.templates if template.suite == suite]
    return [prompt for template in templates for prompt in draw(template, section.template_seed)]


def draw(template: PromptTemplate, seed: int) -> list[Prompt]:
    """`count` combinations of the variables, drawn without replacement; all of them where there are fewer.

    The draw depends on the seed and the template's name alone: another template beside it changes nothing.
    """
    text = template.text if template.text is not None else _template_text(template)
    names = sorted(template.variables)
    every = list(itertools.product(*(template.variables[name] for name in names)))
    if len(every) > template.count:
        places = sorted(random.Random(f"{seed} {template.name}").sample(range(len(every)), template.count))  # noqa: S311
        every = [every[place] for place in places]
    return [
        Prompt(template.suite, f"{template.name}-{number}", _fill(text, dict(zip(names, values, strict=True))),
               template.name)
        for number, values in enumerate(every, 1)
    ]  # fmt: skip


def _template_text(template: PromptTemplate) -> str:
    path = Path(str(template.file))
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the template {path}: {error}", "check llamacpp.templates") from error
    lacking = [name for name in template.variables if f"{{{name}}}" not in text]
    if lacking:
        raise InputError(f"the template {path} does not hold {{{lacking[0]}}}", "correct the file or the variables")
    return text


def _fill(text: str, values: dict[str, str]) -> str:
    """Put values in place of `{name}` in one pass; other braces, also in values, belong to the text."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda found: values[found[0][1:-1]], text)
