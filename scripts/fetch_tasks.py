"""Bring the data sets of the study's lm-eval tasks from the hub to the study's data, for jobs without internet.

Runs in the environment lm-eval (make env NAME=lm-eval). What tasks.local_data names, and files of a task's own, are on
this machine already and stay where they are.
"""

from __future__ import annotations

from pathlib import Path

from gainwatt import cli, hub
from gainwatt.atomic import write_json
from gainwatt.errors import InputError
from gainwatt.tasks import harness


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    if study.tasks is None:
        raise InputError(f"the study {study.study!r} has no section tasks", "nothing to do")
    hub.go_offline_if_unreachable()
    kept = args.out or harness.kept_data(layout)
    settings = study.tasks.model_copy(update={"offline": False})
    manager = harness.find_tasks(settings)
    found = {}
    for name in settings.names:
        loaded = harness.load_task(manager, settings, name, kept=kept, keep=True)
        found[name] = sorted(loaded["tasks"])
        print(f"{name}: {', '.join(found[name])}")
    write_json(kept / "fetched.json", {"tasks": found})
    return 0


if __name__ == "__main__":
    cli.run(main)
