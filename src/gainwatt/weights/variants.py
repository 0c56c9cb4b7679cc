"""The checkpoints whose weights are diagnosed: base, trained variants, and the supervised control."""

from __future__ import annotations

from gainwatt.study import Study, variants


def matched_variant(study: Study) -> str:
    """The trained variant whose step size the supervised control repeats: that of the first training seed."""
    return f"grpo-s{study.train.seeds[0]}"


def control_variants(study: Study) -> list[str]:
    """`sft-s<seed>` where the study asks for the supervised control. Controls are not evaluated."""
    return [f"sft-s{study.train.seeds[0]}"] if study.diagnose.sft_control and study.matrix else []


def diagnosed_variants(study: Study) -> list[str]:
    """Every variant that has a weight diagnosis, controls last; none in a study without matrix."""
    return [*variants(study), *control_variants(study)] if study.matrix else []
