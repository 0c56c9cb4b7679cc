"""Profile generation with transformers: each scheme, mode and attention implementation of one group under every load.

    profile_inference.py --study S                          every group of the study, each in a process of its own
    profile_inference.py --study S --group base.bnb-nf4     one group

A group is the unquantized baseline and the arms that are measured beside it, in the order A B B A, in one process. For
each cell the record has latency, time to the first token, prefill and decode rates, gross and net joules, memory by
phase, operations, the share of the machine's roof, kernels and what bounds it. An arm that does not fit (oom) or that
this machine lacks (unavailable) is a row. Beside the record lies `.calls.parquet` with every batch. A killed profile
goes on with the loads that are left.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gainwatt import cli
from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.engines.start import context_tokens
from gainwatt.environment import capture
from gainwatt.errors import InputError, RecordError, UnavailableError
from gainwatt.job import Job
from gainwatt.limits import DeviceLimits, measure_limits
from gainwatt.modeling import device, load_tokenizer, memory_mib
from gainwatt.oom import is_out_of_memory
from gainwatt.profiling.arms import LoadedArm, free_memory, load_arm
from gainwatt.profiling.measure import Bench, measure_load
from gainwatt.profiling.partial import FinishedLoads
from gainwatt.profiling.trial import outcome
from gainwatt.record import read_record, text_sha256
from gainwatt.study import Layout, Study
from gainwatt.study.profiling_cells import STAGE, Group, Load, find_group, groups, loads, section
from gainwatt.workflow import find_interpreter


def read_checkpoints(job: Job, layout: Layout, group: Group) -> tuple[dict[str, Checkpoint], dict[str, str]]:
    """Checkpoint of each arm's scheme, hashed; and for those that could not be made here, the reason."""
    read = functools.cache(read_manifest)  # the unquantized schemes share one checkpoint, and gigabytes are hashed once
    found: dict[str, Checkpoint] = {}
    missing: dict[str, str] = {}
    for scheme in dict.fromkeys(arm.scheme for arm in group.arms):
        manifest = layout.manifest(group.variant, scheme)
        try:
            found[scheme] = read(manifest)
        except UnavailableError as error:
            missing[scheme] = error.what
            continue
        job.add_input(f"checkpoint of {scheme}", found[scheme].sha256, scheme=found[scheme].scheme)
    return found, missing


def check_context(checkpoints: dict[str, Checkpoint], wanted: list[Load]) -> None:
    """Raise InputError where prompt and answer do not fit into the model's context."""
    needed = max(load.prompt_tokens + load.new_tokens for load in wanted)
    for checkpoint in checkpoints.values():
        limit = context_tokens(checkpoint.folder)
        if limit is not None and needed > limit:
            raise InputError(
                f"profile.prompt_tokens and profile.new_tokens need {needed} positions, and the model has {limit}",
                "lower profile.prompt_tokens or profile.new_tokens",
            )


def load_arms(
    job: Job, study: Study, group: Group, checkpoints: dict[str, Checkpoint], missing: dict[str, str]
) -> tuple[dict[str, LoadedArm], dict[str, tuple[str, str]]]:
    """Every arm that can be loaded, and (status, reason) of every other."""
    loaded: dict[str, LoadedArm] = {}
    failed: dict[str, tuple[str, str]] = {}
    for arm in group.arms:
        if arm.scheme in missing:
            failed[arm.label] = ("unavailable", missing[arm.scheme])
            continue
        print(f"loading {arm.label}", file=sys.stderr, flush=True)
        try:
            with job.phase(f"load {arm.label}"):
                loaded[arm.label] = load_arm(
                    arm, checkpoints[arm.scheme], study.model.dtype, trust_remote_code=study.model.trust_remote_code
                )
        except InputError:
            raise
        except Exception as error:
            found = outcome(error)
            if found is None:
                raise
            failed[arm.label] = found
        if arm.label in failed:
            free_memory()
    return loaded, failed


