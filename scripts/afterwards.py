"""After a run: GPU-hours and joules of a study, rule by rule, from its records, beside what Slurm's accounting says.

Records hold the jobs that ended well. sacct, where the cluster has accounting, lists every attempt: failed ones, those
over their time limit and repeated ones count there, too.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from gainwatt import cli
from gainwatt.cluster.afterwards import afterwards, ask_sacct, counts_gpus
from gainwatt.cluster.history import finish, read_past
from gainwatt.errors import InputError
from gainwatt.tables.write import to_markdown


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--since", type=datetime.date.fromisoformat, metavar="DAY", default=None,
        help="first day that sacct is asked about, e.g. 2026-03-01 (default: 30 days ago)",
    )  # fmt: skip
    parser.add_argument(
        "--jobname-prefix", default=None, help="slurm-jobname-prefix of the profile (default: gainwatt)"
    )
    parser.add_argument("--no-sacct", action="store_true", help="do not ask Slurm's accounting")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args, check_paths=False)
    history, refused = read_past([layout.results])
    if not history:
        raise InputError(f"there are no records in {layout.results}", "run the study first, or see scripts/preview.py")
    since = args.since or datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=30)
    accounted, reason = (None, None) if args.no_sacct else ask_sacct(study.study, since, args.jobname_prefix)
    rows = afterwards(history, accounted)
    print(f"What {study.study} has used: {len(history)} records\n")
    print(to_markdown(rows))
    if not counts_gpus(history, accounted):
        print("no GPU-hours of Slurm: this cluster's accounting keeps no GPUs (AccountingStorageTRES lacks gres/gpu)")
    if reason is not None:
        print(f"without Slurm's accounting: {reason}")
    if rows[-1]["gross_j"] is None:
        print("no joules: no record was made on a machine with an energy meter")
    finish(rows, refused, args.out)
    return 0


if __name__ == "__main__":
    cli.run(main)
