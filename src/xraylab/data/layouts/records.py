"""Layouts and the records that reading one yields."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from xraylab import targets
from xraylab.data.layouts.listing import Listing, is_below, last, relative
from xraylab.data.names import some
from xraylab.errors import DataError
from xraylab.task import SINGLE_LABEL, is_multi

UNKNOWN = "unknown"
"""The source of patients where they are unknown."""

SPLITS = {
    "train": "train", "training": "train",
    "val": "valid", "valid": "valid", "validation": "valid", "validate": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
AGE = re.compile(r"(\d+)(?:\.\d*)?\s*([a-z]*)\.?")
UNITS_A_YEAR = {"": 1, "y": 1, "m": 12, "w": 52, "d": 365}
OLDEST = 120


def parse_split(text: str) -> str:
    """train, valid or test; '' for anything else."""
    return SPLITS.get(text.strip().lower(), "")


def parse_sex(text: str) -> str:
    """M or F; '' for anything else."""
    return SEXES.get(text.strip().lower(), "")


def parse_age(text: str) -> str:
    """Whole years: 058Y and 58yrs are 58, 6M is 0; '' for what is no age of a human being, such as 411."""
    match = AGE.fullmatch(text.strip().lower())
    if not match or match[2][:1] not in UNITS_A_YEAR:
        return ""
    years = int(match[1]) // UNITS_A_YEAR[match[2][:1]]
    return str(years) if years <= OLDEST else ""


def parse_view(text: str) -> str:
    """PA, AP, LL and so on."""
    return text.strip().upper()


Marks = dict[str, int]
"""Label of the data -> 1, 0 or -1 (uncertain); one that nobody labelled is not in it."""


class Image(NamedTuple):
    """One image as its data set describes it; '' is unknown."""

    path: str  # below raw
    label: str  # the data set's own; several findings are joined by |
    patient: str = ""
    split: str = ""
    source: str = ""
    sex: str = ""
    age: str = ""
    view: str = ""
    marks: Marks | None = None
    """Of tables with a column per finding; None: the findings of `label` are there, and no other."""


TEXT_FIELDS = Image._fields[:-1]


@dataclass(frozen=True)
class Entries:
    """The images that a layout reads, and those that it leaves out."""

    top: str  # below raw
    images: list[Image]
    left_out: Counter[str]  # reason -> number of image files
    patients: str = UNKNOWN  # how they are known
    missing: list[str] = field(default_factory=list)
    tables: tuple[str, ...] = ()  # names of those that it reads


class TableConfig(NamedTuple):
    """data.table and data.columns: which tables to read (None: all that are there), and what their columns mean."""

    names: tuple[str, ...] | None
    columns: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, table: str | list[str] | None, columns: Mapping[Any, str | None] | None) -> "TableConfig":
        """As params.yaml writes them: one table, several, or null; kind -> the column's name, or null."""
        names = [table] if isinstance(table, str) else table
        return cls(None if names is None else tuple(names), tuple((columns or {}).items()))


ALL_TABLES = TableConfig(None, ())


class LabelRules(NamedTuple):
    """data.blank, data.readers and data.views: how labels are read, and of which images."""

    blank: str = "missing"  # or negative
    readers: str = "majority"  # or any
    views: tuple[str, ...] | None = None  # None: all

    @classmethod
    def of(cls, blank: str, readers: str, views: list[str] | None) -> "LabelRules":
        """As params.yaml writes them."""
        return cls(blank, readers, None if views is None else tuple(map(parse_view, views)))


AS_WRITTEN = LabelRules()


@dataclass(frozen=True)
class LayoutConfig:
    """The classes in order (None: every label is one), and the class of each of the data's labels."""

    classes: tuple[str, ...] | None
    by_label: dict[str, str]
    tables: TableConfig = ALL_TABLES
    task: str = SINGLE_LABEL
    rules: LabelRules = AS_WRITTEN

    @classmethod
    def of(
        cls,
        classes: list[str] | None,
        labels: dict[str, list[str]] | None,
        tables: TableConfig = ALL_TABLES,
        task: str = SINGLE_LABEL,
        rules: LabelRules = AS_WRITTEN,
    ) -> "LayoutConfig":
        """The classes with the labels that make them up; without `labels` a class is the label of its name."""
        if labels is None:
            by_label = {name: name for name in classes or []}
            return cls(None if classes is None else tuple(classes), by_label, tables, task, rules)
        by_label = {label: name for name, spelled in labels.items() for label in spelled}
        return cls(tuple(labels if classes is None else classes), by_label, tables, task, rules)

    @property
    def is_multi(self) -> bool:
        """Return whether an image may have several findings."""
        return is_multi(self.task)

    def labels_of(self, name: str) -> list[str]:
        """The data's labels that make up this class."""
        return [label for label, owner in self.by_label.items() if owner == name]

    def are_folders(self, listing: Listing) -> bool:
        """Return whether every class has a folder of images: then no table is read for labels."""
        if self.is_multi or dict(self.tables.columns).get("label"):
            return False
        names = {last(folder) for folder in listing.holding}
        return self.classes is not None and all(names & set(self.labels_of(name)) for name in self.classes)


