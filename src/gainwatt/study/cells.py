"""From a study to its cells: the combinations that get measured."""

from __future__ import annotations

from dataclasses import dataclass

from gainwatt.errors import InputError
from gainwatt.schemes import get_scheme
from gainwatt.study.model import Study

BASE = "base"


@dataclass(frozen=True, order=True)
class Cell:
    """One measured combination: a model variant stored by a scheme."""

    variant: str
    scheme: str

    @property
    def name(self) -> str:
        """`variant.scheme`, the stem of the cell's files."""
        return f"{self.variant}.{self.scheme}"

    @property
    def about(self) -> dict[str, str]:
        """What a record says of the cell that it is of."""
        return {"variant": self.variant, "scheme": self.scheme}


def trained_variants(study: Study) -> list[str]:
    """Names of the trained variants, one per training seed, in the study's order; none in a study without matrix."""
    return [f"grpo-s{seed}" for seed in study.train.seeds] if study.matrix else []


def named_variants(study: Study) -> list[str]:
    """Trained variants that a study without matrix serves or profiles, because it names them; in the seeds' order."""
    sections = (study.serve, study.profile)
    named = {name for section in sections if section is not None for name in section.variants or ()}
    return [name for seed in study.train.seeds if (name := f"grpo-s{seed}") in named and not study.matrix]


def variants(study: Study) -> list[str]:
    """The base and the trained variants, also those that a study without matrix only names."""
    return [BASE, *trained_variants(study), *named_variants(study)]


def schemes(study: Study) -> list[str]:
    """The reference scheme first, then the others in the study's order."""
    return [study.quantize.reference, *study.quantize.schemes]


def quantized_schemes(study: Study) -> list[str]:
    """The schemes that need a checkpoint of their own."""
    return [name for name in schemes(study) if not get_scheme(name).dense]


def evaluation_cells(study: Study) -> list[Cell]:
    """Every cell of the accuracy matrix, base first; none in a study without matrix."""
    if not study.matrix:
        return []
    return [Cell(variant, scheme) for variant in variants(study) for scheme in schemes(study)]


def quantization_cells(study: Study) -> list[Cell]:
    """Every cell of the matrix that needs a checkpoint made by quantization."""
    if not study.matrix:
        return []
    return [Cell(variant, scheme) for variant in variants(study) for scheme in quantized_schemes(study)]


def training_seed(study: Study, variant: str) -> int:
    """The seed of a trained variant. Raises InputError for a variant that the study does not train."""
    for seed in study.train.seeds:
        if variant == f"grpo-s{seed}":
            return seed
    raise InputError(
        f"the study {study.study!r} trains no variant {variant!r}",
        f"it trains: {', '.join(trained_variants(study))}",
    )


def check_cell(study: Study, variant: str, scheme: str) -> Cell:
    """The cell of a study. Raises InputError when the study holds no such variant or scheme."""
    if variant not in variants(study):
        raise InputError(
            f"the study {study.study!r} has no variant {variant!r}", f"it has: {', '.join(variants(study))}"
        )
    if scheme not in schemes(study):
        raise InputError(f"the study {study.study!r} has no scheme {scheme!r}", f"it has: {', '.join(schemes(study))}")
    return Cell(variant, scheme)
