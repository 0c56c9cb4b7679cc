"""The metered session: every arm in every round, in the order A B … B A, one process at a time.

    visit = rest | cool | start a worker | load | for each suite: warm-up [prefill window] generate window | end of it

A GPU stays in a higher state for seconds after the process that used it has ended: a visit begins when it is at rest,
or the joules of one arm would count for the next. A window's edges lie on ticks of the energy counter; nothing sleeps
inside of it. Loading is measured at every visit. What a visit found is on the disk before the next one begins, so that
a killed session goes on with what is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gainwatt.energy.idle import wait_for_rest
from gainwatt.energy.protocol import Settings, abba, cool_down
from gainwatt.job import Job
from gainwatt.llamacpp.arms import Arm
from gainwatt.llamacpp.boundary import BOUNDARIES, Joules, absent_boundaries, measured, system
from gainwatt.llamacpp.child import ArmError, Child, spec_of
from gainwatt.llamacpp.files import GgufFile
from gainwatt.llamacpp.suites import Prompt
from gainwatt.llamacpp.visits import Row, Visits
from gainwatt.study.llamacpp import LlamaCpp

LOAD, PREFILL, GENERATE = "load", "prefill", "generate"


@dataclass
class Session:
    """Everything that a visit needs. `worker` replaces the command of the worker process."""

    job: Job
    section: LlamaCpp
    arms: dict[str, Arm]
    files: dict[str, GgufFile]
    prompts: list[Prompt]
    visits: Visits
    worker: list[str] | None = None
    start_c: float | None = None
    absent: dict[str, str] = field(default_factory=absent_boundaries)
    order: int = 0

    def schedule(self) -> list[tuple[int, Arm]]:
        """(round, arm) of every visit in its order."""
        names = abba(list(self.arms), self.section.rounds)
        return [(place // len(self.arms), self.arms[name]) for place, name in enumerate(names)]

    def left(self) -> list[tuple[int, Arm]]:
        """The visits that are still to be made; none of an arm that cannot be measured."""
        return [
            (number, arm)
            for number, arm in self.schedule()
            if (number, arm.name) not in self.visits.done and self.visits.failed(arm.name) is None
        ]

    def run(self) -> Iterator[tuple[int, Arm]]:
        """Make the visits that are left; yields each before it is made."""
        self.start_c = self.job.meter.temperature_c()
        for number, arm in self.left():
            if self.visits.failed(arm.name) is None:
                yield number, arm
                self.visits.append(self._visit(number, arm))

    def _visit(self, number: int, arm: Arm) -> Row:
        row: Row = {"round": number, "arm": arm.name, "status": "ok", "reason": None, "windows": [], "facts": {}}
        row["peak_rss_mib"] = row["bandwidth_gb_s"] = None
        try:
            self._measure(number, arm, row)
        except ArmError as error:
            row |= {"status": error.status, "reason": error.what}
        return row

    def _measure(self, number: int, arm: Arm, row: Row) -> None:
        file = self.files[arm.type]
        if file.path is None:
            raise ArmError("unavailable", str(file.reason))
        spec = spec_of(self.section, arm, file.path, self.prompts)
        about = {"round": number, "cooled": self._cool()}
        with Child(arm, self.section.reply_s, self.worker) as child:
            name = f"load {arm.name}"
            with self.job.phase(name, short_ok=False):
                loaded = child.ask("load", **spec)
            row["facts"] = loaded["facts"] | {"threads": spec["threads"], "offload": child.offload()}
            row["windows"].append(self._row(name, LOAD, "", about) | {"load_s": loaded["load_s"]})
            if number == 0 and arm.backend == "cpu":
                row["bandwidth_gb_s"] = child.ask("bandwidth", threads=spec["threads"])["gb_s"]
            suites = list(spec["prompts"])
            for suite in suites[:: -1 if number % 2 else 1]:
                with self.job.phase(f"warm-up {arm.name}"):
                    for _ in range(self.section.warmup_requests):
                        child.ask("run", suite=suite, kind=GENERATE, window_s=0.0)
                for kind in (PREFILL, GENERATE) if self.section.split_energy else (GENERATE,):
                    row["windows"].append(self._window(child, arm, suite, kind, about))
            row["peak_rss_mib"] = child.peak_rss_mib

    def _cool(self) -> bool | None:
        with self.job.phase("rest"):
            wait_for_rest(self.job.meter)
        settings = Settings(cool_margin_c=self.section.cool_margin_c, cool_patience_s=self.section.cool_patience_s)
        return cool_down(self.job.meter, self.start_c, settings, self.job.meter.temperature_c)

    def _window(self, child: Child, arm: Arm, suite: str, kind: str, about: Row) -> Row:
        name = f"window {arm.name} {suite} {kind}"
        temperature = self.job.meter.temperature_c()
        with self.job.phase(name, short_ok=False):
            answer = child.ask("run", suite=suite, kind=kind, window_s=self.section.window_s)
        child.peak_rss_mib = answer["peak_rss_mib"]
        found = self._row(name, kind, suite, about) | {"temperature_start_c": temperature}
        return found | totals(answer["groups"])

    def _row(self, path: str, kind: str, suite: str, about: Row) -> Row:
        entry, parts = measured(self.job.meter, path)
        whole = system(parts, self.section.boundary, self.absent, self.job.meter.sources.reasons)
        self.order += 1
        found: Row = {
            **about, "kind": kind, "suite": suite, "order": self.order, "ended_unix_s": time.time(),
            "seconds": entry["seconds"], "method": entry["energy"]["method"], "flags": entry["energy"]["flags"],
            "gross_j": whole.gross_j, "net_j": whole.net_j, "reason": whole.reason, "net_reason": whole.net_reason,
        }  # fmt: skip
        for name in BOUNDARIES:
            part = parts.get(name, Joules(None, None))
            found |= {f"{name}_gross_j": part.gross_j, f"{name}_net_j": part.net_j}
        return found


def totals(groups: list[dict[str, Any]]) -> Row:
    """Sums over the groups of requests of one window, and the latency of each request, shortest first."""
    found: Row = {
        name: sum(group[name] for group in groups)
        for name in ("requests", "prompt_tokens", "generated_tokens", "decoded_tokens", "prefill_s", "decode_s")
    }
    latencies = sorted(group["latency_s"] for group in groups for _ in range(group["requests"]))
    firsts = sorted(group["ttft_s"] for group in groups for _ in range(group["requests"]))
    found["busy_s"] = sum(group["latency_s"] for group in groups)
    return found | {"latency_s": thinned(latencies), "ttft_s": thinned(firsts)}


def thinned(values: list[float], most: int = 1000) -> list[float]:
    """At most `most` of sorted values, evenly spaced with both ends, so that their quantiles stay what they were."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
