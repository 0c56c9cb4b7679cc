"""Numbers as a reader wants to see them: few digits, the unit in the heading, a true minus sign."""

from __future__ import annotations

import math
import re
from typing import Any, TypeGuard

NULL = "–"
MINUS = "\u2212"
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

KINDS: dict[str, tuple[str, bool]] = {
    # kind -> unit in the heading, whether it is a number
    "text": ("", False),
    "long": ("", False),
    "code": ("", False),
    "hash": ("", False),
    "note": ("", False),
    "status": ("", False),
    "verdict": ("", False),
    "severity": ("", False),
    "bool": ("", False),
    "quantity": ("", False),
    "number": ("", True),
    "count": ("", True),
    "share": ("%", True),
    "points": ("points", True),
    "p": ("", True),
    "bytes": ("MB", True),
    "usd": ("$", True),
    "usd1000": ("$ per 1,000", True),
}

_QUANTITIES = {"gross_j": "joules, gross", "net_j": "joules, net", "s": "seconds"}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float, digits: int = 4) -> str:
    """`digits` significant digits, thousands set apart by commas, powers of ten below 0.001 and from 10^15."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e15:
        mantissa, _, exponent = f"{value:.{max(0, digits - 2)}e}".partition("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return signed_minus(f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    if isinstance(value, int) or float(value).is_integer():
        text = f"{value:,.0f}"
    return signed_minus(text)


def percent(value: float, decimals: int = 1) -> str:
    """A share of one as percent, without the sign."""
    return signed_minus(f"{100 * value:.{decimals}f}")


def points(value: float) -> str:
    """A difference of two shares as percentage points, always with its sign."""
    text = f"{100 * value:+.1f}"
    return signed_minus("0.0" if text in ("+0.0", "-0.0") else text)


def interval(low: float, high: float) -> str:
    """An interval of differences in points."""
    return f"[{points(low)}, {points(high)}]"


def seconds(value: float) -> str:
    """A length of time in the unit that fits."""
    if value < 0.1:
        return f"{number(1000 * value, 3)} ms"
    if value >= 3600:
        return f"{number(value / 3600, 3)} h"
    if value >= 120:
        return f"{number(value / 60, 3)} min"
    return f"{number(value, 3)} s"


def in_prose(text: str) -> str:
    """A sentence with true minus signs before its numbers."""
    return re.sub(r"(?<![\w.-])-(?=\d)", MINUS, text)


def joules(value: float) -> str:
    """Energy in the unit that fits; kWh beside it where people pay by it."""
    if value >= 1e6:
        return f"{number(value / 1e6, 4)} MJ ({number(value / 3.6e6, 3)} kWh)"
    if value >= 1e4:
        return f"{number(value / 1e3, 4)} kJ"
    return f"{number(value, 4)} J"


def usd(value: float) -> str:
    """Dollars: cents where they matter, more digits where they are few."""
    return f"{value:,.2f}" if value >= 1 else number(value, 3)


def signed_minus(text: str) -> str:
    """Replace the hyphen of a negative number by a minus sign."""
    return text.replace("-", MINUS)


def show(value: Any, kind: str) -> str:
    """The text of one cell of a table; an en dash for null."""
    if value is None or value == "":
        return NULL
    if kind == "bool" or isinstance(value, bool):
        return {True: "yes", False: "no"}.get(value, str(value))
    if kind == "quantity":
        return _QUANTITIES.get(value, str(value))
    if not is_number(value):
        return str(value)[:12] if kind == "hash" else str(value)
    return _NUMBERS.get(kind, str)(value)


def _p(value: float) -> str:
    return number(value, 2) if value >= 1e-3 else number(value, 3)


_NUMBERS = {
    "number": number,
    "count": lambda value: number(value, 4),
    "share": lambda value: percent(value, 1) if abs(value) >= 0.001 or value == 0 else number(100 * value, 3),
    "points": points,
    "p": _p,
    "bytes": lambda value: number(value / 1e6, 4),
    "usd": usd,
    "usd1000": lambda value: usd(1000 * value),
}
