"""Compare two evaluations of one checkpoint by two engines, item by item: in this process against through a server.

LEFT and RIGHT are records of evaluate_gsm8k.py with their items beside them. Prints how many texts, answers and scores
are the same, whether the accuracies differ, and the items that part; --out writes every item as CSV.

    compare_engines.py results/demo/records/evaluate_gsm8k/base.fp32.json
        results/demo/records/evaluate_endpoint/base.fp32.endpoint-vllm.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.errors import InputError
from gainwatt.evaluation.parity import compare_items, read_rows, same_checkpoint, summary
from gainwatt.record import read_record
from gainwatt.tables.write import write_csv


def show(found: dict[str, Any], rows: list[dict[str, Any]], *, limit: int) -> None:
    """Print the summary, and the first items whose texts part."""
    n = found["items"]
    print(f"{n} items")
    for name in ("text", "answer", "score"):
        share = found[f"same_{name}_share"]
        print(f"  same {name:<7} {round(share * n):>6}  {share:7.2%}")
    print(f"  accuracy     left {found['left_accuracy']:.4f}   right {found['right_accuracy']:.4f}")
    print(
        f"  right only on the left {found['only_left_correct']}, only on the right {found['only_right_correct']} "
        f"(McNemar p = {found['p_value']:.3g})"
    )
    parted = [row for row in rows if not row["same_text"]]
    for row in parted[:limit]:
        place = row["first_difference"]
        print(f"item {row['index']} parts at character {place}:")
        for side in ("left", "right"):
            text = row[f"{side}_text"]
            begin = max(0, place - 30)
            print(f"  {side:<5} {row[f'{side}_answer']!s:>10}  …{text[begin : place + 40]!r}")
    if len(parted) > limit:
        print(f"… and {len(parted) - limit} more (--out writes all)")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("left", type=Path, metavar="LEFT", help="record of the one engine")
    parser.add_argument("right", type=Path, metavar="RIGHT", help="record of the other")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every item as CSV")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="items to print (default: %(default)s)")
    parser.add_argument("--any-checkpoint", action="store_true", help="compare records of different checkpoints too")
    args = parser.parse_args(argv)
    left, right = read_record(args.left), read_record(args.right)
    for record, path in ((left, args.left), (right, args.right)):
        if record["status"] != "ok":
            raise InputError(f"{path} is {record['status']}: {record['reason']}", "only finished evaluations compare")
    if not args.any_checkpoint and not same_checkpoint(left, right):
        raise InputError(
            f"{args.left} and {args.right} evaluated different checkpoints",
            "the difference would not be the engines'; --any-checkpoint compares them all the same",
        )
    rows = compare_items(read_rows(left, args.left), read_rows(right, args.right))
    show(summary(rows), rows, limit=args.show)
    if args.out is not None:
        write_csv(args.out, rows, tuple(rows[0]))
    return 0


if __name__ == "__main__":
    cli.run(main)
