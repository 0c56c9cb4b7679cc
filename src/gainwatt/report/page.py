"""From material to the text of the page: one file that needs no other and may talk to nobody."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

from gainwatt.report import formats
from gainwatt.report.charts import STATUS_TEXTS
from gainwatt.report.findings import counts, differing
from gainwatt.report.material import Material
from gainwatt.report.rowchart import symbol
from gainwatt.report.sections import Builder, counted
from gainwatt.report.verdict import Answer, answer


@cache
def asset(name: str) -> str:
    """A style sheet, script or template of the package."""
    return (resources.files("gainwatt.report") / "assets" / name).read_text(encoding="utf-8")


def content_security_policy(style: str, script: str) -> str:
    """A policy that allows this style sheet, this script and embedded pictures, and nothing else from anywhere."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def embedded_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: no `<`, `>`, `&`, and no line end that JavaScript would see."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing is left in it that HTML would read


def render(template: str, script: str, style: str, **values: Any) -> str:
    """Fill a template; style sheet and script are put in as they are, everything else is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals |= {
        "policy": content_security_policy(style, script),
        "style": Markup(style),  # noqa: S704 - a file of this package
        "script": Markup(script),  # noqa: S704 - a file of this package
        "counted": counted,
        "status_texts": STATUS_TEXTS,
        "number": formats.number,
        "symbol": symbol,
        "package_names": lambda facts: [fact.name for fact in facts if fact.name.startswith("package ")],
        "NULL": formats.NULL,
    }
    return environment.get_template(template).render(**values)


def report_page(material: Material, commands: list[str], items_page: str | None) -> str:
    """The text of report.html; `commands` make it again, `items_page` is the file name of the page of items."""
    study = material.study
    builder = Builder(material)
    sections = builder.sections()
    counts_of = {source.anchor: len(source.records) for source in builder.sources}

    def origin_of(anchor: str, stages: tuple[str, ...]) -> str:
        stages = next((source.stages for source in builder.sources if source.anchor == anchor), stages)
        return counted(counts_of.get(anchor, len(material.of(stages))), stages)

    started = sorted(str(r["started_at"])[:10] for r in material.all_records() if r.get("started_at"))
    return render(
        "report.html.j2",
        asset("common.js") + asset("report.js"),
        asset("base.css") + asset("report.css"),
        study=study,
        answer=answer_of(material),
        sections=sections,
        records=sum(len(records) for records in material.records.values()),
        made=list(dict.fromkeys([started[0], started[-1]])) if started else [],
        findings=counts(material),
        differing=differing(material),
        stale=material.stale,
        missing=material.missing,
        problems=material.problems,
        commands=commands,
        items_page=items_page,
        origin_of=origin_of,
        cost_sentence=cost_sentence(material),
    )


def answer_of(material: Material) -> Answer:
    """The answer from the tables; where cells were measured and no table says so, that is what is said."""
    found = answer(
        material.study, material.rows("gain_survival"), material.rows("accuracy_matrix"), material.rows("gains")
    )
    if "accuracy_matrix" in material.tables or not material.records.get("evaluate_gsm8k"):
        return found
    return replace(found, headline="Not answered: the tables have not been made from the records (run make_tables).")


def cost_sentence(material: Material) -> str:
    """What a correct answer of the trained model costs at the reference and under the cheapest scheme."""
    rows = [row for row in material.rows("cost_per_correct") if row["variant"] != "base"]
    for key, text_of in (("gross_j_per_correct", formats.joules), ("s_per_correct", formats.seconds)):
        known = [row for row in rows if formats.is_number(row.get(key))]
        if not known:
            continue
        least, most = min(known, key=lambda row: row[key]), max(known, key=lambda row: row[key])
        what = "Gross energy" if key.startswith("gross") else "Time"
        if least is most:
            return f"{what} per correct answer: {text_of(least[key])} ({least['variant']}, {least['scheme']})."
        return (
            f"{what} per correct answer of a trained model: from {text_of(least[key])} ({least['variant']}, "
            f"{least['scheme']}) to {text_of(most[key])} ({most['variant']}, {most['scheme']})."
        )
    return ""
