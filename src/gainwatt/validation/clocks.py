"""Did things happen in an order that is possible?"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from gainwatt.record import Record
from gainwatt.study import BASE
from gainwatt.validation.collected import Collected, is_dense
from gainwatt.validation.expectation import Problem, each_record, number
from gainwatt.validation.findings import ERROR, WARNING
from gainwatt.workflow import base_stage

_SLACK_S = 2.0
"""Times are written in whole seconds."""
_CLOCK = "set the machine's clock (NTP) and run the rule again: its seconds and joules cannot be trusted"


def moment(record: Record, key: str) -> float | None:
    """A time of the record in seconds since 1970; None where it gives none. Raises ValueError for no ISO time."""
    value = record.get(key)
    if value is None:
        return None
    found = datetime.datetime.fromisoformat(value)
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


@each_record(ERROR, source="ISO times of the record, to the second", any_status=True)
def clock(study: Collected, record: Record) -> Iterator[Problem]:
    """A job ended after it started, and its metered window fits in between."""
    start, end = moment(record, "started_at"), moment(record, "ended_at")
    if start is None or end is None:
        return
    if end < start:
        yield Problem(f"it ended {start - end:.0f} s before it started", _CLOCK)
        return
    window_s = number(record["energy"].get("window_s"))
    if window_s is not None and window_s > end - start + _SLACK_S:
        yield Problem(f"the metered window of {window_s:.1f} s is longer than the job of {end - start:.0f} s", _CLOCK)


@each_record(WARNING, source="ISO times of the records, to the second")
def order(study: Collected, record: Record) -> Iterator[Problem]:
    """A job started after the one that made its checkpoint had ended."""
    start, variant, scheme = moment(record, "started_at"), record["cell"].get("variant"), record["cell"].get("scheme")
    if start is None or not isinstance(variant, str):
        return
    makers = [(base_stage(study.study), BASE)]
    if variant != BASE and record["stage"] != "train_grpo":
        makers.append(("train_grpo", variant))
    if record["stage"] != "quantize" and scheme is not None and not is_dense(scheme):
        makers.append(("quantize", f"{variant}.{scheme}"))
    for stage, name in makers:
        maker = study.at(stage, name)
        end = None if maker is None or maker is record else moment(maker, "ended_at")
        if end is not None and start < end - _SLACK_S:
            what = f"it started {end - start:.0f} s before {stage} of {name}, which made its checkpoint, had ended"
            hint = "run this rule again unless the hashes match and two machines merely disagree about the time"
            yield Problem(what, hint)
