"""What the runs of benchmarks/engines.py say: throughput of both arms, and the share of our window at plain speed."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json, write_text

SLICES = 10
FAST = 0.95
"""A slice counts where its throughput is at least this share of plain vLLM's."""
WANTED_SHARE = 0.90


def judge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Throughputs of both arms, and the share of our windows spent in slices at plain vLLM's speed."""
    arms = {arm: [run for run in runs if run["arm"] == arm] for arm in ("ours", "raw")}
    plain = [statistics.median(run["slices_s"][i] for run in arms["raw"]) for i in range(SLICES)]
    fast = [sum(s for s, p in zip(run["slices_s"], plain, strict=True) if s <= p / FAST) for run in arms["ours"]]
    share = sum(fast) / sum(sum(run["slices_s"]) for run in arms["ours"])
    speed = {arm: statistics.mean(run["tok_s"] for run in found) for arm, found in arms.items()}
    return {
        "ours_tok_s": speed["ours"],
        "raw_tok_s": speed["raw"],
        "ratio": speed["ours"] / speed["raw"],
        "share_at_95_percent_of_raw": share,
        "passed": share >= WANTED_SHARE,
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a small table with its conditions."""
    about, judged = result["about"], result["result"]
    lines = [
        f"# Evaluation against plain vLLM: {about['items']} prompts x {about['tokens']} tokens, {about['shape']}",
        "",
        f"vLLM {about['vllm']['vllm_version']}, attention {about['vllm']['attention']}, {about['device']}",
        "",
        "| run | arm | tokens | window (s) | tok/s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {i} | {run['arm']} | {run['tokens']} | {run['window_s']:.2f} | {run['tok_s']:.0f} |"
        for i, run in enumerate(result["runs"], start=1)
    ]
    lines += [
        "",
        f"Mean {judged['ours_tok_s']:.0f} tok/s against {judged['raw_tok_s']:.0f} tok/s: {judged['ratio']:.1%}. "
        f"Share of our window at 95 % of plain vLLM's throughput or more: {judged['share_at_95_percent_of_raw']:.1%} "
        f"(wanted: {WANTED_SHARE:.0%}).",
    ]
    return "\n".join(lines) + "\n"


def write(out: Path, runs: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write OUT.json and OUT.md, and show the latter."""
    result = {"about": about, "result": judge(runs), "runs": runs}
    write_json(out.with_suffix(".json"), result)
    write_text(out.with_suffix(".md"), markdown(result))
    print(markdown(result), flush=True)
