"""A killed run goes on from its newest whole checkpoint, and never from another run's."""

from __future__ import annotations

import pytest

from gainwatt.training.resume import COMPLETE, last_complete, step_of


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    assert last_complete(folder, "settings") is None
    for step in (50, 100, 150):
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}" / "weights").touch()
        if step < 150:
            (folder / f"checkpoint-{step}" / COMPLETE).touch()
    (folder / "steps.jsonl").write_text("{}\n")
    return folder


def test_the_newest_whole_checkpoint_by_number(work):
    found = last_complete(work, "settings")
    assert found == work / "checkpoint-100"
    assert step_of(found) == 100
    assert not (work / "checkpoint-150").exists()
    assert (work / "checkpoint-50").exists()
    assert (work / "steps.jsonl").exists()


def test_work_of_other_settings_is_removed(work):
    assert last_complete(work, "other") is None
    assert sorted(path.name for path in work.iterdir()) == ["settings.sha256"]
    assert last_complete(work, "settings") is None


def test_work_without_its_mark_is_removed(work):
    (work / "settings.sha256").unlink()
    assert last_complete(work, "settings") is None
    assert not (work / "checkpoint-50").exists()


def test_steps_of_nothing():
    assert step_of(None) == 0


def test_a_run_does_not_go_on_from_its_last_step(work):
    """There the trainer would train one step more; the checkpoint before repeats the last steps instead."""
    found = last_complete(work, "settings", before=100)
    assert found == work / "checkpoint-50"
    assert not (work / "checkpoint-100").exists()
    assert last_complete(work, "settings", before=50) is None
