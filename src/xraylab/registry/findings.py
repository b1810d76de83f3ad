"""What public data sets call a finding: which names of two lists are the same, and which only look so."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.errors import DataError

TABLE = Path(__file__).with_name("findings.yaml")
SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Alike:
    """One entry of `alike`: a finding that is not, or not quite, any of `others`."""

    name: str
    others: tuple[str, ...]
    why: str


@cache
def names() -> dict[str, dict[str, str]]:
    """Finding -> data set of datasets.yaml -> its name there."""
    return {finding: dict(by_dataset) for finding, by_dataset in _table()["findings"].items()}


def canonical(name: str) -> str:
    """One name for all spellings and synonyms: Effusion and pleural_effusion are Pleural Effusion.

    A name that no data set has is its words, the first with a capital.
    """
    return _synonyms().get(key(name)) or " ".join(key(name).split()).capitalize()


def common(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """The findings of two lists that are the same, as each list names them, in the order of the first.

    Errors: DataError where one list has a finding under two names.
    """
    by_name = _by_canonical(second)
    return [(name, by_name[finding]) for finding, name in _by_canonical(first).items() if finding in by_name]


def remarks(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Names of two lists that look alike and are not the same finding, and findings that two sets define otherwise."""
    mine, theirs = ({canonical(name): name for name in each} for each in (first, second))
    said: dict[str, str] = {}
    for alike in _alike():
        others = [canonical(other) for other in alike.others]
        for one, two in ((mine, theirs), (theirs, mine)):
            named = [two[other] for other in others if other in two]
            if alike.name in one and named:
                said.setdefault(alike.name, f"{one[alike.name]} against {' and '.join(named)}: {alike.why}")
    return list(said.values())


def key(name: str) -> str:
    """The words of a name, by which it is compared: without case, and with spaces for `_`, `-` and `/`."""
    return SEPARATORS.sub(" ", name).strip().lower()


def _by_canonical(listed: Iterable[str]) -> dict[str, str]:
    """Errors: DataError for two names of one finding."""
    by_name: dict[str, str] = {}
    for name in listed:
        other = by_name.setdefault(canonical(name), name)
        if other != name:
            raise DataError(
                f"{other} and {name} are names of one finding ({canonical(name)}): join them in data.labels, or leave "
                "one out of data.classes"
            )
    return by_name


@cache
def _table() -> dict[str, Any]:
    tree: dict[str, Any] = files.read_yaml(TABLE)
    return tree


@cache
def _synonyms() -> dict[str, str]:
    """Key of a name -> finding."""
    return {key(name): finding for finding, name in _pairs()}


def _pairs() -> Iterator[tuple[str, str]]:
    """Each finding and each of its names."""
    for finding, by_dataset in names().items():
        yield finding, finding
        yield from ((finding, name) for name in by_dataset.values())
    for finding, others in _table()["others"].items():
        yield from ((finding, name) for name in others)


@cache
def _alike() -> list[Alike]:
    return [Alike(tree["name"], tuple(tree["others"]), tree["why"]) for tree in _table()["alike"]]
