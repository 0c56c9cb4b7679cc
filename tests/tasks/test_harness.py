"""What is said where lm-eval or a task's data is missing; the folder that stands for a hub data set."""

from __future__ import annotations

import pytest

from gainwatt.errors import UnavailableError
from gainwatt.study.quality import Tasks
from gainwatt.tasks import harness

datasets = pytest.importorskip("datasets")


class Manager:
    """Loads a task as lm-eval does: by one call of datasets.load_dataset."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options

    def load(self, names):
        return {"tasks": {names[0]: datasets.load_dataset(*self.arguments, **self.options)}, "groups": {}}


def test_data_that_cannot_be_reached_are_named(monkeypatch):
    def refuse(path, name=None, **options):
        raise ConnectionError("Couldn't reach 'Rowan/hellaswag' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UnavailableError) as caught:
        harness.load_task(Manager(path="Rowan/hellaswag", name=None), Tasks(names=["hellaswag"]), "hellaswag")
    assert "needs the data set 'Rowan/hellaswag', which is not on this machine" in caught.value.what
    assert "tasks.offline: true" in caught.value.what
    assert "hf download --repo-type dataset Rowan/hellaswag" in caught.value.hint
    assert "local_data: {hellaswag: FOLDER}" in caught.value.hint
    assert datasets.load_dataset is refuse


@pytest.mark.parametrize(("readme", "config"), [(True, "ARC-Easy"), (False, None)])
def test_a_folder_stands_for_a_hub_data_set(tmp_path, monkeypatch, readme, config):
    if readme:
        (tmp_path / "README.md").write_text("---\nconfigs: []\n---\n")
    seen = []
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name=None, **options: seen.append((path, name)))
    settings = Tasks(names=["arc_easy", "other"], local_data={"arc_easy": str(tmp_path)})
    harness.load_task(Manager("allenai/ai2_arc", "ARC-Easy"), settings, "arc_easy")
    harness.load_task(Manager("o/n", "c"), settings, "other")
    assert seen == [(str(tmp_path), config), ("o/n", "c")]


def test_a_folder_without_the_data_is_named(tmp_path):
    settings = Tasks(names=["hellaswag"], local_data={"hellaswag": str(tmp_path)})
    with pytest.raises(UnavailableError, match=f"cannot read its data from {tmp_path}"):
        harness.load_task(Manager("Rowan/hellaswag"), settings, "hellaswag")


def test_a_split_that_the_folder_lacks_is_named(tmp_path, monkeypatch):
    def lacking(path, name=None, **options):
        raise KeyError("train")

    monkeypatch.setattr(datasets, "load_dataset", lacking)
    settings = Tasks(names=["hellaswag"], local_data={"hellaswag": str(tmp_path)})
    with pytest.raises(UnavailableError, match="finds no split or column 'train' in"):
        harness.load_task(Manager("Rowan/hellaswag"), settings, "hellaswag")
    with pytest.raises(KeyError):
        harness.load_task(Manager("Rowan/hellaswag"), Tasks(names=["hellaswag"]), "hellaswag")


def test_without_lm_eval_the_environment_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.tasks", None)
    with pytest.raises(UnavailableError, match="lm-eval is not installed") as caught:
        harness.find_tasks(Tasks(names=["hellaswag"]))
    assert "make env NAME=lm-eval" in caught.value.hint


def test_data_sets_of_the_hub_are_kept_for_machines_without_it(tmp_path, monkeypatch):
    asked = []

    def load(path, name=None, **options):
        asked.append((path, name))
        return datasets.DatasetDict({"validation": datasets.Dataset.from_dict({"x": [1, 2]})})

    monkeypatch.setattr(datasets, "load_dataset", load)
    settings = Tasks(names=["one", "two"])
    options = {"kept": tmp_path / "kept", "keep": True}
    harness.load_task(Manager("org/set", "a", trust_remote_code=False), settings, "one", **options)
    harness.load_task(Manager("json", data_files={"validation": "own.jsonl"}), settings, "two", **options)
    assert len(list((tmp_path / "kept").iterdir())) == 1  # a task's own files may change: they are not kept

    def refuse(path, name=None, **options):
        raise ConnectionError("no internet")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    found = harness.load_task(Manager("org/set", "a", trust_remote_code=False), settings, "one", kept=tmp_path / "kept")
    assert found["tasks"]["one"]["validation"]["x"] == [1, 2]
    for other in (Manager("org/set", "b", trust_remote_code=False), Manager("org/other", "a")):
        with pytest.raises(UnavailableError, match="run `make fetch`"):
            harness.load_task(other, settings, "one", kept=tmp_path / "kept")
    with pytest.raises(UnavailableError):
        harness.load_task(Manager("org/set", "a", trust_remote_code=False), settings, "one")
