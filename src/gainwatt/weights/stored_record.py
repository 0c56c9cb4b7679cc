"""Into a record: the errors and codes of the quantized checkpoints of one variant (see `evaluated`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainwatt.checkpoint import Checkpoint, read_manifest
from gainwatt.errors import InputError, UnavailableError
from gainwatt.job import Job
from gainwatt.modeling import device
from gainwatt.schemes import Scheme, get_scheme
from gainwatt.study import Study
from gainwatt.weights.evaluated import CHANGES, NUMBERS, Side, compare
from gainwatt.weights.measure import Plan
from gainwatt.weights.select import matrices
from gainwatt.weights.update import column_name

Given = list[tuple[str, Path]]
"""Scheme and manifest of quantized checkpoints."""
Quantized = list[tuple[Scheme, Checkpoint]]


def read_quantized(
    job: Job, given: Given, parent: Checkpoint, reasons: dict[str, str], *, prefix: str = "quantized"
) -> Quantized:
    """The quantized checkpoints of `parent`; what could not be made lands in `reasons`.

    Raises InputError for one that was not made from `parent`.
    """
    found = []
    for name, manifest in given:
        try:
            made = read_manifest(manifest)
        except UnavailableError as error:
            reasons[name] = error.what
            continue
        if made.scheme != name or made.parent_sha256 != parent.sha256:
            raise InputError(
                f"{manifest} is not the {name} checkpoint that was made from the {parent.variant} one "
                f"({parent.sha256[:12]})",
                "give the manifest of the same variant, or quantize it again",
            )
        job.add_input(f"{prefix}_{column_name(name)}", made.sha256, variant=made.variant, scheme=made.scheme)
        found.append((get_scheme(name), made))
    return found


@dataclass(frozen=True)
class Stored:
    """The quantized checkpoints of a variant and of its base; `reasons` say by scheme why there is none."""

    quantized: Quantized
    reasons: dict[str, str]
    base: dict[str, Checkpoint]
    base_reasons: dict[str, str]


def read_stored(
    job: Job, checkpoint: Checkpoint, base: Checkpoint | None, *, given: Given, base_given: Given
) -> Stored:
    """Read every manifest, so that one of other weights is refused before anything is measured."""
    found = Stored([], {}, {}, {})
    found.quantized.extend(read_quantized(job, given, checkpoint, found.reasons))
    if base is not None:
        theirs = read_quantized(job, base_given, base, found.base_reasons, prefix="base_quantized")
        found.base.update({scheme.name: made for scheme, made in theirs})
    return found


def compare_stored(
    job: Job, study: Study, checkpoint: Checkpoint, base: Checkpoint | None, stored: Stored
) -> list[dict[str, Any]]:
    """Metrics `stored_<number>_<scheme>` for each quantized checkpoint, against the base's where there is one.

    Returns one row per scheme and matrix.
    """
    rows: list[dict[str, Any]] = []
    for scheme, made in stored.quantized:
        why = "the base is what trained checkpoints are compared with" if base is None else None
        original = (base, stored.base[scheme.name]) if base is not None and scheme.name in stored.base else None
        rows += _compare(job, study, scheme, (checkpoint, made), original, why or stored.base_reasons.get(scheme.name))
    for name, reason in stored.reasons.items():
        null_stored(job, name, reason, NUMBERS)
    return rows


def _compare(
    job: Job,
    study: Study,
    scheme: Scheme,
    ours: tuple[Checkpoint, Checkpoint],
    base: tuple[Checkpoint, Checkpoint] | None,
    why_no_change: str | None,
) -> list[dict[str, Any]]:
    """One scheme; `ours` and `base` are the unquantized and the quantized checkpoint."""
    if scheme.kind == "llamacpp":
        reason = "codes of GGUF blocks are not compared; the quantization's own record holds the weight error"
        null_stored(job, scheme.name, reason, NUMBERS)
        return []
    embeddings = study.diagnose.include_embeddings
    pairs = [ours] if base is None else [ours, base]
    try:
        sides = [Side.read(dense.folder, made.folder, include_embeddings=embeddings) for dense, made in pairs]
    except UnavailableError as error:
        null_stored(job, scheme.name, error.what, NUMBERS)
        return []
    modules = matrices(ours[0].folder, include_embeddings=embeddings)
    plan = Plan(device=device())
    rows, numbers = compare(
        sides[0], sides[1] if base else None, scheme.name, modules, elements=plan.elements(), device=plan.device
    )
    for number, value in numbers.items():
        store_number(job, number, scheme.name, value, why_no_change if number in CHANGES else None)
    return rows


def store_number(job: Job, number: str, scheme: str, value: float | None, reason: str | None) -> None:
    """A metric `stored_<number>_<scheme>`, with its reason where it is null."""
    metric = f"stored_{number}_{column_name(scheme)}"
    if value is None:
        job.null(metric, reason or "undefined: nothing differs, or no checkpoint of the base was given")
    else:
        job.metrics[metric] = value


def null_stored(job: Job, scheme: str, reason: str, numbers: tuple[str, ...]) -> None:
    """Say why a quantized checkpoint was not compared."""
    for number in numbers:
        store_number(job, number, scheme, None, reason)
