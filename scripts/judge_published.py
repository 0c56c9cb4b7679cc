"""Say what published counts of right answers show, and what they do not, when the single items were not published.

Each argument is SCHEME=BASE,TRAINED: right answers of the base and the trained model out of --items questions; the
unquantized scheme comes first. Without arguments it judges the counts of github.com/JiamingPan/posttrain-quant-serve.

  python scripts/judge_published.py
  python scripts/judge_published.py --items 1319 bf16=910,958 awq=880,921
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from gainwatt import cli
from gainwatt.errors import InputError
from gainwatt.stats.intervals import wilson
from gainwatt.stats.published import PUBLISHED, UnpairedSurvival, unpaired_survival
from gainwatt.tables.write import to_markdown

Counts = dict[str, tuple[int, int]]


def read_counts(arguments: list[str]) -> Counts:
    """Counts by scheme. Raises InputError for an argument of another form, a scheme given twice, or only one."""
    counts: Counts = {}
    for argument in arguments:
        scheme, _, numbers = argument.partition("=")
        parts = numbers.split(",")
        if not scheme or len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
            raise InputError(f"cannot read {argument!r}", "write SCHEME=BASE,TRAINED with two counts, e.g. nf4=65,68")
        if scheme in counts:
            raise InputError(f"the scheme {scheme!r} is given twice", "name each scheme once")
        counts[scheme] = (int(parts[0]), int(parts[1]))
    if len(counts) < 2:
        raise InputError("there is nothing to compare", "give the unquantized scheme first and one quantized scheme")
    return counts


def text_of(counts: Counts, found: dict[str, UnpairedSurvival], *, n: int, confidence: float) -> str:
    """Markdown: shares, survivals, and what the numbers show in words."""
    reference = next(iter(counts))
    shares = [
        {"scheme": scheme, "base": _share(pair[0], n, confidence), "trained": _share(pair[1], n, confidence)}
        for scheme, pair in counts.items()
    ]
    rows = [
        {
            "scheme": scheme,
            f"gain, {reference}": _points(got.delta_ref),
            "gain, quantized": _points(got.delta_q),
            "survival": _points(got.survival),
            "interval": f"[{_points(got.survival_interval.low)}, {_points(got.survival_interval.high)}]",
            "verdict": got.verdict,
            "items for the gain": got.items_needed_per_arm,
            "items for the margin": got.items_needed_within_margin,
        }
        for scheme, got in found.items()
    ]
    first = next(iter(found.values()))
    parts = [
        f"# What {n} questions can say\n",
        f"Right answers, % [{100 * confidence:g} % Wilson interval]\n\n{to_markdown(shares)}",
        f"Gain and survival in points, margin {100 * first.margin:g}; items: per cell, at 80 % power\n\n"
        f"{to_markdown(rows)}",
    ]
    parts += [
        f"{scheme}: {got.shows} Verdict: {got.verdict}. {got.why} {got.does_not_show}\n"
        for scheme, got in found.items()
    ]
    return "\n".join([*parts, first.assumption]) + "\n"


def _share(correct: int, n: int, confidence: float) -> str:
    interval = wilson(correct, n, confidence)
    return f"{100 * correct / n:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", metavar="SCHEME=BASE,TRAINED", help="counts, the unquantized scheme first")
    parser.add_argument("--items", type=int, default=100, metavar="N", help="questions that each model was asked (100)")
    parser.add_argument("--margin", type=float, default=0.02, help="loss that counts as none, a share of items (0.02)")
    parser.add_argument("--confidence", type=float, default=0.95, help="level of the intervals (0.95)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args(argv)
    counts = read_counts(args.counts) if args.counts else PUBLISHED
    (_, pair), *others = counts.items()
    found = {
        scheme: unpaired_survival(*pair, *quantized, n=args.items, margin=args.margin, confidence=args.confidence)
        for scheme, quantized in others
    }
    if args.json:
        print(json.dumps({scheme: dataclasses.asdict(got) for scheme, got in found.items()}, indent=1))
    else:
        print(text_of(counts, found, n=args.items, confidence=args.confidence), end="")
    return 0


if __name__ == "__main__":
    cli.run(main)
