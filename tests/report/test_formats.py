"""Numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainwatt.report import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0, "0"), (1234567, "1,234,567"), (1234.5678, "1,235"), (12.3456, "12.35"), (0.012346, "0.01235"),
        (-3.5, "−3.500"), (0.00012345, "1.23 × 10⁻⁴"), (-2e-12, "−2 × 10⁻¹²"), (3e15, "3 × 10¹⁵"), (7.0, "7"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert formats.number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_finite_number_is_shown_and_read_back_to_its_digits(value):
    text = formats.number(value).replace(",", "").replace("−", "-")
    if "×" in text:
        mantissa, _, power = text.partition(" × 10")
        text = f"{mantissa}e{power.translate(str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻', '0123456789-'))}"
    assert float(text) == pytest.approx(value, rel=6e-3)


def test_points_and_intervals_carry_signs():
    assert formats.points(0.032) == "+3.2"
    assert formats.points(-0.0001) == "0.0"
    assert formats.interval(-0.058, 0.005) == "[−5.8, +0.5]"


def test_units_that_fit():
    assert formats.seconds(0.00824) == "8.24 ms"
    assert formats.seconds(300) == "5 min"
    assert formats.seconds(7200) == "2 h"
    assert formats.joules(390.12) == "390.1 J"
    assert formats.joules(45_000) == "45 kJ"
    assert formats.joules(7.2e6) == "7.200 MJ (2 kWh)"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "number", "–"), ("", "text", "–"), (True, "bool", "yes"), (0.364, "share", "36.4"),
        (2e-6, "share", "2 × 10⁻⁴"), ("a" * 64, "hash", "a" * 12), (2_700_912, "bytes", "2.701"),
        (0.00046, "usd1000", "0.460"), (2.5, "usd", "2.50"), (float("nan"), "number", "nan"),
        ("oom", "number", "oom"), (1.1e-24, "p", "1.1 × 10⁻²⁴"), (0.0498, "p", "0.050"),
        ("gross_j", "quantity", "joules, gross"),
    ],
)  # fmt: skip
def test_cells(value, kind, text):
    assert formats.show(value, kind) == text


def test_minus_signs_in_prose_and_not_in_names():
    text = "awq-w4g128, grpo-s0: -5.8 to -0.5 points, 2026-03-01, bnb-4bit"
    assert formats.in_prose(text) == "awq-w4g128, grpo-s0: −5.8 to −0.5 points, 2026-03-01, bnb-4bit"
