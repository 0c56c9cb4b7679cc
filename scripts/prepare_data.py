"""Write the study's questions as JSON lines: train.jsonl and test.jsonl in GSM8K format.

The source is the study's data.source: a hub data set at a pinned revision, a local folder, or the generated problems
(which also give sft.jsonl and validation.jsonl). Every item is checked: question, answer with ####, no duplicates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gainwatt import cli, hub
from gainwatt.errors import InputError
from gainwatt.gsm8k import data as gsm8k_data
from gainwatt.gsm8k.score import gold_answer
from gainwatt.job import Job
from gainwatt.record import file_sha256
from gainwatt.study import Study, hub_id, is_hub


def embedded_rows(study: Study) -> dict[str, list[dict[str, str]]]:
    """The generated problems of all four splits; sft also holds careless solutions and bare arithmetic."""
    from gainwatt.embedded import problems
    from gainwatt.embedded.slips import Slips

    given = study.embedded.problems
    ranges = {
        name: getattr(given, name)
        for name in ("start_max", "change_max", "count_max", "each_max", "divisor_max", "value_max")
    }
    level = problems.Difficulty(**ranges)
    if given.families is not None:
        level = dataclasses.replace(level, families=given.families)
    slips = Slips(
        unfinished=given.unfinished_share,
        reversal=given.reversal_share,
        unfinished_min_steps=given.unfinished_min_steps,
    )
    sft = problems.generate(
        split="sft", n=given.sft_items, seed=given.seed, difficulty=level, slips=slips, max_repeats=None
    )
    rows = {"sft": sft + problems.drills(sft, n=given.drill_items, seed=given.seed) + more_rows(given.more_sft)}
    for split, n in (("train", given.train_items), ("validation", given.validation_items), ("test", given.test_items)):
        rows[split] = problems.generate(split=split, n=n, seed=given.seed, difficulty=level)
    return rows


def more_rows(files: Sequence[str]) -> list[dict[str, str]]:
    """Solved problems of one's own for the warm start, their source named in each row."""
    return [
        {"question": item.question, "answer": item.solution, "family": Path(file).stem}
        for file in files
        for item in gsm8k_data.read_items(Path(file))
    ]


def hub_rows(study: Study) -> dict[str, list[dict[str, str]]]:
    """Train and test items of a hub data set at its pinned revision."""
    unreachable = hub.go_offline_if_unreachable()
    import datasets

    name = hub_id(study.data.source)
    try:
        loaded = datasets.load_dataset(name, study.data.config, revision=study.data.revision)
    except Exception as error:  # the hub client raises many kinds
        why = unreachable or f"{type(error).__name__}: {error}"
        raise InputError(
            f"cannot read the data set {name} at revision {study.data.revision}: {why}",
            hub.data_hint(name, study.data.revision, study.study),
        ) from error
    return {
        split: [{"question": row["question"], "answer": row["answer"]} for row in loaded[split]]
        for split in ("train", "test")
    }


def folder_items(study: Study) -> dict[str, list[gsm8k_data.Item]]:
    """Train and test items of a local folder."""
    folder = Path(study.data.source)
    return {split: gsm8k_data.read_items(folder / f"{split}.jsonl") for split in ("train", "test")}


def write_splits(study: Study, out: Path) -> dict[str, list[gsm8k_data.Item]]:
    """Write every split to `out` and read it back through the checking reader."""
    if study.data.source == "embedded":
        splits = as_items(embedded_rows(study))
    elif is_hub(study.data.source):
        splits = as_items(hub_rows(study))
    else:
        splits = folder_items(study)
    if study.model.source == "embedded" and "sft" not in splits:
        generated = as_items(embedded_rows(study))  # the small model still needs something to be warm-started on
        splits |= {split: generated[split] for split in ("sft", "validation")}
    limits = {"train": study.data.train_limit, "test": study.data.test_limit}
    for split, items in splits.items():
        gsm8k_data.write_items(out / f"{split}.jsonl", items[: limits.get(split)])
    return {split: read_split(out, split) for split in splits}


def read_split(folder: Path, split: str) -> list[gsm8k_data.Item]:
    """A written split, read back with every check; only bare arithmetic of the warm start may repeat a question."""
    return gsm8k_data.read_items(folder / f"{split}.jsonl", allow_duplicates=split == "sft")


def as_items(splits: dict[str, list[dict[str, str]]]) -> dict[str, list[gsm8k_data.Item]]:
    """Rows with question, answer and further text fields as items."""
    return {
        split: [
            gsm8k_data.Item(
                index=index,
                question=row["question"],
                solution=row["answer"],
                gold=gold_answer(row["answer"]),
                meta={name: value for name, value in row.items() if name not in ("question", "answer")},
            )
            for index, row in enumerate(rows)
        ]
        for split, rows in splits.items()
    }


def check_disjoint(splits: dict[str, list[gsm8k_data.Item]]) -> int:
    """The number of test questions that also stand in a training split. Raises InputError if there is one."""
    test = {item.question for item in splits["test"]}
    for split in ("train", "sft"):
        shared = test & {item.question for item in splits.get(split, [])}
        if shared:
            raise InputError(
                f"{len(shared)} test question(s) also stand in {split}, e.g. {sorted(shared)[0][:80]!r}",
                "remove them from one of the two: a model may not be tested on what it was trained on",
            )
    return len(test)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the splits (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    out = args.out or layout.data("test").parent
    record = args.record or layout.record("prepare_data", "data")
    with Job(stage="prepare_data", cell={"source": study.data.source}, study=study, record=record) as job:
        with job.phase("write"):
            splits = write_splits(study, out)
        for file in study.embedded.problems.more_sft if "sft" in splits else ():
            job.add_input(f"more_sft.{Path(file).name}", file_sha256(Path(file)))
        check_disjoint(splits)
        for split, items in splits.items():
            job.metrics[f"{split}_items"] = len(items)
            job.outputs[split] = {"file": f"{split}.jsonl", "sha256": file_sha256(out / f"{split}.jsonl")}
    return 0


if __name__ == "__main__":
    cli.run(main)
