"""What the validator finds, as rows of a table and as text for people."""

from __future__ import annotations

import csv
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gainwatt.errors import RecordError
from gainwatt.tables.write import write_csv

Severity = Literal["error", "warning", "info"]
ERROR: Severity = "error"
WARNING: Severity = "warning"
INFO: Severity = "info"
SEVERITIES: tuple[Severity, ...] = (ERROR, WARNING, INFO)
COLUMNS = ("severity", "check", "file", "what", "hint")


@dataclass(frozen=True)
class Finding:
    """One expectation that a record does not meet.

    `file` is relative to the study's results folder; empty where no single file is meant. `hint` says what to do.
    """

    severity: Severity
    check: str
    file: str
    what: str
    hint: str

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Errors first, then by check, file and text."""
        return SEVERITIES.index(self.severity), self.check, self.file, self.what


def counted(findings: Sequence[Finding]) -> str:
    """`2 errors, 1 warning, 0 infos`."""
    found = Counter(finding.severity for finding in findings)
    return ", ".join(f"{found[name]} {name}{'' if found[name] == 1 else 's'}" for name in SEVERITIES)


def as_text(findings: Sequence[Finding], *, shown: int = 20, width: int = 110) -> str:
    """The findings for a terminal: by severity and check, then by what to do; at most `shown` of a kind."""
    groups: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.check), {}).setdefault(finding.hint, []).append(finding)
    lines: list[str] = []
    for (severity, check), by_hint in groups.items():
        lines.append(f"{severity.upper():8}{check}")
        for hint, same in by_hint.items():
            for finding in same[:shown]:
                text = f"{finding.file}: {finding.what}" if finding.file else finding.what
                lines += _wrapped(text, width, "  - ", "    ")
            if len(same) > shown:
                lines.append(f"  - and {len(same) - shown} more, all of them in the table")
            lines += _wrapped(f"what to do: {hint}", width, "      ", "      ") if hint else []
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, width: int, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write `validation.csv`; a study without findings gives the header alone."""
    write_csv(path, [asdict(finding) for finding in findings], COLUMNS)


def read_findings(path: Path) -> list[Finding]:
    """Read `validation.csv` again. Raises RecordError where it is missing or not such a table."""
    hint = "run scripts/validate.py to write it"
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"cannot read the findings {path}: {error}", hint) from error
    if columns != COLUMNS:
        raise RecordError(f"{path} does not have the columns {', '.join(COLUMNS)}", hint)
    found = []
    for row in rows:
        severity = next((name for name in SEVERITIES if name == row["severity"]), None)
        if severity is None or None in row or None in row.values():
            raise RecordError(f"{path} holds a line that is no finding: {row}", hint)
        found.append(Finding(severity, row["check"], row["file"], row["what"], row["hint"]))
    return found
