"""Figures: pure functions of a study's records, in one colour-blind safe style, as SVG and PNG."""
