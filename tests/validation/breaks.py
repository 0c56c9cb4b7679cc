"""Ways to break a study's records, for the tests of the expectations."""

from __future__ import annotations

import json
import shutil

from factories import write_table
from gainwatt.record import file_sha256
from gainwatt.study import Layout

from .records import ENVIRONMENT, edit, write

EVAL = ("evaluate_gsm8k", "grpo-s0.fp32")
NF4 = ("evaluate_gsm8k", "grpo-s0.bnb-nf4")
TRAIN = ("train_grpo", "grpo-s0")
PACKAGES = ENVIRONMENT["packages"]


def changes(where, **blocks):
    """A break that replaces keys of blocks of one record."""

    def change(record):
        for block, values in blocks.items():
            record[block].update(values)

    return lambda study: edit(study, *where, change)


def board(**values):
    return lambda study: edit(study, *EVAL, lambda record: record["energy"]["devices"][0].update(values))


def rewrite(where, text):
    return lambda study: Layout.of(study).record(*where).write_text(text)


def rename(where, stage, name):
    def change(study):
        target = Layout.of(study).record(stage, name)
        target.parent.mkdir(exist_ok=True)
        Layout.of(study).record(*where).rename(target)

    return change


def copied(where, stage, name):
    def change(study):
        shutil.copy(Layout.of(study).record(*where), Layout.of(study).record(stage, name))

    return change


def items(**columns):
    """A break that changes columns of the items (value per row) and keeps the record's hash of the file in step."""

    def change(study):
        from pyarrow import parquet

        path = Layout.of(study).sidecar(*EVAL, "items")
        with parquet.ParquetFile(path) as file:
            rows = file.read().to_pylist()
        for name, of_row in columns.items():
            for row in rows:
                row[name] = of_row(row)
        entry = write_table(path, rows)
        edit(study, *EVAL, lambda record: record["outputs"].update(items=entry))

    return change


def environment(**values):
    return changes(EVAL, environment=values)


def repeats(throughput):
    def change(study):
        for number, value in enumerate(throughput):
            cell = {"variant": "base", "scheme": "fp32", "engine": "transformers", "repeat": number}
            inputs = {"data": {"sha256": file_sha256(Layout.of(study).data("test"))}}
            more = {"cell": cell, "metrics": {"throughput_tok_s": value}, "inputs": inputs}
            write(study, "evaluate_gsm8k", f"base.fp32.r{number}", 40, {"generate": 10.2}, **more)

    return change


def times(**values):
    return lambda study: edit(study, *EVAL, lambda record: record.update(values))


def same_effective(**values):
    return lambda study: edit(study, *EVAL, lambda record: record["settings"]["effective"].update(values))


def flag(name):
    return changes(EVAL, energy={"flags": [{"flag": name, "device": "gpu:0", "text": name}]})


def gate(passed):
    found = {"arm": "nf4", "gates": [{"name": "throughput", "cv": 0.04, "limit": 0.02, "passed": passed}]}
    return changes(EVAL, metrics={"arms": [found]})


def older(**settings):
    """A record that an earlier version made, which hashed other settings; these are known to it, a new one is not."""

    def damage(study):
        changes(EVAL, inputs={"settings": {"sha256": "0" * 64}}, settings=settings)(study)
        edit(study, *EVAL, lambda record: record["settings"]["evaluate"].pop("repetition_penalty"))

    return damage


def lose(kind):
    return lambda study: Layout.of(study).sidecar(*EVAL, kind).unlink()


def manifest_of_another(study):
    path = Layout.of(study).manifest("base", "bnb-nf4")
    path.parent.mkdir(parents=True)
    content = {
        "kind": "gainwatt-checkpoint", "schema_version": 1, "status": "ok", "variant": "base", "scheme": "bnb-nf4",
        "folder": ".", "sha256": "0" * 64, "files": {}, "parent_sha256": None, "about": {},
    }  # fmt: skip
    path.write_text(json.dumps(content))


def corpora(study):
    """Cells that name a further text; one of them another one, and some none."""
    for name in ("base.fp32", "base.bnb-nf4", EVAL[1]):
        sha256 = ("f" if name == EVAL[1] else "0") * 64
        changes((EVAL[0], name), inputs={"corpus": {"sha256": sha256}})(study)


def infinite(study):
    """JSON readers turn 1e999 into infinity without a word."""
    path = Layout.of(study).record(*EVAL)
    path.write_text(path.read_text("utf-8").replace('"accuracy": ', '"load_s": 1e999, "accuracy": ', 1), "utf-8")


def on_a_processor(**metrics):
    """Every record of a machine without NVML, and more numbers in one."""

    def damage(study):
        for path in (Layout.of(study).results / "records").glob("*/*.json"):
            edit(study, path.parent.name, path.stem, lambda r: r["environment"].update(gpus="NVML: not found"))
        changes(EVAL, metrics=metrics)(study)

    return damage
