"""What a study has used, beside the accounting of a real Slurm."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

import pytest

from factories import run_script
from gainwatt.cluster.afterwards import ask_sacct

from .accounting import AccountedCluster, missing
from .conftest import Place, environment_of

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def accounted():
    if missing():
        pytest.skip(f"make test-slurm installs what is missing: {', '.join(missing())}")
    with AccountedCluster(Path(tempfile.mkdtemp(prefix="gainwatt-slurm-"))) as running:
        yield running


def ended(text: str) -> bool:
    states = text.split()
    return len(states) == 2 and not {"RUNNING", "PENDING", "COMPLETING"} & set(states)


def test_every_attempt_is_accounted_beside_the_records(accounted, fake_driver, tmp_path, monkeypatch):
    here = Place(
        tmp_path / "tiny", accounted, environment_of(accounted, fake_driver), resources={"prepare": {"gpus": 1}}
    )
    run = here.start(here.base)
    job = run.first("warm_start")
    accounted.wait(lambda: here.process("warm_start.py") is not None, "the job runs")
    accounted.ask("scancel", job)
    assert run.finish() == 0, run.text
    accounted.wait(lambda: ended(accounted.ask("sacct", "-X", "-n", "-o", "State%20").replace("by 0", "")), "both end")

    monkeypatch.setenv("PATH", accounted.environment["PATH"])
    jobs, reason = ask_sacct("tiny", datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1))
    assert reason is None
    assert [(each.rule, each.state, each.gpus) for each in jobs] == [
        ("warm_start", "CANCELLED", 1), ("warm_start", "COMPLETED", 1),
    ]  # fmt: skip
    assert jobs[1].seconds > 0
    monkeypatch.chdir(here.folder)
    done = run_script("afterwards", "--study", here.study)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| warm_start"))
    head = next(line for line in done.stdout.splitlines() if line.startswith("| rule"))
    found = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (head, row)), strict=True))
    assert (found["records"], found["slurm_jobs"], found["slurm_not_completed"]) == ("1", "2", "1")
    assert float(found["slurm_gpu_hours"]) >= float(found["gpu_hours"]) > 0
