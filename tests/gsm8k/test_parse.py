"""The parser: a table of written cases, and properties."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gainwatt.gsm8k.leak import MARKERS
from gainwatt.gsm8k.parse import normalise_number, parse_answer

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases.jsonl").read_text("utf-8").splitlines()]

BODIES = [
    "",
    "16 - 3 - 4 = 9\n9 * 2 = 18\n",
    "She sells 9 eggs for $2 each.\n",
    "Step 1: count.\nStep 2: add 3 and 4.\n",
]


def test_table_size():
    assert len(CASES) >= 120
    assert len({case["text"] for case in CASES}) == len(CASES)
    assert {case["branch"] for case in CASES} == {"answer_tag", "hash", "phrase", "last_number", "none"}


@pytest.mark.parametrize("case", CASES, ids=[ascii(case["text"][-40:]) for case in CASES])
def test_case(case):
    parsed = parse_answer(case["text"])
    assert parsed.value == case["value"], case["why"]
    assert parsed.branch == case["branch"]
    assert parsed.leak is case["leak"]
    assert parsed.format_compliant is case["compliant"]
    assert (parsed.cut < len(case["text"])) is case["leak"]


def test_cut_is_where_the_marker_starts():
    text = "#### 18\nProblem: Tom"
    assert parse_answer(text).cut == text.index("Problem:")
    assert parse_answer("#### 18").cut == len("#### 18")


@pytest.mark.parametrize("marker", MARKERS)
def test_each_marker_cuts(marker):
    before = "#### 18\n"
    parsed = parse_answer(before + marker.replace("…", "integer 7") + " 5 and #### 7")
    assert (parsed.value, parsed.leak, parsed.cut) == ("18", True, len(before))


@st.composite
def written_numbers(draw):
    """A value and one usual way to write it."""
    sign, minus = draw(st.sampled_from([(1, ""), (1, "+"), (-1, "-"), (-1, "−")]))
    whole = draw(st.integers(0, 10**12))
    digits = draw(st.sampled_from([f"{whole}", f"{whole:,}"]))
    style = draw(st.sampled_from(["integer", "decimal", "short", "exponent", "fraction", "mixed"]))
    value = Fraction(whole)
    if style == "decimal":
        places = draw(st.text("0123456789", min_size=1, max_size=6))
        digits, value = f"{digits}.{places}", value + Fraction(int(places), 10 ** len(places))
    elif style == "short":
        places = draw(st.text("0123456789", min_size=1, max_size=6))
        digits, value = f".{places}", Fraction(int(places), 10 ** len(places))
    elif style == "exponent":
        power = draw(st.integers(-20, 20))
        digits = f"{whole}{draw(st.sampled_from('eE'))}{power}"
        value *= Fraction(10) ** power
    elif style == "fraction":
        below = draw(st.integers(1, 999))
        digits, value = f"{whole}/{below}", value / below
    elif style == "mixed":
        below = draw(st.integers(2, 99))
        above = draw(st.integers(1, below - 1))
        whole = draw(st.integers(0, 9999))
        digits, value = f"{whole} {above}/{below}", whole + Fraction(above, below)
    money = draw(st.sampled_from(["{0}{1}", "{0}${1}", "${0}{1}", "{0}€{1}"])) if minus != "−" else "{0}{1}"
    unit = draw(st.sampled_from(["", ".", "%", " dollars", " eggs.", " km/h", " apples per day"]))
    return sign * value, money.format(minus, digits) + unit


@given(written_numbers())
def test_written_number_is_normalised(number):
    value, text = number
    assert normalise_number(text) == value


@given(written_numbers(), st.sampled_from(["{}", "**{}**", " {} "]))
def test_written_number_is_read_back_from_the_answer_line(number, dress):
    value, text = number
    parsed = parse_answer(f"Some words.\n#### {dress.format(text)}\n")
    assert (parsed.fraction, parsed.branch, parsed.format_compliant) == (value, "hash", True)


@given(written_numbers(), st.sampled_from(["<answer>{}</answer>", "The answer is {}", "It is {}", "so x = {}"]))
def test_written_number_is_read_back_from_every_branch(number, template):
    value, text = number
    assert parse_answer(template.format(text)).fraction == value


@given(written_numbers())
def test_value_is_a_canonical_text(number):
    value, text = number
    parsed = parse_answer(f"#### {text}")
    assert Fraction(parsed.value) == value
    assert parse_answer(f"#### {parsed.value}").value == parsed.value


@given(
    st.sampled_from(BODIES),
    written_numbers(),
    st.sampled_from(["#### {}\n", "#### {} eggs, as in step 2\n", "<answer>{}</answer>"]),
    st.text()
    | st.sampled_from(
        ["#### 7", "<answer>7</answer>", "The answer is 7.", "{,}\\boxed{7}", "Human: #### 7", "</think>\n#### 7"]
    ),
)
def test_text_after_a_final_answer_never_changes_it(body, number, final, after):
    text = body + final.format(number[1].rstrip(".%"))
    before, extended = parse_answer(text), parse_answer(text + after)
    assert (extended.value, extended.branch) == (before.value, before.branch)
    assert before.fraction == number[0]


@given(
    st.sampled_from(BODIES[1:]),
    st.sampled_from(["", "The answer is 18.\n", "#### 18\n", "so 18 "]),
    st.sampled_from(["Human:", "Problem:", "Question 3:", "</div>", "You are given", "If alligators"]),
    st.text() | st.sampled_from([" #### 7", "<answer>7</answer>", " The answer is 7."]),
)
def test_text_after_a_leak_never_changes_the_answer(body, final, marker, after):
    before, extended = parse_answer(body + final), parse_answer(body + final + marker + after)
    assert (extended.value, extended.branch) == (before.value, before.branch)
    assert extended.leak
    assert extended.cut == len(body + final)
    assert not extended.format_compliant


@given(
    st.text().filter(lambda text: "</think>" not in text)
    | st.sampled_from(["#### 7", "9 and 2\nProblem: 7", "<answer>7</answer>"]),
    st.sampled_from(BODIES),
    written_numbers(),
)
def test_thinking_never_changes_the_answer(thinking, body, number):
    text = f"{body}#### {number[1]}"
    thought = parse_answer(f"<think>\n{thinking}</think>\n{text}")
    plain = parse_answer(text)
    assert (thought.value, thought.branch, thought.format_compliant) == (plain.value, plain.branch, True)
    assert not thought.leak


@given(st.integers(-999, 999), st.integers(-999, 999), st.sampled_from("+-*"), st.sampled_from(["", " "]))
def test_an_expression_and_its_equation_have_one_value(left, right, operator, space):
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    expression = f"{left}{space}{operator}{space}{right}"
    for text in (f"#### {expression}", f"#### {expression} = {value}", f"The answer is {expression}={value}."):
        assert parse_answer(text).fraction == value


@given(st.text(alphabet="0123456789#<>answer/.,-+*=()^$ \n\\{}eExtThis:", max_size=400))
@example("#### " + "9" * 5000)
@example("#### " + "(" * 5000 + "1")
@example("#### 1e99999")
@example("#### 2^9999999")
@example("#### 9^30^30")
def test_no_text_breaks_the_parser(text):
    parsed = parse_answer(text)
    assert (parsed.value is None) == (parsed.branch == "none")
    assert 0 <= parsed.cut <= len(text)


@pytest.mark.parametrize(
    "text",
    ["", "abc", "3 4", "1,2", "5+3", "5x", "five", "18 and a third", "1/2/3", "0x10", "1/0", "1" * 500, "18 2nd"],
)
def test_no_single_number(text):
    assert normalise_number(text) is None
