"""Tables of the llama.cpp profile: arms, ablations with paired ratios, ranking with ties, race to sleep.

`llamacpp_backends` and `llamacpp_per_token` have the columns, in their order, of the two tables of a published study of
TinyLlama on a desktop (csce585-mlsystems/Energy-Aware-LLM-Inference-on-Consumer-Hardware); their numbers here are of
requests without loading, and of one boundary for every arm.
"""

from __future__ import annotations

from typing import Any

from gainwatt.llamacpp import race
from gainwatt.llamacpp.arms import BACKENDS, BATCH, LAYERS, PARALLEL, SESSION, THREADS, TYPES, Arm, arms_of
from gainwatt.llamacpp.metrics import per_window
from gainwatt.llamacpp.ranking import geometric_mean, paired_ratio, rank
from gainwatt.record import Record
from gainwatt.tables.results import Results, read_sidecar
from gainwatt.tables.write import to_markdown

Row = dict[str, Any]
STAGE = "profile_llamacpp"
COMPARISONS = (BACKENDS, THREADS, LAYERS, BATCH, PARALLEL, TYPES)
CRITERIA = ("edp_gross_js", "gross_j_per_request", "latency_s", "s_per_request")
"""What arms are ranked by, lower is better; those without joules are left out where there are none."""
ALL = "all"
_SUITE = (
    "windows", "requests", "prompt_tokens", "generated_tokens", "latency_s", "latency_low_s", "latency_high_s",
    "latency_cv", "latency_p50_s", "latency_p95_s", "ttft_s", "ttft_p95_s", "prefill_tok_s", "decode_tok_s",
    "decode_low_tok_s", "decode_high_tok_s", "throughput_tok_s", "s_per_request", "gross_j_per_request",
    "gross_low_j_per_request", "gross_high_j_per_request", "net_j_per_request", "prefill_gross_j_per_request",
    "decode_gross_j_per_request", "cpu_package_gross_j_per_request", "dram_gross_j_per_request",
    "gpu_board_gross_j_per_request", "gross_j_per_ktok", "net_j_per_ktok", "tokens_per_j", "mean_w", "idle_w",
    "edp_gross_js", "edp_gross_low_js", "edp_gross_high_js", "edp_net_js", "edp_published_js", "edp_per_token_js",
    "weights_read_gb_s", "share_of_bandwidth", "gate_throughput", "gate_power", "gate_length", "gate_repeats",
)  # fmt: skip
_ARM = ("load_s", "load_sd_s", "load_gross_j", "read_bandwidth_gb_s", "peak_rss_mib", "weight_bytes", "file_bytes",
        "bits_per_weight")  # fmt: skip


def arms(results: Results) -> list[Row]:
    """One row per arm and suite; an arm that could not be measured is one row with its reason."""
    rows = []
    for arm, record in measured(results):
        start = {name: record["cell"].get(name) for name in ("arm", "backend", "type", "threads", "gpu_layers",
                                                             "prompt_batch", "parallel")}  # fmt: skip
        end = {"status": record["status"], "reason": _first_line(record["reason"])}
        metrics = record["metrics"]
        for suite in arm.suites(_section(results)) if record["status"] == "ok" else ("",):
            found = {name: metrics.get(f"{suite}_{name}") for name in _SUITE}
            found |= {name: metrics.get(name) for name in _ARM}
            why = record["null_reasons"].get(f"{suite}_gross_j_per_request")
            rows.append({**start, "suite": suite or None, **found, "null_reason": why, **end})
    return rows


def backends(results: Results) -> list[Row]:
    """CPU against GPU, suite by suite, in the columns of the published text table."""
    return [
        {
            "Backend": row["backend"], "Suite": row["suite"], "Latency (ms)": _ms(row["latency_s"]),
            "Energy (J)": row["gross_j_per_request"], "EDP (J*s)": row["edp_gross_js"],
        }
        for row in _main_rows(results)
    ]  # fmt: skip


