"""What the page calls an image: by its name, or by a number where params.yaml says so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNNAMED = "an image"


@dataclass(frozen=True)
class Names:
    """`numbers`: id, and file name where only one image has it, -> number from 1; None: names are shown."""

    numbers: dict[str, int] | None

    def of(self, name: str) -> str:
        """The whole id."""
        return name if self.numbers is None else self._number(name)

    def file(self, name: str) -> str:
        """The file's own name, without folders."""
        return _last(name) if self.numbers is None else self._number(name)

    def _number(self, name: str) -> str:
        number = (self.numbers or {}).get(name)
        return UNNAMED if number is None else f"image {number}"

    def finding(self, found: dict[str, Any]) -> dict[str, Any]:
        """A finding of the audit; its examples name files and patients, so without them where names are hidden."""
        return found if self.numbers is None else {**found, "examples": []}


def names(ids: Sequence[str], hidden: bool) -> Names:
    """`ids` in the order of the index, whose row is the number."""
    if not hidden:
        return Names(None)
    times = Counter(_last(name) for name in ids)
    short = {_last(name): row for row, name in enumerate(ids, 1) if times[_last(name)] == 1}
    return Names(short | {name: row for row, name in enumerate(ids, 1)})


def _last(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1]
