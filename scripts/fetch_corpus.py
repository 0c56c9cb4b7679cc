"""Bring the text that perplexity is measured on from the hub to the study's data, for jobs without internet.

Only where perplexity.corpus (or that of heads.prune) is a data set of the hub; everything else is on this machine
already.
"""

from __future__ import annotations

from pathlib import Path

from gainwatt import cli, hub
from gainwatt.errors import InputError
from gainwatt.perplexity.corpus import KEPT, keep_corpus
from gainwatt.workflow import hub_corpus


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    corpus = hub_corpus(study)
    if corpus is None:
        raise InputError(f"the study {study.study!r} measures no perplexity on a data set of the hub", "nothing to do")
    hub.go_offline_if_unreachable()
    path = args.out or layout.data(KEPT)
    print(f"{path}: {keep_corpus(corpus, path)} characters of {corpus.corpus}")
    return 0


if __name__ == "__main__":
    cli.run(main)
