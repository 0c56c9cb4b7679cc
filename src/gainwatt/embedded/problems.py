"""Arithmetic word problems in the format of GSM8K, from a seed, in four splits that share no combination of numbers.

Which split a problem belongs to is decided by a hash of its solution's steps (operands of + and * in sorted order),
before any text is written. Names, things, wording, seed and difficulty do not enter the hash, so that two splits
can never hold the same calculation, hence never the same question, whichever settings made them.

Format: https://github.com/openai/grade-school-math ("question", "answer" with <<3*4=12>> annotations and a last line
"#### 12").
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gainwatt.embedded.families import BY_NAME, DEFAULT_FAMILIES, Family
from gainwatt.embedded.slips import NO_SLIPS, Slips, Step, parse_step, solve
from gainwatt.embedded.wording import CONTAINERS, ITEMS, PEOPLE, Person
from gainwatt.errors import InputError

# Shares of all combinations, in percent. Constants, not settings: two calls must agree on them to stay disjoint.
SPLIT_SHARES = {"sft": 50, "train": 20, "validation": 10, "test": 20}

# A family is taken to be used up after this many draws in a row that brought nothing new.
_PATIENCE_DRAWS = 4000


@dataclass(frozen=True)
class Difficulty:
    """Ranges of the numbers (inclusive, lower end 2) and the families that are used.

    `start_max`: what somebody has at first; `change_max`: what is added or taken away; `count_max`: how many
    containers or times; `each_max`: how many in each or what each costs; `divisor_max`: among how many something is
    shared; `value_max`: no result of any step is larger. Every result is an integer of at least 1.
    """

    start_max: int = 20
    change_max: int = 10
    count_max: int = 5
    each_max: int = 9
    divisor_max: int = 5
    value_max: int = 99
    families: tuple[str, ...] = DEFAULT_FAMILIES

    def __post_init__(self) -> None:
        """Raise InputError for a range without numbers or an unknown family."""
        for name in ("start_max", "change_max", "count_max", "each_max", "divisor_max", "value_max"):
            if getattr(self, name) < 2:
                raise InputError(
                    f"{name} is {getattr(self, name)}, but every range starts at 2", f"set {name} to 2 or more"
                )
        unknown = [name for name in self.families if name not in BY_NAME]
        if unknown or not self.families:
            raise InputError(
                f"unknown problem families {unknown}" if unknown else "no problem family is named",
                f"choose from {', '.join(BY_NAME)}",
            )

    def range_of(self, kind: str) -> int:
        """Return how many values a number of this kind can take."""
        return int(getattr(self, f"{kind}_max")) - 1


def generate(
    *,
    split: str,
    n: int,
    seed: int,
    difficulty: Difficulty | None = None,
    slips: Slips = NO_SLIPS,
    max_repeats: int | None = 1,
) -> list[dict[str, str]]:
    """Return `n` rows {question, answer, family, steps, combination, slip} of a split, a function of the arguments.

    Families take turns until one has no new combination left. No question occurs twice; a combination of numbers
    occurs at most `max_repeats` times, told differently (None: without limit, for a warm start that needs many
    rows). `slips` makes some of the solutions wrong on purpose; without it every answer is right. Raises InputError
    for an unknown split, a negative n, or more rows than the split has problems at this difficulty.
    """
    _check_request(split, n)
    level = difficulty or Difficulty()
    rng = random.Random(_number("rows", split, str(seed)))  # noqa: S311  (data, not cryptography)
    uses: dict[str, int] = {}
    sources = [_Source(BY_NAME[name], level, split, max_repeats, uses, rng) for name in level.families]
    rows: list[dict[str, str]] = []
    while len(rows) < n and sources:
        for source in list(sources):
            row = source.row(slips)
            if row is None:
                sources.remove(source)
            elif len(rows) < n:
                rows.append(row)
    if len(rows) < n:
        raise InputError(
            f"{n} rows asked of split {split!r}, but only {len(rows)} different ones were found at this difficulty "
            f"({'any number of' if max_repeats is None else max_repeats} rows per combination of numbers)",
            "ask for fewer rows, widen the number ranges, or add families",
        )
    _shuffle(rows, rng)
    return rows


def drills(rows: Sequence[Mapping[str, str]], *, n: int, seed: int, length: int = 4) -> list[dict[str, str]]:
    """Return `n` rows of bare arithmetic: `length` calculations that occur as steps in `rows`, and their results.

    They carry the arithmetic at a third of the tokens of a word problem; each different step of `rows` is equally
    likely. Only lists of steps that the split of the warm start owns are used, so that a drill repeats no
    combination of another split. Raises InputError when `rows` is empty or `length` is below 2 (single steps may be
    problems of another split).
    """
    if not rows or length < 2:
        raise InputError(
            f"drills need rows to take steps from and a length of at least 2 (rows: {len(rows)}, length: {length})",
            "generate the word problems first and pass them here",
        )
    rng = random.Random(_number("drills", str(seed)))  # noqa: S311
    pool = sorted({step for row in rows for step in row["combination"].split(";")})
    made: list[dict[str, str]] = []
    misses = 0
    while len(made) < n:
        steps = [parse_step(pool[int(rng.random() * len(pool))], swap=rng.random() < 0.5) for _ in range(length)]
        combination = combination_of(steps)
        if split_of(combination) != "sft":
            misses += 1
            if misses == _PATIENCE_DRAWS:
                raise InputError(
                    f"no drill of {length} steps from {len(pool)} different ones belongs to the warm start",
                    "pass more word problems or use longer drills",
                )
            continue
        misses = 0
        made.append(
            {
                "question": ", ".join(f"{s.left}{s.op}{s.right}" for s in steps),
                "answer": _answer(steps),
                "family": "drill",
                "steps": str(length),
                "combination": combination,
                "slip": "",
            }
        )
    return made


def split_of(combination: str) -> str:
    """Return the split that owns a combination of numbers."""
    position = _number("split", combination) % 100
    for split, share in SPLIT_SHARES.items():
        position -= share
        if position < 0:
            return split
    raise AssertionError("the shares sum to 100")


def combination_of(steps: Sequence[Step]) -> str:
    """Return the calculation as text, `3*4;7+12`: operands of + and * sorted, since their order changes nothing."""
    return ";".join(
        f"{min(s.left, s.right)}{s.op}{max(s.left, s.right)}" if s.op in "+*" else f"{s.left}{s.op}{s.right}"
        for s in steps
    )


def _check_request(split: str, n: int) -> None:
    if split not in SPLIT_SHARES:
        raise InputError(f"there is no split {split!r}", f"choose one of {', '.join(SPLIT_SHARES)}")
    if n < 0:
        raise InputError(f"n is {n}", "ask for 0 or more rows")


class _Source:
    """Draws the problems of one family that belong to one split."""

    def __init__(
        self,
        family: Family,
        level: Difficulty,
        split: str,
        max_repeats: int | None,
        uses: dict[str, int],
        rng: random.Random,
    ) -> None:
        """`uses` counts the rows per combination; the sources share it, since two families can ask for one
        calculation.
        """
        self.family, self.level, self.split, self.max_repeats = family, level, split, max_repeats
        self.uses, self.rng = uses, rng
        self.spans = [(name, level.range_of(kind)) for name, kind in family.numbers.items()]
        self.questions: set[str] = set()

    def row(self, slips: Slips) -> dict[str, str] | None:
        """Return the next row, or None when the family seems to be used up."""
        random_ = self.rng.random
        for _ in range(_PATIENCE_DRAWS):
            numbers = {name: 2 + int(random_() * span) for name, span in self.spans}
            steps = solve(self.family, numbers, self.level.value_max)
            if steps is None:
                continue
            combination = combination_of(steps)
            if split_of(combination) != self.split:
                continue
            if self.max_repeats is not None and self.uses.get(combination, 0) >= self.max_repeats:
                continue
            question = _tell(self.family, numbers, self.rng)
            if question in self.questions:
                continue
            self.questions.add(question)
            self.uses[combination] = self.uses.get(combination, 0) + 1
            written = slips.write(self.family, numbers, steps, self.rng)
            return {
                "question": question,
                "answer": _answer(written.steps),
                "family": self.family.name,
                "steps": str(len(steps)),
                "combination": combination,
                "slip": written.slip,
            }
        return None


def _tell(family: Family, numbers: Mapping[str, int], rng: random.Random) -> str:
    first, second, third = _three_people(rng)
    container = CONTAINERS[int(rng.random() * len(CONTAINERS))]
    return family.wordings[int(rng.random() * len(family.wordings))].format(
        A=first.name,
        A_subject=first.subject,
        A_Subject=first.subject.capitalize(),
        A_object=first.object,
        B=second.name,
        C=third.name,
        items=ITEMS[int(rng.random() * len(ITEMS))],
        container=container.one,
        containers=container.many,
        **numbers,
    )


def _three_people(rng: random.Random) -> list[Person]:
    count = len(PEOPLE)
    first = int(rng.random() * count)
    second = (first + 1 + int(rng.random() * (count - 1))) % count
    third = next(i % count for i in range(second + 1, second + 4) if i % count not in (first, second))
    return [PEOPLE[first], PEOPLE[second], PEOPLE[third]]


def _answer(steps: Sequence[Step]) -> str:
    lines = [f"{s.left}{s.op}{s.right}=<<{s.left}{s.op}{s.right}={s.result}>>{s.result}" for s in steps]
    return "\n".join([*lines, f"#### {steps[-1].result}"])


def _shuffle(rows: list[dict[str, str]], rng: random.Random) -> None:
    for i in range(len(rows) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        rows[i], rows[j] = rows[j], rows[i]


def _number(*parts: str) -> int:
    digest = hashlib.blake2b("\x00".join(parts).encode(), digest_size=8, key=b"gainwatt word problems").digest()
    return int.from_bytes(digest, "big")
