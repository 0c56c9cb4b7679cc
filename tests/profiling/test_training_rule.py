"""The rule of the training profile: one job for each type of the base, and no job of a matrix that is switched off."""

from __future__ import annotations

import json

from factories import study_content, write_study
from test_dry_run import jobs, snakemake


def test_a_study_of_steps_alone_runs_what_they_need(tmp_path):
    path = write_study(tmp_path, study_content(tmp_path))
    overrides = ["matrix=false", "train_profile={bases: [bnb-nf4, fp32]}"]
    done = snakemake(tmp_path, config=(f"study={path}", f"set={json.dumps(overrides)}"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = jobs(done.stdout + done.stderr)
    profiles = {place.rpartition("/")[2] for rule, place in found if rule == "profile_training"}
    assert profiles == {"base.bnb-nf4.json", "base.fp32.json"}
    ends = {"make_tables", "make_figures", "make_report", "validate", "check", "all"}
    assert {rule for rule, _ in found} == {"prepare_data", "warm_start", "profile_training"} | ends
