"""Lists of one's own that say which image is on which side: without pandas, since `source` always reads them."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from xraylab import files
from xraylab.data.names import some
from xraylab.errors import DataError, MissingError

FILES = {"train": "train_data.csv", "valid": "valid_data.csv", "test": "test_data.csv"}
OPTIONAL = ("valid",)
COLUMNS = ("id", "path", "image")
"""What an image may be called by: its id, its path below data/raw, or its file name where that is unique."""

SEPARATORS = ",;\t"

Rows = list[tuple[str, str]]  # name, side
Table = list[list[str]]  # the header first


def read(folder: Path) -> tuple[str, Rows]:
    """The column by which the lists in `folder` name the images, and every name with its side.

    Errors: DataError naming every list that is missing, the lists that have no common column, and empty names.
    """
    wanted = {side: folder / name for side, name in FILES.items() if (folder / name).exists() or side not in OPTIONAL}
    missing = [str(path) for path in wanted.values() if not path.is_file()]
    if missing:
        raise DataError("split.files: the folder needs train_data.csv and test_data.csv; there is no", missing)
    tables = {side: _table(path) for side, path in wanted.items()}
    column = _common_column({wanted[side]: table[0] for side, table in tables.items()})
    rows = [(name, side) for side, table in tables.items() for name in _names(table, column, wanted[side])]
    if not rows:
        raise DataError(f"split.files: the lists in {folder} name no image")
    return column, rows


def note(column: str, rows: Rows, folder: str, path: Path) -> None:
    """Write data/sides.csv: the names as they are listed, their sides, and the name of the lists' folder."""
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column, "side", "files"])
        writer.writerows([name, side, folder] for name, side in rows)


def noted(path: Path, folder: str) -> tuple[str, Rows]:
    """What data/sides.csv holds. Errors: MissingError where it was not made from the lists in `folder`."""
    if noted_folder(path) != folder:
        raise MissingError(f"{path} was not made from the lists in split.files ({folder}): `dvc repro` makes it anew")
    header, *rows = _table(path)
    return header[0], [(name, side) for name, side, _ in rows]


def noted_folder(path: Path) -> str | None:
    """The name of the folder whose lists data/sides.csv holds."""
    rows = _table(path)[1:] if path.exists() else []
    return rows[0][2] if rows else None


def sides(column: str, rows: Rows, ids: Sequence[str], paths: Sequence[str], unlisted: str) -> list[str]:
    """The side of every image, in the order of `ids`.

    Errors: one DataError naming the images that are unknown, whose name is not unique, or that are listed twice.
    """
    known = {"id": list(ids), "path": list(paths), "image": [path.rpartition("/")[2] for path in paths]}[column]
    count = Counter(known)
    listed = Counter(name for name, _ in rows)
    problems = {
        "not an image of the index": [name for name in listed if not count[name]],
        "the file name of several images: list ids or paths": [name for name in listed if count[name] > 1],
        "listed twice": [f"{name} ({' and '.join(_where(rows, name))})" for name in listed if listed[name] > 1],
    }
    if any(problems.values()):
        raise DataError(
            f"split.files: the lists do not fit the images (column {column}):",
            [f"{what}: {some(names)}" for what, names in problems.items() if names],
        )
    side_of = dict(rows)
    return [side_of.get(name, unlisted) for name in known]


def _where(rows: Rows, name: str) -> Iterator[str]:
    yield from (FILES[side] for other, side in rows if other == name)


def _common_column(headers: dict[Path, list[str]]) -> str:
    """The first of COLUMNS that every list has."""
    for column in COLUMNS:
        if all(column in header for header in headers.values()):
            return column
    raise DataError(
        f"split.files: the lists need one common column out of {', '.join(COLUMNS)}, which names the images:",
        [f"{path} has {', '.join(header) or 'no header'}" for path, header in headers.items()],
    )


def _names(table: Table, column: str, path: Path) -> Iterator[str]:
    cell = table[0].index(column)
    for number, row in enumerate(table[1:], start=1):
        if len(row) <= cell or not row[cell]:
            raise DataError(f"split.files: {path}: row {number} below the header names no image")
        yield row[cell]


def _table(path: Path) -> Table:
    """The header in lower case, and the rows that are not empty."""

    def parse(file: IO[str]) -> Table:
        text = file.read().removeprefix("\ufeff")  # as spreadsheets begin a file
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        try:
            rows = [
                [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            ]
        except csv.Error as error:
            raise ValueError(error) from None
        header, *rest = rows or [[]]
        return [[cell.lower() for cell in header], *filter(any, rest)]

    return files.read(path, parse)
