"""A diagnosis explains an evaluation only where both looked at the same weights."""

from __future__ import annotations

from typing import Any

from gainwatt.errors import RecordError
from gainwatt.record import Record
from gainwatt.schemes import SCHEMES
from gainwatt.study import DENSE
from gainwatt.weights.update import column_name


def check_pairing(diagnosis: Record, evaluation: Record) -> None:
    """Raise RecordError unless the diagnosed checkpoint is the evaluated one, or the one that was quantized to it.

    An unquantized evaluation names the dense checkpoint by `inputs.checkpoint.sha256`, a quantized one by
    `inputs.checkpoint.parent_sha256`. A record that does not say so cannot be paired. Where the diagnosis also looked
    at the quantized checkpoint of the evaluation's scheme, that must be the evaluated one.
    """
    diagnosed = _checkpoint(diagnosis, "diagnosis")
    evaluated = _checkpoint(evaluation, "evaluation")
    key = "sha256" if _is_dense(str(evaluated.get("scheme", ""))) else "parent_sha256"
    source = evaluated.get(key)
    if not isinstance(source, str) or not isinstance(diagnosed.get("sha256"), str):
        raise RecordError(
            f"{_name(evaluation, 'evaluation')} and {_name(diagnosis, 'diagnosis')} do not both name the "
            f"unquantized checkpoint by its hash (inputs.checkpoint.{key})",
            "run the evaluation and the diagnosis again with this version",
        )
    if source != diagnosed["sha256"]:
        raise RecordError(
            f"{_name(diagnosis, 'diagnosis')} is of the checkpoint {diagnosed['sha256'][:12]}, and "
            f"{_name(evaluation, 'evaluation')} of {source[:12]}: the diagnosis says nothing about that accuracy",
            "diagnose the checkpoint that was evaluated (run the rule diagnose_weights again)",
        )
    _check_quantized(diagnosis, evaluation, evaluated)


def _check_quantized(diagnosis: Record, evaluation: Record, evaluated: dict[str, Any]) -> None:
    scheme = str(evaluated.get("scheme", ""))
    looked_at = diagnosis.get("inputs", {}).get(f"quantized_{column_name(scheme)}")
    if _is_dense(scheme) or not isinstance(looked_at, dict):
        return
    if looked_at.get("sha256") != evaluated.get("sha256"):
        raise RecordError(
            f"{_name(diagnosis, 'diagnosis')} looked at the {scheme} checkpoint "
            f"{str(looked_at.get('sha256'))[:12]}, and "
            f"{_name(evaluation, 'evaluation')} is of {str(evaluated.get('sha256'))[:12]}",
            "diagnose and evaluate the same quantized checkpoint (run the older of the two again)",
        )


def _checkpoint(record: Record, what: str) -> dict[str, Any]:
    found = record.get("inputs", {}).get("checkpoint")
    if not isinstance(found, dict):
        raise RecordError(
            f"{_name(record, what)} names no checkpoint that it measured", "run the rule that makes it again"
        )
    return found


def _is_dense(scheme: str) -> bool:
    return scheme == DENSE or (scheme in SCHEMES and SCHEMES[scheme].dense)


def _name(record: Record, what: str) -> str:
    cell = record.get("cell", {})
    return f"the {what} {record.get('path') or '.'.join(str(value) for value in cell.values())}"
