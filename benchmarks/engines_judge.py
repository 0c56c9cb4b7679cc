"""What the runs of benchmarks/engines.py say: throughput of both arms, and the share of our window at plain speed."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

from gainwatt.atomic import write_json, write_text

SLICES = 10
FAST = 0.95
"""A slice counts where its throughput is at least this share of plain vLLM's."""
WANTED_SHARE = 0.90
RESAMPLES = 2000


def judge(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Throughputs of both arms, and the share of our window spent in slices at plain vLLM's speed.

    The window is the typical one: of each slice the median over the runs of an arm. A single slice of a single run says
    more of the machine than of the arm; how much, `plain_single_runs` tells: plain vLLM's own runs, each against the
    median of the others. What other runs would have given, the two `_interval` tell: 95 % of RESAMPLES draws of as many
    runs of each arm, with replacement (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993).
    """
    arms = {arm: [run for run in runs if run["arm"] == arm] for arm in ("ours", "raw")}
    ratio, share = _drawn(arms)
    return _point(arms) | {"ratio_interval": ratio, "share_interval": share}


def _point(arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    slices = {arm: [run["slices_s"] for run in found] for arm, found in arms.items()}
    ours, plain = _typical(slices["ours"]), _typical(slices["raw"])
    others = [slices["raw"][:i] + slices["raw"][i + 1 :] or [run] for i, run in enumerate(slices["raw"])]
    speed = {arm: statistics.mean(run["tok_s"] for run in found) for arm, found in arms.items()}
    share = _share([ours], [plain])
    return {
        "ours_tok_s": speed["ours"],
        "raw_tok_s": speed["raw"],
        "ratio": speed["ours"] / speed["raw"],
        "slice_ratios": [p / o for o, p in zip(ours, plain, strict=True)],
        "share_at_95_percent_of_raw": share,
        "ours_single_runs": _share(slices["ours"], [plain] * len(slices["ours"])),
        "plain_single_runs": _share(slices["raw"], [_typical(runs) for runs in others]),
        "passed": share >= WANTED_SHARE,
    }


def _drawn(arms: dict[str, list[dict[str, Any]]]) -> tuple[list[float], list[float]]:
    """The 95 % intervals of the ratio of throughputs and of the share, over the runs."""
    draw = random.Random(0)
    found = [_point({arm: draw.choices(runs, k=len(runs)) for arm, runs in arms.items()}) for _ in range(RESAMPLES)]
    ends = [round(RESAMPLES * share) for share in (0.025, 0.975)]
    ratio, share = (sorted(one[name] for one in found) for name in ("ratio", "share_at_95_percent_of_raw"))
    return [ratio[end] for end in ends], [share[end] for end in ends]


def _typical(runs: list[list[float]]) -> list[float]:
    """The median of each slice, in seconds."""
    return [statistics.median(slices) for slices in zip(*runs, strict=True)]


def _share(runs: list[list[float]], plain: list[list[float]]) -> float:
    """Share of the time of `runs` that lies in slices at FAST of the plain ones' speed or more."""
    pairs = [pair for run, against in zip(runs, plain, strict=True) for pair in zip(run, against, strict=True)]
    return sum(s for s, p in pairs if s <= p / FAST) / sum(s for s, _ in pairs)


def _range(interval: list[float]) -> str:
    return f"[{interval[0]:.1%}, {interval[1]:.1%}]"


def markdown(result: dict[str, Any]) -> str:
    """The result as a small table with its conditions."""
    about, judged = result["about"], result["result"]
    arms = "both arms by one engine" if about["one_engine"] else "an engine for each arm"
    lines = [
        f"# Evaluation against plain vLLM: {about['items']} prompts x {about['tokens']} tokens, {about['shape']}",
        "",
        f"vLLM {about['vllm']['vllm_version']}, attention {about['vllm']['attention']}, {about['device']}, {arms}",
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
        f"Mean {judged['ours_tok_s']:.0f} tok/s against {judged['raw_tok_s']:.0f} tok/s: {judged['ratio']:.1%} "
        f"{_range(judged['ratio_interval'])}. "
        f"Share of our typical window (median of each tenth of the work over the runs) at 95 % of plain vLLM's "
        f"speed or more: {judged['share_at_95_percent_of_raw']:.1%} {_range(judged['share_interval'])} "
        f"(wanted: {WANTED_SHARE:.0%}). In brackets: 95 % over the runs. The tenths run at "
        f"{', '.join(f'{ratio:.2f}' for ratio in judged['slice_ratios'])} of it.",
        "",
        f"Tenths of single runs, with the machine's own jitter: ours {judged['ours_single_runs']:.1%}, plain vLLM "
        f"against its other runs {judged['plain_single_runs']:.1%}.",
    ]
    return "\n".join(lines) + "\n"


def write(out: Path, runs: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write OUT.json and OUT.md, and show the latter."""
    result = {"about": about, "result": judge(runs), "runs": runs}
    write_json(out.with_suffix(".json"), result)
    write_text(out.with_suffix(".md"), markdown(result))
    print(markdown(result), flush=True)
