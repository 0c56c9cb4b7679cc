"""A study: its model, its file, its cells and where its files lie."""

from gainwatt.study.cells import (
    BASE,
    Cell,
    check_cell,
    evaluation_cells,
    quantization_cells,
    quantized_schemes,
    schemes,
    trained_variants,
    training_seed,
    variants,
)
from gainwatt.study.layout import DENSE, Layout
from gainwatt.study.load import load_study
from gainwatt.study.model import Study, hub_id, is_hub

__all__ = [
    "BASE",
    "DENSE",
    "Cell",
    "Layout",
    "Study",
    "check_cell",
    "evaluation_cells",
    "hub_id",
    "is_hub",
    "load_study",
    "quantization_cells",
    "quantized_schemes",
    "schemes",
    "trained_variants",
    "training_seed",
    "variants",
]
