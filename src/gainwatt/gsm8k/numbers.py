r"""Numbers as people and models write them, read into exact fractions.

Read: digits with thousands separators ("1,080", "1'080", "12,34,567", "1 000 000"), decimals (".5", "18.00"), a
trailing dot ("18."), signs including the Unicode minus, currency, dollars and cents, percent, exponents ("1e3"),
fractions ("1/2", "½", `\frac{1}{2}`), mixed numbers ("1 1/2", "1½", "2 and 1/2"), scale words ("3 million") and LaTeX
or Markdown dress.

Decided where usage differs: a percent sign is a unit ("50%" is 50, as in GSM8K's reference answers); a comma
groups digits only where at least three of them end the number ("1,080", also the slip "1,0000"), otherwise it
separates two numbers ("3,4"); an en dash between two numbers is a range, never a minus; a number of more than 100
digits or with an exponent beyond ±100 is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

MAX_DIGITS = 100
MAX_EXPONENT = 100
_PREFIX_CHARS = 8  # sign and currency before the digits
_LONGEST = 400  # characters of a text that is one number with its unit

_CHARACTERS: dict[int, str] = {ord(char): str(value) for value, char in enumerate("０１２３４５６７８９")}
_CHARACTERS |= {ord(char): plain for chars, plain in (("−﹣－", "-"), ("×·⋅∙✕", "*"), ("÷∕⁄", "/")) for char in chars}
_CHARACTERS |= {ord(wide): plain for wide, plain in zip("＝％，．＋", "=%,.+", strict=True)}
_CHARACTERS |= {  # "1½" becomes "1 1/2", a mixed number
    ord(char): f" {numerator}/{denominator}"
    for denominator, chars in enumerate(["½", "⅓⅔", "¼_¾", "⅕⅖⅗⅘", "⅙___⅚", "⅐", "⅛_⅜_⅝_⅞", "⅑", "⅒"], start=2)
    for numerator, char in enumerate(chars, start=1)
    if char != "_"
}
_LATEX = [
    (re.compile(r"\\[dt]?frac\s*\{([-+]?\d[\d,]*)\}\s*\{(\d[\d,]*)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s?(\d)(\d)(?!\d)"), r" \1/\2"),
    (re.compile(r"\\(?:times|cdot|ast)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"(?<=\d)\\[,!; ](?=\d{3})"), ""),
    (re.compile(r"\\(?:text(?:bf|rm|it)?|math(?:rm|bf|it)|boxed|fbox|left|right)\b"), ""),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\\[()\[\],!; ]"), " "),
    (re.compile(r"\{,\}"), ","),
]
_SPELLING: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(r"(?<=\d)['’_\u00a0\u2009\u202f](?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<![\w).%])–(?=[$€£]?\.?\d)"), "-"),
    (re.compile(r"(?<=\d)[ \t]+and[ \t]+a[ \t]+half\b"), " 1/2"),
    (
        re.compile(r"(?<![\d.,/])(\d[\d,]*)[ \t]+dollars?[ \t]+and[ \t]+(\d{1,2})[ \t]+cents?\b"),
        lambda found: f"{found[1]}.{found[2]:0>2} dollars",
    ),
    # Spaces group digits where there are several groups, or one and nothing else on the answer line.
    (
        re.compile(r"(?<![\w.,/])\d{1,3}(?: \d{3}){2,}(?![\w,/]|\.\d)|(?<=#### )\d{1,3} \d{3}(?=[ \t.]*(?:\n|$))"),
        lambda found: found[0].replace(" ", ""),
    ),
]

_CURRENCY = r"(?:(?:US|A|C)?[$€£¥₹]|USD|EUR|GBP|Rs\.?)"
_INTEGER = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3,}|\d+)"
_PREFIX = re.compile(rf"(?P<outer>[-+])?[ \t]?{_CURRENCY}?[ \t]?(?P<inner>[-+])?")
_MIXED = re.compile(
    r"(?P<whole>\d{1,6})[ \t]+(?:(?:and|&)[ \t]+)?(?P<num>\d{1,4})[ \t]?/[ \t]?(?P<den>\d{1,4})(?![\d/]|[.,]\d)"
)
_FRACTION = re.compile(rf"(?P<num>{_INTEGER})[ \t]?/[ \t]?(?P<den>{_INTEGER})(?![\d/]|[.,]\d)")
_DECIMAL = re.compile(
    rf"(?P<digits>{_INTEGER}(?:\.\d+)?|\.\d+)(?:[eE](?P<exponent>[-+]?\d+)(?!\w))?"
    r"(?:[ \t]+(?P<scale>hundred|thousand|million|billion|trillion)\b(?!-))?"
)
_SCALE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_START = re.compile(rf"[-+]?{_CURRENCY}?[-+]?\.?\d")
_START_SPACED = re.compile(rf"[-+]?[ \t]?{_CURRENCY}?[ \t]?[-+]?\.?\d")
# Currency counts as dress here: "$18$" is the number 18 in LaTeX's math mode.
_DRESS = r"[\s*_`\"'“”()\[\]{}$]"
_OPENING = re.compile(rf"{_DRESS}*?(?=[-+]?[ \t]?{_CURRENCY}?[ \t]?[-+]?\.?\d)")
_NOT_A_UNIT = r"(?!(?:and|or|to|plus|minus|times|over|point|half|[xyznek])\b)"
_UNIT_WORD = rf"{_NOT_A_UNIT}[^\W\d_][^\W\d_²³'’/.°-]*(?:[²³'’/.°-]+[^\W\d_]+)*[²³°]?"
_CLOSING = re.compile(
    rf"(?:{_DRESS}|[%€£¥₹°])*(?:/?[ \t]*{_UNIT_WORD}(?:[ \t]+{_UNIT_WORD}){{0,4}})?(?:{_DRESS}|[.,;!%])*"
)


def clean(text: str) -> str:
    """Return `text` with Unicode, LaTeX and spelling variants of numbers and operators in one plain form.

    Positions in the result differ from those in `text`.
    """
    text = text.translate(_CHARACTERS)
    for pattern, plain in (*(_LATEX if "\\" in text or "{" in text else ()), *_SPELLING):
        text = pattern.sub(plain, text)
    return text


def number_at(text: str, start: int, *, fraction: bool = True) -> tuple[Fraction, int] | None:
    """Read the number of cleaned `text` that starts (sign and currency included) at `start`.

    Returns its exact value and the index after it, or None. Without `fraction`, "1/2" reads as 1: the arithmetic
    reader divides by itself; mixed numbers ("1 1/2") are read in both cases.
    """
    prefix = _PREFIX.match(text, start)
    position = prefix.end() if prefix else start
    got = _mixed(text, position)
    if got is None:
        parts = _FRACTION.match(text, position) if fraction else None
        got = _fraction(parts) if parts else _decimal(text, position)
    if got is None:
        return None
    negative = prefix is not None and (prefix["outer"] == "-") != (prefix["inner"] == "-")
    return (-got[0] if negative else got[0]), got[1]


def next_number(text: str, start: int, stop: int) -> int | None:
    """Where in cleaned `text` the first number after `start` begins, sign included; None if not before `stop`.

    A dash between two numbers or after a word is no sign, and a full stop before a digit is no decimal point.
    """
    found = _START.search(text, start, stop + _PREFIX_CHARS)
    if found is None or found.start() >= stop:
        return None
    position = found.start()
    before = text[max(0, position - 8) : position]
    if text[position] in "-+" and (re.search(r"[\w)\]}%.]$", before) or re.search(r"[\d)%][ \t]+$", before)):
        position += 1
    if text[position] == "." and re.search(r"[\w.]$", text[max(0, position - 1) : position]):
        position += 1
    return position


def starts_number(text: str, start: int) -> bool:
    """Whether a number, its sign and currency included, starts exactly at `start` of cleaned `text`."""
    return _START_SPACED.match(text, start) is not None


def normalise_number(text: str) -> Fraction | None:
    """Read `text` as one number with nothing but currency, percent sign, unit words or Markdown around it.

    Returns the exact value, or None where the text is no number, several numbers, or an expression.
    """
    if len(text) > _LONGEST:
        return None
    text = clean(text).strip()
    opening = _OPENING.match(text)
    got = number_at(text, opening.end()) if opening else None
    if got is None or not _CLOSING.fullmatch(text, got[1]):
        return None
    return got[0]


def number_text(value: Fraction) -> str:
    """Write `value` as the shortest exact decimal ("1000", "-0.5"), or as "n/d" where no decimal ends."""
    numerator, denominator = value.numerator, value.denominator
    twos = fives = 0
    rest = denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{numerator}/{denominator}"
    places = max(twos, fives)
    digits = str(abs(numerator) * 10**places // denominator).rjust(places + 1, "0")
    sign = "-" if numerator < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def _mixed(text: str, position: int) -> tuple[Fraction, int] | None:
    found = _MIXED.match(text, position)
    if found is None or int(found["num"]) >= int(found["den"]):
        return None
    return int(found["whole"]) + Fraction(int(found["num"]), int(found["den"])), found.end()


def _fraction(found: re.Match[str]) -> tuple[Fraction, int] | None:
    top, bottom = (found[name].replace(",", "") for name in ("num", "den"))
    if max(len(top), len(bottom)) > MAX_DIGITS or int(bottom) == 0:
        return None
    return Fraction(int(top), int(bottom)), found.end()


def _decimal(text: str, position: int) -> tuple[Fraction, int] | None:
    found = _DECIMAL.match(text, position)
    if found is None:
        return None
    digits = found["digits"].replace(",", "")
    exponent = found["exponent"] or "0"
    # The lengths are checked before any conversion: a degenerate text may hold thousands of digits.
    if len(digits) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    power = int(exponent) + _SCALE.get(found["scale"] or "", 0)
    return Fraction(digits) * Fraction(10) ** power, found.end()
