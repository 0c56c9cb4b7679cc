"""Measure the sliding-window perplexity of one cell on the text that the study's section `perplexity` names.

Writes the record, and beside it `.windows.parquet` with the loss of every window. A killed job goes on with the
windows that are left.
"""

from __future__ import annotations

import argparse
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.job import Job
from gainwatt.modeling import NO_GPU_MEMORY, load_model, load_tokenizer, memory_mib, reset_peak_memory
from gainwatt.perplexity.corpus import Corpus, read_corpus
from gainwatt.perplexity.measure import Scorer
from gainwatt.perplexity.partial import WindowSums
from gainwatt.perplexity.summary import summarize, window_rows
from gainwatt.perplexity.windows import Encoded, encode
from gainwatt.record import text_sha256
from gainwatt.schemes import get_scheme
from gainwatt.study import Study
from gainwatt.study.quality import Perplexity


def settings_of(study: Study) -> Perplexity:
    """The study's section. Raises InputError where it has none."""
    if study.perplexity is None:
        raise InputError(
            f"the study {study.study!r} has no section perplexity",
            "name a text, e.g. --set 'perplexity={corpus: data:test}' or --set 'perplexity={corpus: some.txt}'",
        )
    return study.perplexity


def check_context(model: Any, window: int) -> None:
    """Raise InputError when a window is longer than the model's context."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and window > limit:
        raise InputError(
            f"perplexity.window = {window} tokens, and the model holds {limit}", "lower perplexity.window and stride"
        )


def score(job: Job, scorer: Scorer, encoded: Encoded, partial: WindowSums) -> None:
    """The loss of every window that is left, on a warm GPU; shows progress with tokens per second."""
    waiting = [window for window in encoded.windows if window.index not in partial.done]
    with job.phase("warm_up"):
        scorer.warm_up(waiting)
    reset_peak_memory()
    job.metrics["resumed_windows"] = len(encoded.windows) - len(waiting)
    bar: Any = cli.progress([], what="perplexity", total=len(encoded.windows), unit="window")
    bar.update(len(partial.done))
    with job.phase("perplexity", short_ok=False):
        for sums, seconds in scorer.score(waiting):
            partial.add(sums, seconds=seconds)
            tokens = sum(encoded.windows[index].tokens for index in sums)
            bar.set_postfix_str(f"{tokens / seconds:.0f} tok/s", refresh=False)
            bar.update(len(sums))
    bar.close()


def load(job: Job, study: Study, args: argparse.Namespace) -> tuple[Corpus, Checkpoint, Any, Any]:
    """Corpus, checkpoint, tokenizer and model."""
    scheme = get_scheme(args.scheme)
    if scheme.loader("transformers") is None:
        raise UnavailableError(f"perplexity is measured with transformers, which does not read {scheme.name}")
    remote_code = study.model.trust_remote_code
    corpus = read_corpus(settings_of(study), args.layout.data)
    job.add_input("corpus", corpus.sha256, source=corpus.source, documents=len(corpus.documents))
    checkpoint = read_manifest(args.checkpoint)
    job.add_input(
        "checkpoint", checkpoint.sha256, variant=checkpoint.variant, scheme=checkpoint.scheme,
        parent_sha256=checkpoint.parent_sha256,
    )  # fmt: skip
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=remote_code)
    dtype = args.scheme if scheme.dense else study.model.dtype
    job.settings["effective"] = {"dtype": scheme.compute_dtype or dtype}
    model = load_model(checkpoint, scheme, dtype, trust_remote_code=remote_code)
    return corpus, checkpoint, tokenizer, model


def measure(job: Job, study: Study, args: argparse.Namespace) -> None:
    """Load, score, and fill the record."""
    settings = settings_of(study)
    with job.phase("load"):
        corpus, checkpoint, tokenizer, model = load(job, study, args)
        check_context(model, settings.window)
        encoded = encode(
            tokenizer, corpus.documents, window=settings.window, stride=settings.stride, prefix=settings.prefix,
            max_tokens=settings.max_tokens,
        )  # fmt: skip
    job.add_input("tokens", encoded.sha256, prefix_token_id=encoded.prefix_token_id)
    identity = text_sha256(
        f"{study.settings_sha256('evaluate_perplexity')} {checkpoint.sha256} {encoded.sha256} {args.scheme}"
    )
    partial = WindowSums(args.work / "windows.jsonl", identity)
    scorer = Scorer(model, encoded, batch_size=settings.batch_size, pad_token_id=tokenizer.pad_token_id)
    job.keep_energy(args.work / "energy.json", identity)
    score(job, scorer, encoded, partial)
    metrics, reasons = summarize(encoded, partial.done)
    job.metrics.update(metrics)
    for name, reason in reasons.items():
        job.null(name, reason)
    job.metrics["score_s"] = partial.seconds
    job.metrics["throughput_tok_s"] = encoded.tokens / partial.seconds
    job.measured(memory_mib(), NO_GPU_MEMORY)
    job.settings["effective"] |= {"batch_size": scorer.batch_size, "prefix_token_id": encoded.prefix_token_id}
    job.settings["events"] = scorer.events
    job.add_table("windows", window_rows(encoded, partial.done))
    job.on_written(partial.remove)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    cli.add_cell_options(parser)
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    settings_of(study)
    cell = cli.cell_of(args, study, layout, "evaluate_perplexity")
    with Job(stage="evaluate_perplexity", cell=cell.about, study=study, record=args.record) as job:
        measure(job, study, args)
    return 0


if __name__ == "__main__":
    cli.run(main)
