"""Make the report of a study, one page that opens offline, from its records, tables and figures: no GPU, no model.

Writes report.html and, beside it, items.html: the items that changed between two cells. What is missing is named in the
page with the reason; the same records, tables and figures give the same bytes.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from gainwatt import cli
from gainwatt.atomic import write_text
from gainwatt.report.items import items_page
from gainwatt.report.material import Material
from gainwatt.report.page import report_page
from gainwatt.study import Layout, Study
from gainwatt.workflow import OVERRIDES_VARIABLE

SCRIPTS = ("validate", "make_tables", "make_figures", "make_report")


def commands(study_file: Path, overrides: list[str]) -> list[str]:
    """What makes tables, figures and report again from the records, line by line."""
    options = shlex.join(["--study", str(study_file), *(word for entry in overrides for word in ("--set", entry))])
    return [f"python scripts/{name}.py {options}" for name in SCRIPTS]


def make(study: Study, layout: Layout, out: Path, study_file: Path, overrides: list[str]) -> Path:
    """Write both pages; returns the path of the items page."""
    material = Material.read(study, layout, str(study_file))
    items = out.with_name("items.html") if out.name != "items.html" else out.with_name("report-items.html")
    write_text(items, items_page(material, out.name))
    write_text(out, report_page(material, commands(study_file, overrides), items.name if study.matrix else None))
    return items


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="page to write (default: report.html of the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    overrides = args.overrides
    if overrides is None:
        overrides = json.loads(os.environ.get(OVERRIDES_VARIABLE, "[]"))
    out = args.out or layout.results / "report.html"
    items = make(study, layout, out, args.study, overrides)
    print(f"report   {out}\nitems    {items}")
    return 0


if __name__ == "__main__":
    cli.run(main)
