"""Lists of one's own that say which image is in which split."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xraylab import tables
from xraylab.data.layouts import sheets
from xraylab.data.names import some
from xraylab.errors import DataError, MissingError

FILES = {"train": "train_data.csv", "valid": "valid_data.csv", "test": "test_data.csv"}
OPTIONAL = ("valid",)
COLUMNS = ("id", "path", "image")
"""Columns that may name an image: id, path below data/raw, or file name where that is unique."""

Rows = list[tuple[str, str]]  # name, split


def read(folder: Path) -> tuple[str, Rows]:
    """The column by which the lists in `folder` name the images, and every name with its split.

    Errors: DataError naming every list that is missing, the lists that have no common column, and empty names.
    """
    paths = {split: folder / name for split, name in FILES.items() if (folder / name).exists() or split not in OPTIONAL}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise DataError("split.files: the folder needs train_data.csv and test_data.csv; there is no", missing)
    column = _common_column({path: sheets.read_header(path) for path in paths.values()})
    rows = [(name, split) for split, path in paths.items() for name in _names(path, column)]
    if not rows:
        raise DataError(f"split.files: the lists in {folder} name no image")
    return column, rows


def write_record(column: str, rows: Rows, folder: str, path: Path) -> None:
    """Write data/given_splits.csv: the names as they are listed, their splits, and the name of the lists' folder.

    Errors: DataError for a name that a spreadsheet would run as a formula.
    """
    listed = [(name, split, folder) for name, split in rows]
    tables.write(pd.DataFrame(listed, columns=[column, "split", "files"], dtype=str), path)


def read_record(path: Path, folder: str) -> tuple[str, Rows]:
    """Read data/given_splits.csv. Errors: MissingError where it was not made from the lists in `folder`."""
    if recorded_folder(path) != folder:
        raise MissingError(f"{path} was not made from the lists in split.files ({folder}): `dvc repro` makes it anew")
    column = sheets.read_header(path)[0]
    return column, [(row.cells[column], row.cells["split"]) for row in sheets.read_csv(path)]


def recorded_folder(path: Path) -> str | None:
    """The name of the folder whose lists data/given_splits.csv holds."""
    rows = sheets.read_csv(path) if path.exists() else []
    return rows[0].cells["files"] if rows else None


def assign(column: str, rows: Rows, ids: Sequence[str], paths: Sequence[str], unlisted: str) -> list[str]:
    """The split of every image, in the order of `ids`.

    Errors: one DataError naming the images that are unknown, whose name is not unique, or that are listed twice.
    """
    names = {"id": list(ids), "path": list(paths), "image": [path.rpartition("/")[2] for path in paths]}[column]
    count, listed = Counter(names), Counter(name for name, _ in rows)
    lists_of = {name: [FILES[split] for other, split in rows if other == name] for name in listed if listed[name] > 1}
    problems = {
        "not an image of the index": [name for name in listed if not count[name]],
        "the file name of several images: list ids or paths": [name for name in listed if count[name] > 1],
        "listed twice": [f"{name} ({' and '.join(lists)})" for name, lists in lists_of.items()],
    }
    if any(problems.values()):
        raise DataError(
            f"split.files: the lists do not fit the images (column {column}):",
            [f"{problem}: {some(examples)}" for problem, examples in problems.items() if examples],
        )
    split_of = dict(rows)
    return [split_of.get(name, unlisted) for name in names]


def _common_column(headers: dict[Path, list[str]]) -> str:
    """The first of COLUMNS that every list has."""
    for column in COLUMNS:
        if all(column in header for header in headers.values()):
            return column
    raise DataError(
        f"split.files: the lists need one common column out of {', '.join(COLUMNS)}, which names the images:",
        [f"{path} has {', '.join(header) or 'no header'}" for path, header in headers.items()],
    )


def _names(path: Path, column: str) -> list[str]:
    names = [row.cells.get(column, "") for row in sheets.read_csv(path, needed=[])]
    if "" in names:
        raise DataError(f"split.files: {path}: row {names.index('') + 1} below the header names no image")
    return names
