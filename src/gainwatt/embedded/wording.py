"""The words of the generated problems: people, countable things, containers."""

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A first name with the pronouns that go with it."""

    name: str
    subject: str
    object: str


class Container(NamedTuple):
    """A container in both numbers, so that "each box" and "4 boxes" are both right."""

    one: str
    many: str


PEOPLE = tuple(
    Person(name, "she", "her") for name in ("Anna", "Clara", "Emma", "Grace", "Ines", "Kira", "Mona", "Olga")
) + tuple(Person(name, "he", "him") for name in ("Ben", "David", "Felix", "Hugo", "Jonas", "Leo", "Nico", "Paul"))

# Plural nouns that can be bought, given away, lost and shared; every count in a problem is at least 2.
ITEMS = (
    "apples",
    "beads",
    "books",
    "buttons",
    "cards",
    "coins",
    "cookies",
    "marbles",
    "pencils",
    "shells",
    "stamps",
    "stickers",
)

CONTAINERS = (
    Container("bag", "bags"),
    Container("box", "boxes"),
    Container("jar", "jars"),
    Container("pack", "packs"),
)