def per_token(results: Results) -> list[Row]:
    """The same in the columns of the published first version: per generated token, latency with its 95th percentile."""
    rows = []
    for row in _main_rows(results):
        tokens = (row["generated_tokens"] or 0) / row["requests"] if row["requests"] else None
        joules = None if row["gross_j_per_ktok"] is None else row["gross_j_per_ktok"] / 1e3
        mean, p95 = (
            1e3 * row[name] / tokens if tokens and row[name] is not None else None
            for name in ("latency_s", "latency_p95_s")
        )
        rows.append(
            {
                "Prompt Suite": row["suite"], "Backend": row["backend"], "Energy (J/token)": joules,
                "Avg Latency": mean, "P95 Latency (ms/token)": p95,
                "EDP": None if joules is None or mean is None else joules * mean / 1e3,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: str(row["Prompt Suite"]))


def _main_rows(results: Results) -> list[Row]:
    main = {arm.name for arm, _ in measured(results) if arm.value(BACKENDS) is not None}
    return [row for row in arms(results) if row["arm"] in main and row["status"] == "ok"]


def ablations(results: Results) -> list[Row]:
    """Every comparison: value after value against the first that was measured, paired round by round."""
    rows: list[Row] = []
    if not measured(results):
        return rows
    section, rounds = _section(results), _rounds(results)
    records = dict(measured(results))
    for comparison in COMPARISONS:
        for backend in ("cpu", "gpu"):
            members = [a for a in records if a.value(comparison) is not None]
            if comparison != BACKENDS:
                members = [a for a in members if a.backend == backend]
            elif backend == "gpu":
                continue
            if len(members) > 1:
                for suite in section.suite_names:
                    rows += _compared(results, comparison, members, suite, records, rounds)
    return rows


def _compared(
    results: Results, comparison: str, members: list[Arm], suite: str, records: dict[Arm, Record], rounds: Any
) -> list[Row]:
    inside = [arm for arm in members if suite in arm.suites(_section(results))]
    if len(inside) < 2:
        return []
    first = next((arm for arm in inside if records[arm]["status"] == "ok"), None)
    rows = []
    for arm in inside:
        record, metrics = records[arm], records[arm]["metrics"]
        row: Row = {
            "comparison": comparison, "backend": arm.backend, "suite": suite, "value": arm.value(comparison),
            "arm": arm.name, "status": record["status"],
        }  # fmt: skip
        for name in ("latency_s", "decode_tok_s", "prefill_tok_s", "throughput_tok_s", "gross_j_per_request",
                     "edp_gross_js"):  # fmt: skip
            row[name] = metrics.get(f"{suite}_{name}")
        row["against"] = first.name if first else None
        for name in ("latency_s", "gross_j_per_request", "edp_gross_js"):
            row |= _ratio(name, rounds, first, arm, suite, results.study.statistics.confidence)
        row["reason"] = _first_line(record["reason"])
        rows.append(row)
    return rows


def _ratio(name: str, rounds: Any, first: Arm | None, arm: Arm, suite: str, confidence: float) -> Row:
    stem = f"{name.rpartition('_')[0] if name.endswith('_s') or name.endswith('_js') else 'gross_j'}_ratio"
    if first is None or first == arm:
        return {stem: None, f"{stem}_low": None, f"{stem}_high": None}
    ours, theirs = (rounds.get((found.name, suite), {}).get(name, {}) for found in (arm, first))
    found = paired_ratio(theirs, ours, confidence)
    return {stem: found.ratio, f"{stem}_low": found.low, f"{stem}_high": found.high}


def ranking(results: Results) -> list[Row]:
    """Arms from the best on, by each criterion; arms that nothing tells apart name each other as tied.

    The suite `all` takes the geometric mean over the suites, for the arms that ran all of them.
    """
    rows: list[Row] = []
    if not measured(results):
        return rows
    names = _section(results).suite_names
    rounds = _rounds(results)
    types = {arm.name: arm.type for arm, _ in measured(results)}
    for criterion in CRITERIA:
        for suite in (*names, ALL) if len(names) > 1 else names:
            values = _values(rounds, criterion, suite, names)
            for place in rank(values, results.study.statistics.confidence) if len(values) > 1 else ():
                rows.append(
                    {
                        "criterion": criterion, "suite": suite, "rank": place.rank, "arm": place.arm,
                        "type": types[place.arm],
                        "value": place.value, "tied_with": " ".join(place.tied) or None,
                        "worse_than": " ".join(place.worse_than) or None, "rounds": place.rounds,
                    }
                )  # fmt: skip
    return rows


def _values(rounds: Any, criterion: str, suite: str, names: tuple[str, ...]) -> dict[str, Any]:
    arms_there = list(dict.fromkeys(arm for arm, _ in rounds))
    if suite != ALL:
        found = {arm: rounds.get((arm, suite), {}).get(criterion, {}) for arm in arms_there}
    else:
        parts = {arm: [rounds.get((arm, name), {}).get(criterion, {}) for name in names] for arm in arms_there}
        found = {arm: geometric_mean(values) for arm, values in parts.items() if all(values)}
    return {arm: values for arm, values in found.items() if values}


def sleep_race(results: Results) -> list[Row]:
    """Which arm needs least energy until a deadline, by the power at rest; and where the measured idle power lies.

    Of the arms that run one request at a time with the file of `arm_type`: another type answers differently, and of
    requests that are decoded together each one takes longer.
    """
    rows: list[Row] = []
    if not measured(results):
        return rows
    same = {arm.name for arm, _ in measured(results) if arm.type == _section(results).arm_type and arm.parallel == 1}
    table = [row for row in arms(results) if row["arm"] in same and row["gross_j_per_request"] is not None]
    for suite in _section(results).suite_names:
        inside = [row for row in table if row["suite"] == suite]
        work = {row["arm"]: (row["gross_j_per_request"], row["s_per_request"]) for row in inside}
        if not work:
            continue
        deadline = _section(results).deadline_s or max(seconds for _, seconds in work.values())
        idles = [row["idle_w"] for row in inside if row["idle_w"] is not None]
        idle = sum(idles) / len(idles) if idles else None
        for segment in race.winners(work, deadline):
            here = idle is not None and segment.low_w <= idle and (segment.high_w is None or idle < segment.high_w)
            joules, seconds = work[segment.arm]
            rows.append(
                {
                    "suite": suite, "deadline_s": deadline, "idle_from_w": segment.low_w, "idle_to_w": segment.high_w,
                    "winner": segment.arm, "gross_j_per_request": joules, "s_per_request": seconds,
                    "measured_idle_w": idle, "at_measured_idle": here if idle is not None else None,
                    "total_at_measured_idle_j": race.total_j(joules, seconds, deadline, idle or 0.0) if here else None,
                    "fastest": min(work, key=lambda name: work[name][1]),
                }
            )  # fmt: skip
    return rows


def measured(results: Results) -> list[tuple[Arm, Record]]:
    """Every arm of the study that has a record, in the study's order."""
    if results.study.llamacpp is None:
        return []
    found = results.branches.get(STAGE, {})
    return [(arm, found[arm.name]) for arm in arms_of(results.study.llamacpp) if arm.name in found]


def session(results: Results) -> Record | None:
    """The record of the session."""
    return results.branches.get(STAGE, {}).get(SESSION)


def _section(results: Results) -> Any:
    return results.study.llamacpp


def _rounds(results: Results) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """(arm, suite) -> quantity -> round -> value, from the windows beside the records."""
    found = {}
    for arm, record in measured(results):
        if record["status"] != "ok":
            continue
        columns = read_sidecar(record, "windows")
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for suite in arm.suites(_section(results)):
            found[arm.name, suite] = per_window(rows, suite)
    return found


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _first_line(text: str | None) -> str | None:
    return text.splitlines()[0] if text else None


def section(results: Results, tables: dict[str, list[Row]]) -> str:
    """The part of the summary about llama.cpp; empty without records of it."""
    if not measured(results):
        return ""
    parts = ["## llama.cpp: CPU against GPU\n", to_markdown(tables["llamacpp_backends"])]
    best = [row for row in tables["llamacpp_ranking"] if row["rank"] == 1 and row["suite"] in (ALL, *_only(results))]
    said: dict[str, list[str]] = {}
    for row in best:
        said.setdefault(row["criterion"], []).append(row["arm"])
    parts += [
        f"Nothing is better by {name} with confidence than: {', '.join(names)}.\n" for name, names in said.items()
    ]
    absent: dict[str, list[str]] = {}
    for arm, record in measured(results):
        if record["status"] != "ok":
            absent.setdefault(f"{record['status']}: {_first_line(record['reason'])}", []).append(arm.name)
    parts += [f"Not measured, {why}: {', '.join(names)}.\n" for why, names in absent.items()]
    reasons = sorted({row["null_reason"] for row in tables["llamacpp_arms"] if row["null_reason"]})
    return "\n".join(parts + [f"Null joules: {reason}\n" for reason in reasons])


def _only(results: Results) -> tuple[str, ...]:
    names: tuple[str, ...] = _section(results).suite_names
    return names if len(names) == 1 else ()
