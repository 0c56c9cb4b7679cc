"""Before a run: jobs, GPU-hours, disk and joules of a study, rule by rule. Submits and measures nothing.

Figures come from the records of this study's earlier runs, and from folders that --records names: a study with the same
model, say. Each names its basis, and what no record tells is marked as a guess. `snakemake -n` says which jobs exactly
would run; here a job counts as done when its record is there.
"""

from __future__ import annotations

from pathlib import Path

from gainwatt import cli
from gainwatt.cluster.history import finish, read_past
from gainwatt.cluster.preview import GUESSED_GPU_W, preview
from gainwatt.errors import InputError
from gainwatt.tables.write import to_markdown

SHOWN = (
    "rule", "jobs", "to_do", "gpus_each", "hours", "gpu_hours", "hours_basis", "gross_j", "joules_basis", "disk_gb",
    "while_running_gb", "disk_basis",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--records", type=Path, action="append", default=[], metavar="DIR",
        help="another results folder (results/<study>) to learn from; may be given several times",
    )  # fmt: skip
    parser.add_argument("--everything", action="store_true", help="count jobs that have run already as well")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    for folder in args.records:
        if not (folder / "records").is_dir():
            raise InputError(f"{folder} holds no folder `records`", "give a results folder: results/<study>")
    history, refused = read_past([layout.results, *args.records])
    rows = preview(study, layout, history, exists=lambda path: not args.everything and Path(path).exists())
    print(f"Preview of {study.study}: {len(history)} earlier jobs to learn from\n")
    print(to_markdown(rows, SHOWN))
    print(
        "hours, GPU-hours, joules and disk are those of the jobs to do. Basis: `same cell` and `same settings` are "
        "measured;\n`guess` is another setting's job or, without any, the time limit "
        f"(joules: GPUs at {GUESSED_GPU_W:.0f} W): an upper limit.\n`while_running_gb` is what one training needs "
        "besides, in the scratch folder. A dash: not even a guess."
    )
    finish(rows, refused, args.out)
    return 0


if __name__ == "__main__":
    cli.run(main)
