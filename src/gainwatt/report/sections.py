"""The sections of the report in their order; one that has nothing to show says what is missing and why."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from gainwatt.report import charts, curves
from gainwatt.report.blocks import Section, grid, picture
from gainwatt.report.charts import Chart
from gainwatt.report.energy import energy_facts
from gainwatt.report.environment import environment_facts
from gainwatt.report.formats import number
from gainwatt.report.material import Material
from gainwatt.report.provenance import Source, record_view, source
from gainwatt.report.registry import ELSEWHERE, FIGURES, SECTIONS, TABLES
from gainwatt.report.settings import settings_groups
from gainwatt.report.specs import TableSpec
from gainwatt.report.tables import view
from gainwatt.study.branches import BRANCHES

MAX_SVG_BYTES = 400_000
OF_MATRIX = ("matrix", "survival", "cost", "training")
"""Sections that begin with what a study without matrix never has: it misses neither them nor their tables."""


class Builder:
    """Builds the sections of one report and keeps account of where each table and figure came from."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.sources: list[Source] = []

    def sections(self) -> list[Section]:
        """Every section that has something to say."""
        made = []
        for key in SECTIONS:
            section = Section(key)
            if self.material.study.matrix or key not in OF_MATRIX:
                self._START.get(key, Builder._nothing)(self, section)
            if key not in self._OWN:
                self._figures(section)
                self._tables(section)
            if section.blocks:
                made.append(section)
        return made

    def _nothing(self, section: Section) -> None:
        """A section that holds only its tables and figures."""

    def _matrix(self, section: Section) -> None:
        rows = self.material.rows("accuracy_matrix")
        if rows:
            section.add("matrix", grid(self.material))
        self._chart(section, charts.accuracy(self.material.study, rows))

    def _survival(self, section: Section) -> None:
        rows = self.material.rows("gain_survival")
        self._chart(section, charts.survival(rows, self.material.study.statistics.survival_margin))
        if self.material.rows("paired_quant_effect") or self.material.rows("gains"):
            section.add("items_link", None)

    def _cost(self, section: Section) -> None:
        rows = self.material.rows("cost_per_correct")
        for chart in charts.costs(self.material.study, rows):
            self._chart(section, chart)
        if rows and not any(row.get("gross_j_per_correct") is not None for row in rows):
            section.add("message", "Joules per correct answer were not measured: the reason is below the table.")
        if rows and not any(
            row.get(k) for row in rows for k in ("machine_usd_per_correct", "electricity_usd_per_correct")
        ):
            cost = self.material.study.cost
            missing = [name for name in ("electricity_usd_per_kwh", "machine_usd_per_h") if getattr(cost, name) is None]
            if missing:
                section.add("message", f"Dollars are null: the study gives no price (cost.{', cost.'.join(missing)}).")

    def _energy(self, section: Section) -> None:
        facts = energy_facts(list(self.material.all_records()))
        section.add("energy", facts)
        self._chart(section, charts.energy(self.material.rows("energy_by_job")))

    def _training(self, section: Section) -> None:
        drawn, reasons = curves.curves(self.material.records.get("train_grpo", []))
        for chart in drawn:
            self._account(chart)
        if drawn:
            section.add("charts", drawn)
        for reason in reasons:
            section.add("message", reason)

    def _environment(self, section: Section) -> None:
        facts = environment_facts(list(self.material.all_records()))
        section.add(*(("environment", facts) if facts else ("message", "There is no record yet that names a machine.")))

    def _findings(self, section: Section) -> None:
        from gainwatt.report.findings import findings_blocks

        section.blocks += findings_blocks(self.material)

    def _provenance(self, section: Section) -> None:
        if self.sources:
            section.add("sources", self.sources)
        records = list(self.material.all_records())
        if records:
            section.add("table", record_view(records))
        else:
            section.add("message", f"There is no record under {self.material.layout.results / 'records'}.")

    def _settings(self, section: Section) -> None:
        section.add("settings", settings_groups(self.material.study))

    def _chart(self, section: Section, chart: Chart | None) -> None:
        if chart is not None:
            self._account(chart)
            section.add("chart", chart)

    def _account(self, chart: Chart) -> None:
        table = self.material.tables.get(chart.source)
        file = f"tables/{chart.source}.csv" if table else ""
        stages = chart.stages or ("evaluate_gsm8k",)
        made = source(self.material, f"figure-{chart.key}", f"Figure: {chart.title}", file,
                      table.sha256 if table else "", stages)  # fmt: skip
        self.sources.append(made)

    def _figures(self, section: Section) -> None:
        for name, entry in self.material.figures.items():
            place, title, help_text = FIGURES.get(name, ("appendix", name.replace("_", " ").capitalize(), ""))
            if place != section.id:
                continue
            self._figure(section, name, entry, title, help_text)

    def _figure(self, section: Section, name: str, entry: dict[str, object], title: str, help_text: str) -> None:
        listed = entry.get("files")
        files = [str(file) for file in listed] if isinstance(listed, list) else []
        title, help_text = str(entry.get("title") or title), str(entry.get("caption") or help_text)
        if not files and not self._missed(section, str(entry.get("made_from"))):
            return
        if not files:
            section.add("message", f"Figure “{title}”: {entry.get('reason') or 'it was not drawn'}.")
            return
        path, content = figure_file(self.material.layout.figures, files)
        if not content:
            shown = self.material.relative(path)
            section.add("message", f"Figure “{title}”: {shown} cannot be read; run make_figures again.")
            return
        made_from = entry.get("made_from")
        given = [str(stage) for stage in made_from] if isinstance(made_from, list) else [str(made_from)]
        stages = tuple(stage for stage in given if stage in self.material.records) or ("*",)
        named = entry.get("records")
        only = [record_path(found) for found in named] if isinstance(named, list) else []
        alt = str(entry.get("alt") or f"{title}. {help_text}")
        section.add("picture", picture(name, title, help_text, alt, content, path.suffix[1:], stages))
        sha256 = hashlib.sha256(content).hexdigest()
        self.sources.append(
            source(
                self.material, f"figure-{name}", f"Figure: {title}", self.material.relative(path), sha256, stages, only
            )
        )

    def _tables(self, section: Section) -> None:
        for spec in TABLES:
            if spec.section == section.id:
                self._table(section, spec)
        if section.id == "appendix":
            known = {spec.source for spec in TABLES} | ELSEWHERE
            for name in self.material.tables:
                if name not in known:
                    title = name.replace("_", " ").capitalize()
                    self._table(section, TableSpec(name, "appendix", title, "", stages=("*",)))

    def _missed(self, section: Section, stage: str = "") -> bool:
        """Whether a reader misses what is not there: a study without matrix asks for its optional branches alone."""
        inside = (*OF_MATRIX, "weights", "energy") if stage else (*OF_MATRIX, "weights")
        return self.material.study.matrix or stage in BRANCHES or section.id not in inside

    def _table(self, section: Section, spec: TableSpec) -> None:
        table = self.material.tables.get(spec.source)
        if table is None:
            if not spec.optional and self._missed(section):
                section.add("message", f"Table “{spec.title}”: tables/{spec.source}.csv is not there; run make_tables.")
            return
        if not table.rows and (spec.optional or not self._missed(section)):
            return
        if not table.rows:
            section.add("message", f"Table “{spec.title}”: {spec.empty}")
            return
        shown = view(spec, table)
        section.add("table", shown)
        self.sources.append(
            source(self.material, f"table-{spec.key}", f"Table: {spec.title}", f"tables/{spec.source}.csv",
                   table.sha256, spec.stages)
        )  # fmt: skip

    _START: ClassVar[dict[str, Callable[[Builder, Section], None]]] = {
        "matrix": _matrix,
        "survival": _survival,
        "cost": _cost,
        "energy": _energy,
        "training": _training,
        "environment": _environment,
        "findings": _findings,
        "provenance": _provenance,
        "settings": _settings,
    }
    _OWN = ("environment", "findings", "provenance", "settings")


def record_path(found: object) -> str:
    """The path of a record as the index of figures names it."""
    return str(found.get("path")) if isinstance(found, dict) else str(found)


def figure_file(folder: Path, files: list[str]) -> tuple[Path, bytes]:
    """The figure's SVG, or its PNG where the SVG is large or not there; no bytes where neither can be read."""
    usable = [folder / file for file in files if Path(file).name == file and Path(file).suffix in (".svg", ".png")]
    found: list[tuple[Path, bytes]] = []
    for path in sorted(usable, key=lambda path: path.suffix != ".svg"):
        with contextlib.suppress(OSError):
            found.append((path, path.read_bytes()))
    small = [entry for entry in found if len(entry[1]) <= MAX_SVG_BYTES]
    return next(iter([*small, *found]), (folder / files[0], b""))


def counted(records: int, stages: tuple[str, ...]) -> str:
    """`9 records of evaluate_gsm8k`."""
    of = "" if "*" in stages else " of " + ", ".join(stages)
    return f"{number(records)} record{'' if records == 1 else 's'}{of}"
