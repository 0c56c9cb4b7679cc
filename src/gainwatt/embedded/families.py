"""Problem families: which numbers a problem needs, which steps solve it, and how it is told.

A step is (left, operator, right). An operand that is a string names a number of the problem; one that is an integer
refers to the result of an earlier step, so that a wrong intermediate result can be carried forward to a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass

Operand = str | int
StepPlan = tuple[Operand, str, Operand]


@dataclass(frozen=True)
class Family:
    """One kind of problem.

    `numbers` maps each number's name to its kind, a range of `Difficulty`: start, change, count, each, divisor.
    `reversible` is the - step that a careless reader takes as +, or None: "that is 3 more than ..." suggests adding
    (the consistency effect of Lewis and Mayer, Journal of Educational Psychology 79, 1987), and so does a second
    change of a count.
    """

    name: str
    numbers: dict[str, str]
    steps: tuple[StepPlan, ...]
    wordings: tuple[str, ...]
    reversible: int | None = None


FAMILIES = (
    Family(
        "join",
        {"a": "start", "b": "change"},
        (("a", "+", "b"),),
        (
            "{A} has {a} {items}. {B} gives {A_object} {b} more {items}. How many {items} does {A} have now?",
            "There are {a} {items} on the table. {A} adds {b} {items}. How many {items} are on the table now?",
        ),
    ),
    Family(
        "remain",
        {"a": "start", "b": "change"},
        (("a", "-", "b"),),
        (
            "{A} has {a} {items} and loses {b} of them. How many {items} are left?",
            "There are {a} {items} on the table. {A} takes away {b} {items}. How many {items} are left?",
        ),
    ),
    Family(
        "packs",
        {"n": "count", "k": "each"},
        (("n", "*", "k"),),
        (
            "{A} buys {n} {containers} with {k} {items} each. How many {items} does {A_subject} buy?",
            "There are {n} {containers} and each {container} holds {k} {items}. How many {items} are there?",
        ),
    ),
    Family(
        "packs_plus",
        {"a": "start", "n": "count", "k": "each"},
        (("n", "*", "k"), ("a", "+", 0)),
        (
            "{A} has {a} {items}. {A_Subject} buys {n} {containers} with {k} {items} each. "
            "How many {items} does {A} have now?",
            "{A} owns {a} {items} and gets {n} {containers} with {k} {items} each. "
            "How many {items} does {A_subject} own in total?",
        ),
    ),
    Family(
        "change_money",
        {"n": "count", "k": "each", "m": "start"},
        (("n", "*", "k"), ("m", "-", 0)),
        (
            "{A} buys {n} {containers} of {items} for ${k} each and pays with ${m}. "
            "How many dollars does {A_subject} get back?",
            "{A} has ${m}. {A_Subject} spends ${k} on each of {n} {containers} of {items}. How many dollars are left?",
        ),
    ),
    Family(
        "share_rest",
        {"a": "start", "b": "change", "m": "divisor"},
        (("a", "-", "b"), (0, "/", "m")),
        (
            "{A} has {a} {items}. {A_Subject} keeps {b} and shares the rest equally among {m} friends. "
            "How many {items} does each friend get?",
            "{A} sets {b} of {a} {items} aside and puts the others equally into {m} {containers}. "
            "How many {items} are in each {container}?",
        ),
    ),
    Family(
        "join_lose",
        {"a": "start", "b": "change", "c": "change"},
        (("a", "+", "b"), (0, "-", "c")),
        (
            "{A} has {a} {items}. {A_Subject} finds {b} more and loses {c}. How many {items} does {A} have now?",
            "There are {a} {items} on the table. {A} adds {b} and {B} takes away {c}. "
            "How many {items} are on the table now?",
        ),
        reversible=1,
    ),
    Family(
        "remain_twice",
        {"a": "start", "b": "change", "c": "change"},
        (("a", "-", "b"), (0, "-", "c")),
        (
            "{A} has {a} {items}. {A_Subject} gives {b} to {B} and {c} to {C}. How many {items} are left?",
            "{A} has {a} {items}, uses {b} of them and sells {c}. How many {items} does {A_subject} still have?",
        ),
        reversible=1,
    ),
    Family(
        "more_total",
        {"a": "start", "b": "change"},
        (("a", "+", "b"), ("a", "+", 0)),
        (
            "{A} has {a} {items}. {B} has {b} more than {A}. How many {items} do they have together?",
            "{A} finds {a} {items} and {B} finds {b} {items} more than {A_object}. "
            "How many {items} do they find in total?",
        ),
    ),
    Family(
        "reversed_total",
        {"a": "start", "b": "change"},
        (("a", "-", "b"), ("a", "+", 0)),
        (
            "{A} has {a} {items}. That is {b} more than {B} has. How many {items} do they have together?",
            "{A} finds {a} {items}, which is {b} {items} more than {B} finds. How many {items} do they find in total?",
        ),
        reversible=0,
    ),
    Family(
        "times_total",
        {"a": "start", "k": "count"},
        (("k", "*", "a"), ("a", "+", 0)),
        (
            "{A} has {a} {items}. {B} has {k} times as many as {A}. How many {items} do they have together?",
            "{A} finds {a} {items} and {B} finds {k} times as many. How many {items} do they find in total?",
        ),
    ),
    Family(
        "two_kinds",
        {"n": "count", "k": "each", "m": "count", "j": "each"},
        (("n", "*", "k"), ("m", "*", "j"), (0, "+", 1)),
        (
            "{A} buys {n} {containers} for ${k} each and {m} {items} for ${j} each. "
            "How many dollars does {A_subject} pay in total?",
            "{A} has {n} {containers} with {k} {items} each. {B} has {m} {containers} with {j} {items} each. "
            "How many {items} do they have together?",
        ),
    ),
    Family(
        "packs_share",
        {"n": "count", "k": "each", "b": "change", "m": "divisor"},
        (("n", "*", "k"), (0, "-", "b"), (1, "/", "m")),
        (
            "{A} buys {n} {containers} with {k} {items} each. "
            "{A_Subject} keeps {b} {items} and shares the rest equally "
            "among {m} friends. How many {items} does each friend get?",
            "There are {n} {containers} with {k} {items} each. "
            "{A} takes away {b} {items} and splits the others into {m} equal piles. "
            "How many {items} are in each pile?",
        ),
    ),
    Family(
        "packs_give",
        {"a": "start", "n": "count", "k": "each", "b": "change"},
        (("n", "*", "k"), ("a", "+", 0), (1, "-", "b")),
        (
            "{A} has {a} {items}. {A_Subject} buys {n} {containers} with {k} {items} each "
            "and gives {b} {items} to {B}. "
            "How many {items} does {A} have now?",
            "{A} starts with {a} {items}, gets {n} {containers} with {k} {items} each and loses {b} {items}. "
            "How many {items} does {A_subject} have in the end?",
        ),
    ),
    Family(
        "three_people",
        {"a": "start", "b": "change", "k": "count"},
        (("a", "+", "b"), ("k", "*", "a"), ("a", "+", 0), (2, "+", 1)),
        (
            "{A} has {a} {items}. {B} has {b} more than {A}. {C} has {k} times as many as {A}. "
            "How many {items} do the three have together?",
        ),
    ),
    Family(
        "packs_give_share",
        {"a": "start", "n": "count", "k": "each", "b": "change", "m": "divisor"},
        (("n", "*", "k"), ("a", "+", 0), (1, "-", "b"), (2, "/", "m")),
        (
            "{A} has {a} {items} and buys {n} {containers} with {k} {items} each. "
            "{A_Subject} keeps {b} {items} and shares "
            "the rest equally among {m} friends. How many {items} does each friend get?",
        ),
    ),
)

# Operation, kind of its number, and two ways to tell it: one count that changes again and again.
_EVENTS: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("+", "change", ("{A_Subject} finds {%s} more.", "Then {A_subject} buys another {%s}.")),
    ("-", "change", ("{A_Subject} loses {%s} of them.", "After that {A_subject} uses up {%s}.")),
    ("*", "count", ("Then the number of {items} grows to {%s} times as many.",
                    "Later {A_subject} has {%s} times as many as before.")),
    ("-", "change", ("{A_Subject} gives {%s} to {B}.", "{B} takes {%s} of them away.")),
    ("+", "change", ("{C} brings {%s} more.", "From {C} {A_subject} gets {%s}.")),
)  # fmt: skip
_TURNS = range(len(_EVENTS))


def chain(length: int, turn: int = 0) -> Family:
    """The family in which one count changes `length` times in a row: the head-room for models beyond the small one.

    `turn` says with which event the round of events begins; a family for each makes the operation of a step something
    that must be read.
    """
    events = [_EVENTS[(length + turn + i) % len(_EVENTS)] for i in range(length)]
    names = [f"e{i}" for i in range(length)]
    numbers = {"a": "start"} | {name: kind for name, (_, kind, _) in zip(names, events, strict=True)}
    left: list[Operand] = ["a", *range(length - 1)]
    steps = tuple((left[i], events[i][0], names[i]) for i in range(length))
    told = [" ".join(text[way] % name for name, (_, _, text) in zip(names, events, strict=True)) for way in (0, 1)]
    return Family(
        f"chain{length}" + (f"_{turn}" if turn else ""),
        numbers,
        steps,
        (
            "{A} has {a} {items}. " + told[0] + " How many {items} does {A} have now?",
            "{A} owns {a} {items}. " + told[1] + " How many {items} does {A_subject} own in the end?",
        ),
    )


CHAIN_LENGTHS = range(3, 9)
CHAINS = tuple(chain(length, turn) for length in CHAIN_LENGTHS for turn in _TURNS)
BY_NAME = {family.name: family for family in (*FAMILIES, *CHAINS)}
DEFAULT_FAMILIES = tuple(family.name for family in FAMILIES)
