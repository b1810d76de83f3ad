"""Which of the data's labels a class is, where they are spelt otherwise."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable

from xraylab.data.names import natural, some

LIKELY = 0.5
"""How alike two names are at least that are said to be near."""


def key(name: str) -> str:
    """The name without case, space, `_` and `-`: `No Finding` and no_finding are one."""
    return re.sub(r"[\s_-]", "", name.casefold())


def same(name: str, labels: Iterable[str]) -> list[str]:
    """The label of that very name; else all that differ from it in case, space, `_` and `-` alone."""
    every = sorted(labels, key=natural)
    return [name] if name in every else [label for label in every if key(label) == key(name)]


def nearest(name: str, labels: Iterable[str]) -> list[str]:
    """The labels that are the same but for spelling, then those that are alike, the likeliest first; at most three."""
    every = sorted(labels, key=natural)
    alike = {label: difflib.SequenceMatcher(None, key(name), key(label)).ratio() for label in every}
    return sorted((label for label in every if alike[label] >= LIKELY), key=lambda label: -alike[label])[:3]


def counted(labels: Counter[str]) -> str:
    """The labels with how many images each has."""
    return some([f"{label} ({labels[label]})" for label in sorted(+labels, key=natural)], 20) or "no labels"
