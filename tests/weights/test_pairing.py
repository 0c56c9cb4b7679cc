from __future__ import annotations

from typing import Any

import pytest

from gainwatt.errors import RecordError
from gainwatt.weights.pairing import check_pairing

DIAGNOSIS = {"cell": {"variant": "base"}, "inputs": {"checkpoint": {"sha256": "d" * 64}}}


def evaluation(**checkpoint: Any) -> dict[str, Any]:
    return {"cell": {"variant": "base", "scheme": "x"}, "inputs": {"checkpoint": checkpoint}}


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"sha256": "d" * 64, "scheme": "dense", "parent_sha256": "a" * 64},
        {"sha256": "d" * 64, "scheme": "bf16"},
        {"sha256": "e" * 64, "scheme": "bnb-nf4", "parent_sha256": "d" * 64},
    ],
)
def test_the_same_weights_are_paired(checkpoint: dict[str, str]) -> None:
    check_pairing(DIAGNOSIS, evaluation(**checkpoint))


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"sha256": "e" * 64, "scheme": "dense", "parent_sha256": "d" * 64},
        {"sha256": "d" * 64, "scheme": "bnb-nf4", "parent_sha256": "e" * 64},
    ],
)
def test_other_weights_are_refused(checkpoint: dict[str, str]) -> None:
    with pytest.raises(RecordError, match=r"dddddddddddd, and the evaluation base\.x of eeeeeeeeeeee"):
        check_pairing(DIAGNOSIS, evaluation(**checkpoint))


@pytest.mark.parametrize(
    "checkpoint", [{"sha256": "d" * 64, "scheme": "bnb-nf4"}, {"scheme": "dense"}, {"sha256": None, "scheme": "bf16"}]
)
def test_a_record_that_does_not_say_is_refused(checkpoint: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="do not both name"):
        check_pairing(DIAGNOSIS, evaluation(**checkpoint))


def test_a_record_without_checkpoint_is_refused() -> None:
    with pytest.raises(RecordError, match=r"the evaluation base\.x names no checkpoint"):
        check_pairing(DIAGNOSIS, {"cell": {"variant": "base", "scheme": "x"}, "inputs": {}})
    with pytest.raises(RecordError, match=r"the diagnosis r/base\.json names no checkpoint"):
        check_pairing({"cell": {}, "inputs": {}, "path": "r/base.json"}, evaluation(sha256="d", scheme="dense"))


def test_the_quantized_checkpoint_must_be_the_evaluated_one() -> None:
    looked_at = {"quantized_bnb_nf4": {"sha256": "a" * 64}}
    diagnosis = {"cell": {"variant": "base"}, "inputs": DIAGNOSIS["inputs"] | looked_at}
    evaluated = {"scheme": "bnb-nf4", "parent_sha256": "d" * 64}
    check_pairing(diagnosis, evaluation(sha256="a" * 64, **evaluated))
    check_pairing(diagnosis, evaluation(sha256="b" * 64, **(evaluated | {"scheme": "awq-w4g128"})))
    with pytest.raises(RecordError, match=r"looked at the bnb-nf4 checkpoint aaaaaaaaaaaa, and .* is of bbbbbbbbbbbb"):
        check_pairing(diagnosis, evaluation(sha256="b" * 64, **evaluated))
