"""Join what several machines measured: each scheme as a ratio to the same machine's own unquantized baseline.

Each argument is a study file or a results folder (results/<study>), as it was made on one machine; records of
profile_inference, profile_training and evaluate_gsm8k are read, and machines are told apart by the environment that the
records name. Prints Markdown; --out writes the same with CSV and JSON files, --figure the ratios as a figure. Records
that measure different things (another model, data, settings or baseline) are refused; joules are refused where the
machines metered different parts of themselves. Measures nothing, needs no GPU.

    python scripts/compare_machines.py results/consumer-4gb /mnt/other/results/consumer-4gb --out machines --figure
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gainwatt import cli
from gainwatt.atomic import write_json, write_text
from gainwatt.errors import InputError
from gainwatt.portability.join import Joined, as_markdown, differences, join, machine_rows, rows
from gainwatt.portability.machines import read_sessions
from gainwatt.tables.write import write_csv

TABLES = {"machines": machine_rows, "ratios": rows, "differences": differences}


def write(joined: Joined, out: Path, text: str) -> None:
    """Write Markdown, one CSV per table, and all of it as JSON."""
    tables = {name: table(joined) for name, table in TABLES.items()}
    for name, found in tables.items():
        write_csv(out / f"{name}.csv", found, ["stage", "arm", "quantity", "machine"])
    write_json(out / "machines.json", tables)
    write_text(out / "machines.md", text)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="study file or results folder of a machine")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write machines.md, .json and CSV files there")
    parser.add_argument("--figure", action="store_true", help="with --out: draw machines.svg and .png")
    parser.add_argument(
        "--baseline",
        metavar="SCHEME",
        help="unquantized scheme of training and evaluation (default: fp16, or else one that all machines have)",
    )
    args = parser.parse_args(argv)
    if args.figure and args.out is None:
        raise InputError("--figure needs a folder to draw into", "give --out DIR")
    joined = join(read_sessions(args.folders), args.baseline)
    text = as_markdown(joined)
    print(text, end="")
    if args.out is not None:
        write(joined, args.out, text)
    if args.figure:
        from gainwatt.figures import machines, style

        drawn = machines.ratios(rows(joined), [session.label for session in joined.sessions])
        if drawn is None:
            print("no figure: no cell has a ratio")
        else:
            style.save(drawn, args.out, "machines")
    return 0


if __name__ == "__main__":
    cli.run(main)
