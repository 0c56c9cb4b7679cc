"""Everything that touches lm-eval: finding tasks, loading their data without the hub, running one task.

lm-eval is imported here and nowhere else, since only the environment `lm-eval` holds it (envs/lm-eval.txt).
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt.atomic import atomic_folder
from gainwatt.errors import InputError, UnavailableError
from gainwatt.record import text_sha256
from gainwatt.study import Layout
from gainwatt.study.quality import Tasks

ENVIRONMENT = "lm-eval"
_BUILDERS = ("json", "csv", "parquet", "text", "arrow")


def stay_offline() -> None:
    """Keep the libraries of the hub from reaching for it. Call it before anything imports them."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")


def find_tasks(settings: Tasks) -> Any:
    """lm-eval's task manager, once every task that a study names is known to it.

    Raises UnavailableError where lm-eval is not installed, and InputError for an unknown task, with the closest name.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UnavailableError(
            f"lm-eval is not installed in this interpreter: {error}",
            f"make env NAME={ENVIRONMENT}, and run the script with .envs/{ENVIRONMENT}/bin/python",
        ) from error
    manager = TaskManager(include_path=settings.include_path)
    known = list(manager.all_tasks)
    for name in [*settings.names, *settings.local_data]:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"lm-eval has no task {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
                "`.envs/lm-eval/bin/lm_eval ls tasks` lists them; tasks of your own lie in tasks.include_path",
            )
    return manager


def kept_data(layout: Layout) -> Path:
    """The folder into which scripts/fetch_tasks.py puts the tasks' data sets."""
    return layout.data("tasks").with_suffix("")


def load_task(
    manager: Any, settings: Tasks, name: str, *, kept: Path | None = None, keep: bool = False
) -> dict[str, Any]:
    """Load one task (or every task of a group) with its data: lm-eval's dictionary of tasks and groups.

    Data sets that `kept` holds come from there; with `keep` those that it lacks are put there.
    Raises UnavailableError naming the data set that is not at hand and how to bring it.
    """
    with _data_sets(name, settings, kept, keep):
        try:
            loaded: dict[str, Any] = manager.load([name])
        except KeyError as error:
            if name not in settings.local_data:
                raise
            raise UnavailableError(
                f"the task {name} finds no split or column {error} in {settings.local_data[name]}",
                "the folder must hold a file for every split that the task uses, e.g. train.jsonl and validation.jsonl",
            ) from error
    return loaded


@contextlib.contextmanager
def _data_sets(task: str, settings: Tasks, kept: Path | None, keep: bool) -> Iterator[None]:
    """Give a task the folder that stands for its hub data set, and say which data set it asks for in vain.

    lm-eval loads data by one call of `datasets.load_dataset`; a configuration's name is kept where the folder is a
    copy of a repository, whose README.md says what its configurations are.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    original = datasets.load_dataset
    folder = settings.local_data.get(task)

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        configured = folder is None or (Path(folder) / "README.md").exists()
        saved = kept / _key(path, name, options) if kept and not folder and _of_hub(path, options) else None
        if saved is not None and saved.is_dir():
            return datasets.load_from_disk(str(saved))
        try:
            loaded = original(folder or path, name if configured else None, **options)
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            raise _unreachable(task, path, name, error, settings) from error
        if keep and saved is not None:
            with atomic_folder(saved) as temporary:
                loaded.save_to_disk(str(temporary))
        return loaded

    datasets.load_dataset = load_dataset
    try:
        yield
    finally:
        datasets.load_dataset = original


def _of_hub(path: str, options: dict[str, Any]) -> bool:
    """False for a task's own files, which may change and are there anyway."""
    return path not in _BUILDERS and not Path(path).exists() and "data_files" not in options


def _key(path: str, name: str | None, options: dict[str, Any]) -> str:
    """The folder of a data set: its readable name, and a hash of all that was asked for."""
    asked = json.dumps([path, name, {key: repr(value) for key, value in sorted(options.items())}])
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', path)}-{text_sha256(asked)[:12]}"


def _unreachable(task: str, path: str, config: Any, error: Exception, settings: Tasks) -> UnavailableError:
    first = (str(error) or type(error).__name__).strip().splitlines()[0]
    named = f"{path!r}" + (f", configuration {config!r}" if config else "")
    if task in settings.local_data:
        return UnavailableError(
            f"the task {task} cannot read its data from {settings.local_data[task]}: {first}",
            "put the files of the data set's repository there (a file per split, e.g. validation.parquet or .jsonl)",
        )
    mode = "with tasks.offline: true nothing is fetched" if settings.offline else "the hub could not be reached"
    return UnavailableError(
        f"the task {task} needs the data set {named}, which is not on this machine ({mode}): {first}",
        "run `make fetch` where there is internet; or "
        f"`hf download --repo-type dataset {path} --local-dir {task}-data` there, copy that folder, and set "
        f"tasks.local_data: {{{task}: FOLDER}}; or set tasks.offline: false",
    )


def wrap_model(model: Any, tokenizer: Any, settings: Tasks, batch_size: int) -> Any:
    """The loaded model as lm-eval's HF backend sees it; nothing is left to its defaults that decides a result."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=batch_size,
        max_length=settings.max_tokens or getattr(model.config, "max_position_embeddings", None),
        truncation=False,
        add_bos_token=None,
        logits_cache=True,
    )


def run_task(model: Any, manager: Any, loaded: dict[str, Any], settings: Tasks) -> dict[str, Any]:
    """lm-eval's results of one loaded task or group, with a sample per item."""
    import lm_eval

    # Groups are averaged by their own rules; the tasks in them are what is paired, so they alone are run.
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=model,
        tasks=list(loaded["tasks"].values()),
        num_fewshot=settings.num_fewshot,
        limit=settings.limit,
        bootstrap_iters=1000,  # of metrics without a closed form; a mean has one
        log_samples=True,
        apply_chat_template=settings.apply_chat_template,
        fewshot_as_multiturn=settings.apply_chat_template,
        task_manager=manager,
        random_seed=0,
        numpy_random_seed=settings.fewshot_seed,
        torch_random_seed=settings.fewshot_seed,
        fewshot_random_seed=settings.fewshot_seed,
    )
    return results
