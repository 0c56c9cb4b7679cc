"""Name the pinned environments that a study needs, one per line: what `make env NAME=...` and `make wheelhouse` take.

Environments that the study replaces by an interpreter of its own are left out. --lacking names those that are not on
this machine yet.
"""

from __future__ import annotations

from gainwatt import cli
from gainwatt.workflow import environments_of, find_interpreter


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--lacking", action="store_true", help="only those that this machine does not have")
    args = parser.parse_args(argv)
    study, _ = cli.study_of(args, check_paths=False)
    for name in environments_of(study):
        if name not in study.environments and not (args.lacking and find_interpreter(study, name)):
            print(name)
    return 0


if __name__ == "__main__":
    cli.run(main)
