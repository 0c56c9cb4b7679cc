"""Make the small base model of the embedded study: tokenizer, Qwen2-architecture model, supervised warm start.

The model is trained from scratch on solved problems. A killed run goes on from its last checkpoint with the same
command and ends with the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.errors import InputError
from gainwatt.job import Job
from gainwatt.study import BASE, Study


def build(study: Study, rows: list[dict[str, str]]) -> tuple[Any, Any]:
    """Tokenizer and untrained model from the study's shape."""
    from gainwatt.embedded import model as tiny_model
    from gainwatt.embedded import tokenizer as tiny_tokenizer

    shape = study.embedded.model
    tokenizer = tiny_tokenizer.train_tokenizer(
        [text for row in rows for text in (row["question"], row["answer"])], shape.vocab_size
    )
    model = tiny_model.build_model(
        tokenizer,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        seed=study.embedded.warm_start.seed,
    )
    return tokenizer, model


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="solved problems, sft.jsonl (default: from the study)"
    )
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest to write (default: from the study)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    if study.model.source != "embedded":
        raise InputError(
            f"the study's model is {study.model.source}: there is nothing to warm-start",
            "run scripts/fetch_model.py",
        )
    data = args.data or layout.data("sft")
    manifest = args.manifest or layout.manifest(BASE)
    record = args.record or layout.record("warm_start", BASE)
    with Job(stage="warm_start", cell={"variant": BASE}, study=study, record=record) as job:
        train(job, study, data, manifest, layout.work("warm_start", BASE))
    return 0


if __name__ == "__main__":
    cli.run(main)
