"""What a layout is, and what reading one yields."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from xraylab.data.layouts.listing import Listing, is_below, last, relative
from xraylab.data.names import some
from xraylab.errors import DataError


class Image(NamedTuple):
    """One image as its data set describes it; '' is unknown."""

    path: str  # below raw
    label: str  # the data set's own; several findings are joined by |
    patient: str = ""
    side: str = ""
    source: str = ""
    sex: str = ""
    age: str = ""
    view: str = ""


@dataclass(frozen=True)
class Entries:
    """What a layout's reader found."""

    top: str  # below raw
    images: list[Image]
    left_out: Counter[str]  # reason -> number of image files
    patients: str = "unknown"
    missing: list[str] = field(default_factory=list)
    tables: tuple[str, ...] = ()  # names of those that it read


class Tables(NamedTuple):
    """data.table and data.columns: which tables to read (None: those that there are), and what their columns mean."""

    names: tuple[str, ...] | None
    columns: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, table: str | list[str] | None, columns: Mapping[Any, str | None] | None) -> "Tables":
        """As params.yaml writes them: one table, several, or null; kind -> the column's name, or null."""
        names = [table] if isinstance(table, str) else table
        return cls(None if names is None else tuple(names), tuple((columns or {}).items()))


ANY_TABLES = Tables(None, ())


@dataclass(frozen=True)
class Wanted:
    """The classes in order (None: every label is one), and the class of each of the data's labels."""

    classes: tuple[str, ...] | None
    by_label: dict[str, str]
    tables: Tables = ANY_TABLES

    def labels_of(self, name: str) -> list[str]:
        """The data's labels that make up this class."""
        return [label for label, owner in self.by_label.items() if owner == name]

    def are_folders(self, listing: Listing) -> bool:
        """Whether every class has a folder of images: then no table is asked."""
        if dict(self.tables.columns).get("label"):
            return False
        names = {last(folder) for folder in listing.holding}
        return self.classes is not None and all(names & set(self.labels_of(name)) for name in self.classes)


class Layout(NamedTuple):
    """`detect` says what was seen that makes it this layout, or ''; `read` yields None where it is another one."""

    needs: str
    detect: Callable[[Listing, Wanted], str]
    read: Callable[[Listing, Wanted], Entries | None]


@dataclass(frozen=True)
class Found:
    """The images of a study, and what was left out.

    `table` has the text columns id (path below `top`), path (below raw), label (the class), patient, side, source, sex,
    age and view, '' where unknown: class after class, in the natural order of id.
    """

    layout: str
    why: str
    top: Path
    table: pd.DataFrame
    patients: str  # how they were told: unknown, pattern, patients.csv, or the layout's own way
    left_out: dict[str, int]  # reason -> number of image files
    missing: list[str]  # what tables name and is not there
    tables: list[str]  # what was taken from each table, or why it was passed over
    told_in: dict[str, str] = field(default_factory=dict)  # of several sources: how each one's patients were told


def wanted(classes: list[str] | None, labels: dict[str, list[str]] | None, tables: Tables = ANY_TABLES) -> Wanted:
    """The classes with the labels that make them up; without `labels` a class is the label of its name."""
    if labels is not None:
        by_label = {label: name for name, several in labels.items() for label in several}
        return Wanted(tuple(labels if classes is None else classes), by_label, tables)
    return Wanted(None if classes is None else tuple(classes), {name: name for name in classes or []}, tables)


def once(images: Iterable[Image], table: str) -> list[Image]:
    """Each image once, with all that its rows say. Errors: DataError naming those that contradict one another."""
    first: dict[str, Image] = {}
    torn: dict[str, str] = {}
    for image in images:
        before = first.setdefault(image.path, image)
        first[image.path] = before if before == image else _together(before, image)
        if difference := _difference(before, image):
            torn.setdefault(image.path, difference)
    if torn:
        listed = [f"{path} ({difference})" for path, difference in torn.items()]
        raise DataError(f"{table}: rows of one image contradict one another: {some(listed)}")
    return list(first.values())


def elsewhere(path: str, top: str) -> str:
    """The reason for leaving out an image that lies in no folder of the layout."""
    below = relative(path, top) if is_below(path, top) else path
    folder, slash, _ = below.partition("/")
    return f"folder {folder}" if slash else "not in a folder"


def place_of(listing: Listing, fits: Callable[[str], bool]) -> str | None:
    """The shallowest folder of images for which `fits` holds."""
    return next((folder for folder in listing.by_depth if folder in listing.holding and fits(folder)), None)


def _together(before: Image, after: Image) -> Image:
    return Image(*(one or other for one, other in zip(before, after, strict=True)))


def _difference(before: Image, after: Image) -> str:
    """The first field of which both know something, and not the same."""
    pairs = zip(Image._fields, before, after, strict=True)
    return next((f"{name} {one}, then {other}" for name, one, other in pairs if one and other and one != other), "")
