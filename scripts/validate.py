"""Check every record of a study against named expectations, and say which file, what is wrong and what to do.

Writes validation.csv to the study's tables folder, also when there is nothing to find. Ends with code 3 where an
expectation of the severity `error` is not met (with --strict also for a warning). Measures nothing, needs no GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gainwatt import cli
from gainwatt.atomic import write_json
from gainwatt.errors import RecordError
from gainwatt.record import file_sha256
from gainwatt.study import Layout, Study
from gainwatt.validation import ERROR, EXPECTATIONS, INFO, Finding, validate
from gainwatt.validation.findings import as_text, counted, read_findings, write_findings


def as_list() -> str:
    """Every expectation: severity, name, what it expects, and where its threshold is from."""
    width = max(map(len, EXPECTATIONS))
    lines = []
    for name, expectation in EXPECTATIONS.items():
        lines.append(f"{expectation.severity:8}{name:{width}}  {expectation.description}")
        lines.append(f"{'':{8 + width}}  threshold: {expectation.source}")
    return "\n".join(lines) + f"\n{len(EXPECTATIONS)} expectations; the severity is that of the usual miss\n"


def judge(findings: list[Finding], where: Path, *, strict: bool) -> None:
    """Raise RecordError where a finding fails the run: an error, or with `strict` a warning as well."""
    failing = [found for found in findings if found.severity == ERROR or (strict and found.severity != INFO)]
    if not failing:
        return
    first = failing[0]
    also = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
    raise RecordError(
        f"the records do not meet {first.check}: {first.file or 'the study'}: {first.what}{also}",
        f"{first.hint}; every finding is in {where}",
    )


def findings_of(study: Study, layout: Layout, args: argparse.Namespace, out: Path) -> list[Finding]:
    """Findings of the records, written to `out`; with --findings those that were written before."""
    if args.findings is not None:
        return read_findings(args.findings)
    found = validate(study, layout)
    write_findings(out, found)
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="table to write (default: tables/validation.csv)")
    parser.add_argument("--list", action=_List, nargs=0, help="list every expectation and its threshold, and end")
    parser.add_argument("--strict", action="store_true", help="a warning fails as an error does")
    parser.add_argument(
        "--report-only", action="store_true", help="write the findings and end with code 0 all the same"
    )
    parser.add_argument(
        "--findings", type=Path, metavar="FILE", help="judge the findings in this table; look at no record"
    )
    parser.add_argument(
        "--passed",
        type=Path,
        metavar="FILE",
        help="write this file, which names the table by its hash, when nothing failed",
    )
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    out = args.out or layout.tables / "validation.csv"
    findings = findings_of(study, layout, args, out)
    print(as_text(findings), end="")
    print(f"{counted(findings)} in {layout.results} ({len(EXPECTATIONS)} expectations; table: {args.findings or out})")
    if not args.report_only:
        judge(findings, args.findings or out, strict=args.strict)
    if args.passed is not None:
        table = args.findings or out
        about = {"findings": counted(findings), "table_sha256": file_sha256(table), "strict": args.strict}
        write_json(args.passed, about)
    return 0


class _List(argparse.Action):
    """Print the expectations and end; needs no study."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **options: object) -> None:
        print(as_list(), end="")
        parser.exit()


if __name__ == "__main__":
    cli.run(main)
