"""The published studies: what each needs, what it published, and its parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.params.config import merge

FOLDER = Path(__file__).parent / "published"
Tree = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """One study; the values in `published` are its own, those in `ours` are what it does not state.

    `honest` is laid over both by default; `as_published` instead, where the study chose on its test data.
    """

    name: str
    title: str
    summary: str
    data: Tree  # what, where, images (class -> number in the published data, or null), split (where they are of one)
    published: Tree
    ours: Tree
    honest: Tree
    as_published: Tree
    deviations: list[str]
    results: Tree  # heading, columns, rows
    pivot: Tree | None = None  # heading, columns, rows (name -> one experiment, or null, per column)

    def values(self, published: bool) -> Tree:
        """All parameters that the study sets, nested."""
        return merge(merge(self.published, self.ours), self.as_published if published else self.honest)

    def origin(self, dotted: str, value: Any) -> str:
        """`published` or `ours`: who says so."""
        return "published" if (dotted, value) in leaves(self.published) else "ours"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Preset:
    """Errors: ParamsError where there is no such study."""
    if name not in names():
        raise ParamsError(f"there is no study {name!r}: there is {', '.join(names())}")
    return Preset(name=name, **files.read_yaml(FOLDER / f"{name}.yaml"))


def leaves(tree: Tree, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted key and value of everything in a nested mapping; one that is empty or has dotted keys is a value."""
    values: list[tuple[str, Any]] = []
    for key, value in tree.items():
        inner = isinstance(value, dict) and value and not any("." in str(name) for name in value)
        values += leaves(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return values
