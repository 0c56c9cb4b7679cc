"""What every script's command line shares: the study options and the way an error is shown."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TypeVar

from gainwatt.errors import GainwattError
from gainwatt.study import Cell, Layout, Study, check_cell, load_study
from gainwatt.workflow import OVERRIDES_VARIABLE, STUDY_VARIABLE

T = TypeVar("T")


def parser(description: str | None, *, needs_study: bool = True) -> argparse.ArgumentParser:
    """An argument parser with `--study` and `--set`; the description is the script's docstring."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = os.environ.get(STUDY_VARIABLE)
    made.add_argument(
        "--study",
        type=Path,
        required=needs_study and chosen is None,
        default=chosen,
        metavar="FILE",
        help=f"study file (YAML), see config/README.md (default: ${STUDY_VARIABLE}, which the workflow sets)",
    )
    made.add_argument(
        "--set",
        dest="overrides",
        action="append",
        metavar="KEY=VALUE",
        help="change one setting of the study, e.g. --set evaluate.batch_size=8; may be given several times",
    )
    return made


def add_cell_options(made: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Options of a script that measures one cell: which one, its checkpoint and record, its unfinished work."""
    made.add_argument("--variant", required=required, help="base or grpo-s<seed>")
    made.add_argument("--scheme", required=required, help="a scheme of the study's matrix, e.g. bf16 or bnb-nf4")
    made.add_argument("--checkpoint", type=Path, metavar="FILE", help="manifest (default: from the study)")
    made.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    made.add_argument("--work", type=Path, metavar="DIR", help="folder for unfinished work (default: from the study)")


def cell_of(args: argparse.Namespace, study: Study, layout: Layout, stage: str) -> Cell:
    """The cell that the command line names; what else it leaves to the study is filled in."""
    cell = check_cell(study, args.variant, args.scheme)
    args.layout = layout
    args.checkpoint = args.checkpoint or layout.manifest(cell.variant, cell.scheme)
    args.record = args.record or layout.record(stage, cell.name)
    args.work = args.work or layout.work(stage, cell.name)
    return cell


def study_of(args: argparse.Namespace, *, check_paths: bool = True) -> tuple[Study, Layout]:
    """The study that the command line names, with its overrides, and its layout.

    `check_paths` is false for what needs records only: data and model need not be at hand.
    """
    overrides = args.overrides
    if overrides is None:
        overrides = json.loads(os.environ.get(OVERRIDES_VARIABLE, "[]"))
    study = load_study(args.study, overrides, check_paths=check_paths)
    _complete_command(args.study, overrides)
    return study, Layout.of(study)


def _complete_command(study: Path, overrides: list[str]) -> None:
    """Put study and overrides into the command that the log and the record show, so that it can be run by hand."""
    given = any(word == "--study" or word.startswith("--study=") for word in sys.argv)
    if not given and Path(sys.argv[0]).suffix == ".py":
        sys.argv[1:1] = ["--study", str(study)] + [word for entry in overrides for word in ("--set", entry)]


class Terminated(BaseException):
    """SIGTERM, as a cluster sends it at the time limit: an exception, so that unfinished files are removed."""


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; cleaning up is not to be interrupted again
    raise Terminated


def run(main: Callable[[list[str] | None], int]) -> None:
    """Call `main` and exit with its code; show a GainwattError as two lines instead of a traceback.

    An interrupt (Ctrl-C) ends with 130 and SIGTERM with 143, after unfinished files have been removed.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = main(None)
    except GainwattError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr, flush=True)
        code = 130
    except Terminated:
        print("terminated by SIGTERM: the same command goes on", file=sys.stderr, flush=True)
        code = 143
    raise SystemExit(code)


def progress(items: Iterable[T], *, what: str, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """Iterate with a progress bar that says what is being done; in a log file it writes a line every 15 s."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(items, desc=what, total=total, unit=unit, mininterval=0.2 if terminal else 15, file=sys.stderr)