class Layout(NamedTuple):
    """`detect` says what makes it this layout, or ''; `read` yields None where it is another one."""

    needs: str
    detect: Callable[[Listing, LayoutConfig], str]
    read: Callable[[Listing, LayoutConfig], Entries | None]
    own_tables: bool = False
    """True if `read` reads all tables of the data set, so that no other table is joined to its images."""


@dataclass(frozen=True)
class Dataset:
    """The images of a study, and what was left out.

    `table` has the text columns id (path below `top`), path (below raw), label (the class), patient, split, source,
    sex, age and view, '' where unknown: class after class, in the natural order of id. With several findings per image
    `label` joins those that are there, a column per finding follows (see `targets`), and the order is that of id alone.
    """

    layout: str
    why: str
    top: Path
    table: pd.DataFrame
    patients: str  # how they are known: unknown, pattern, patients.csv, or the layout's own way
    left_out: dict[str, int]  # reason -> number of image files
    missing: list[str]  # what tables name and is not there
    tables: list[str]  # what was taken from each table, or why it was passed over
    patients_by_source: dict[str, str] = field(default_factory=dict)  # of several sources: how each one's are known
    not_studied: dict[str, int] = field(default_factory=dict)  # label that no finding names -> its images
    contradicting: list[str] = field(default_factory=list)  # paths of images labelled No Finding that have a finding


def sort_images(listing: Listing, describe: Callable[[str], Image | str]) -> tuple[list[Image], Counter[str]]:
    """Split the listing into images and left-out files; `describe` returns the reason for leaving a path out."""
    results = [describe(path) for path in listing.images]
    images = [result for result in results if isinstance(result, Image)]
    return images, Counter(result for result in results if isinstance(result, str))


def unlisted(listing: Listing, images: list[Image], table: str) -> Counter[str]:
    """The count of image files that have no row in `table`, by this reason."""
    listed = {image.path for image in images}
    return Counter(f"no row in {table}" for path in listing.images if path not in listed)


def merge_rows(images: Iterable[Image], table: str) -> list[Image]:
    """Each image once, with all that its rows say. Errors: DataError naming those that contradict one another."""
    merged: dict[str, Image] = {}
    conflicts: dict[str, str] = {}
    for image in images:
        first = merged.setdefault(image.path, image)
        if first == image:
            continue
        merged[image.path] = _merged(first, image)
        if conflict := _conflict(first, image):
            conflicts.setdefault(image.path, conflict)
    if conflicts:
        listed = [f"{path} ({conflict})" for path, conflict in conflicts.items()]
        raise DataError(f"{table}: rows of one image contradict one another: {some(listed)}")
    return list(merged.values())


def join_labels(images: Iterable[Image]) -> list[Image]:
    """Each image once where a row is one of its findings, with the labels of all its rows joined."""
    labels: dict[str, dict[str, None]] = {}
    first: dict[str, Image] = {}
    for image in images:
        labels.setdefault(image.path, {}).update(dict.fromkeys(image.label.split(targets.SEPARATOR)))
        first.setdefault(image.path, image)
    joined = {path: targets.SEPARATOR.join(label for label in several if label) for path, several in labels.items()}
    return [image._replace(label=joined[image.path]) for image in images]


def _merged(first: Image, second: Image) -> Image:
    texts = {name: getattr(first, name) or getattr(second, name) for name in TEXT_FIELDS}
    marks = None if first.marks is None and second.marks is None else {**(second.marks or {}), **(first.marks or {})}
    return Image(**texts, marks=marks)


def _conflict(first: Image, second: Image) -> str:
    """The first field of which both know something, and not the same."""
    fields = zip(TEXT_FIELDS, first, second, strict=False)
    conflicts = (f"{name} {one}, then {other}" for name, one, other in fields if one and other and one != other)
    ones, others = first.marks or {}, second.marks or {}
    marks = (f"{name} {ones[name]}, then {others[name]}" for name in ones if others.get(name, ones[name]) != ones[name])
    return next(marks, "") or next(conflicts, "")


def other_folder(path: str, top: str) -> str:
    """The reason for leaving out an image that lies in no folder of the layout."""
    below = relative(path, top) if is_below(path, top) else path
    folder, slash, _ = below.partition("/")
    return f"folder {folder}" if slash else "not in a folder"