def machine_limits(job: Job, loaded: dict[str, LoadedArm]) -> dict[str, DeviceLimits | str]:
    """The machine's limits for the type of each arm's arithmetic, or why they could not be measured."""
    found: dict[str, DeviceLimits | str] = {}
    with job.phase("limits"):
        for dtype in dict.fromkeys(arm.dtype for arm in loaded.values()):
            try:
                found[dtype] = measure_limits(device(), dtype)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                found[dtype] = "the models left no room to measure the machine's limits"
    free_memory()
    found = agreed(found)
    job.settings["limits"] = {
        dtype: limits.as_dict() if isinstance(limits, DeviceLimits) else {"reason": limits}
        for dtype, limits in found.items()
    }
    return found


def agreed(found: dict[str, DeviceLimits | str]) -> dict[str, DeviceLimits | str]:
    """The same limits with one bandwidth and one cost of a launch: they do not depend on the type of a product.

    The largest bandwidth and the smallest cost count: what disturbs such a measurement makes it worse.
    """
    known = [limits for limits in found.values() if isinstance(limits, DeviceLimits)]
    return {
        dtype: dataclasses.replace(
            limits,
            bandwidth_gb_s=max(other.bandwidth_gb_s for other in known),
            launch_us=min(other.launch_us for other in known),
        )
        if isinstance(limits, DeviceLimits)
        else limits
        for dtype, limits in found.items()
    }


def profile(job: Job, study: Study, layout: Layout, group: Group, args: argparse.Namespace) -> None:
    """Load every arm, measure every load that is left, and fill the record."""
    wanted, settings = loads(study), section(study)
    job.listed_phases = 1  # every window stands in its cell
    with job.phase("check"):
        checkpoints, missing = read_checkpoints(job, layout, group)
        if not checkpoints:
            raise UnavailableError("no arm of the group has a checkpoint: " + "; ".join(missing.values()))
        check_context(checkpoints, wanted)
        first = next(iter(checkpoints.values()))
        tokenizer = load_tokenizer(first.folder, trust_remote_code=study.model.trust_remote_code)
    identity = text_sha256(f"{study.settings_sha256(STAGE)} {group} {machine()} {sorted_shas(checkpoints)}")
    finished = FinishedLoads(args.work / group.name / "loads.jsonl", identity)
    job.keep_energy(args.work / group.name / "energy.json", identity)
    job.metrics["resumed_loads"] = len(finished.done)
    left = [load for load in wanted if load.name not in finished.done]
    if left:
        loaded, failed = load_arms(job, study, group, checkpoints, missing)
        limits = machine_limits(job, loaded)
        finished.keep_limits(job.settings["limits"])
        bench = Bench(
            job.meter, group.arms, loaded, failed, tokenizer, protocol(settings), limits, settings.kernels,
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
        for load in cli.progress(left, what=group.name, unit="load"):
            cells, calls = measure_load(bench, load)
            finished.add(load, cells, calls)
        job.settings["events"] = bench.events
    job.settings["limits"] = finished.limits
    describe(job, wanted, finished, args.record_of(group))
    job.on_written(finished.remove)


def describe(job: Job, wanted: list[Load], finished: FinishedLoads, record: Path) -> None:
    """Cells into the metrics, calls into a table beside the record."""
    cells = [cell for load in wanted for cell in finished.done[load.name]["cells"]]
    calls = [call for load in wanted for call in finished.done[load.name]["calls"]]
    for status in ("ok", "oom", "unavailable"):
        job.metrics[f"cells_{status}"] = sum(cell["status"] == status for cell in cells)
    job.metrics["cells"] = cells
    job.metrics["peak_rss_mib"] = memory_mib()["peak_rss_mib"]
    if not job.metrics["cells_ok"]:
        statuses = {cell["status"] for cell in cells}
        job.status = "oom" if statuses == {"oom"} else "unavailable"
        job.reason = "; ".join(dict.fromkeys(f"{cell['arm']}: {cell['reason']}" for cell in cells))[:500]
    if calls:
        job.add_table("calls", calls)


def protocol(settings: Any) -> Any:
    """The measuring protocol as the section asks for it."""
    from gainwatt.energy.protocol import Settings

    return Settings(
        window_s=settings.window_s, repeats=settings.repeats, warmup_runs=settings.warmup_runs,
        cool_margin_c=settings.cool_margin_c, cool_patience_s=settings.cool_patience_s,
    )  # fmt: skip


def machine() -> str:
    """What must be the same for loads of two processes to stand in one record."""
    seen = capture()
    gpus = [gpu["name"] for gpu in seen["gpus"]] if isinstance(seen["gpus"], list) else []
    return f"{seen.get('cpu')} {gpus} {seen.get('packages', {}).get('torch')}"


def sorted_shas(checkpoints: dict[str, Checkpoint]) -> list[str]:
    """Hashes of all checkpoints of the group."""
    return sorted(checkpoint.sha256 for checkpoint in checkpoints.values())


def is_measured(study: Study, layout: Layout, group: Group, record: Path) -> bool:
    """Whether the group's record is there, made with these settings and checkpoints."""
    try:
        found = read_record(record, stage=STAGE)["inputs"]
    except RecordError:
        return False
    if found.get("settings", {}).get("sha256") != study.settings_sha256(STAGE):
        return False
    for scheme in dict.fromkeys(arm.scheme for arm in group.arms):
        try:
            sha256 = read_manifest(layout.manifest(group.variant, scheme), verify=False).sha256
        except UnavailableError:
            sha256 = None
        if found.get(f"checkpoint of {scheme}", {}).get("sha256") != sha256:
            return False
    return True


def run_all(study: Study, layout: Layout, args: argparse.Namespace) -> int:
    """Every group that is not measured yet, each by this script in a fresh process: the board then starts at rest."""
    code = 0
    for group in groups(study):
        if is_measured(study, layout, group, args.record_of(group)):
            print(f"{args.record_of(group)} is there already", file=sys.stderr, flush=True)
            continue
        python = find_interpreter(study, group.environment) or sys.executable
        words = [python, sys.argv[0], "--study", str(args.study), "--group", group.name]
        words += [word for entry in args.overrides or [] for word in ("--set", entry)]
        words += [word for name in ("records", "work") if (p := getattr(args, f"{name}_given"))
                  for word in (f"--{name}", str(p))]  # fmt: skip
        ended = subprocess.run(words, check=False).returncode
        code = max(code, ended if ended >= 0 else 128 - ended)  # -9: killed by the signal 9, as a shell's 137
    return code


@contextlib.contextmanager
def cold_compiler() -> Iterator[None]:
    """Nothing that torch compiled in another process is found again: `compile_s` would be that of reading a file."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
            if before is not None:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--group", metavar="NAME", help="one group of the study (default: all that are left)")
    parser.add_argument("--records", type=Path, metavar="DIR", help="folder for the records (default: from the study)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="folder for unfinished work (default: from the study)")
    args = parser.parse_args(argv)
    study, layout = cli.study_of(args)
    section(study)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages; read when torch is imported
    args.records_given, args.work_given = args.records, args.work
    folder = args.records or layout.record(STAGE, "x").parent
    args.work = args.work or layout.work(STAGE, "x").parent
    args.record_of = lambda group: folder / f"{group.name}.json"
    if args.group is None:
        return run_all(study, layout, args)
    group = find_group(study, args.group)
    labels = "+".join(arm.label for arm in group.arms)
    cell = {"variant": group.variant, "baseline": group.arms[0].label, "arms": labels}
    with cold_compiler(), Job(stage=STAGE, cell=cell, study=study, record=args.record_of(group)) as job:
        profile(job, study, layout, group, args)
    return 0


if __name__ == "__main__":
    cli.run(main)
