"""Tables that came with a data set, whatever their format, cell by cell as text."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile

import pandas as pd

from xraylab import files
from xraylab.errors import DataError, MissingError

SEPARATORS = ",;\t|"


class Row(NamedTuple):
    """One line of a table: its number, and column -> cell."""

    line: int
    cells: dict[str, str]


class Sheet(NamedTuple):
    """The names of the columns in one spelling, the rows that are not empty, and the names as they are written."""

    header: list[str]
    rows: list[Row]
    titles: list[str]


def read(path: Path) -> Sheet:
    """Errors: DataError where the file cannot be read, MissingError where what reads Parquet is not installed."""
    suffix = path.suffix.lower()
    if suffix not in (".xlsx", ".parquet"):
        return Sheet(read_header(path), read_csv(path), read_titles(path))
    try:
        excel = suffix == ".xlsx"
        return _from_frame(pd.read_excel(path, dtype=str, keep_default_na=False) if excel else pd.read_parquet(path))
    except ImportError:
        raise MissingError(
            f"{path.name} is a Parquet table, and pyarrow, which reads it, is not installed: pip install pyarrow"
        ) from None
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None


def read_header(path: Path) -> list[str]:
    """The names of a CSV's columns in one spelling: `Patient ID` is patient_id."""
    return [normalize_name(title) for title in read_titles(path)]


def read_titles(path: Path) -> list[str]:
    """The names of a CSV's columns as they are written."""
    with files.open_text(path, errors="replace") as file:  # strictly only where it is read wholly
        return _titles(file.readline())


def read_csv(path: Path, needed: list[str] | None = None) -> list[Row]:
    """The rows of a CSV, whatever its separator.

    A row must have as many cells as the header or, with `needed`, at least these. Errors: DataError.
    """

    def parse(file: IO[str]) -> list[Row]:
        line = file.readline()
        return list(_rows(file, line, path, needed))

    return files.read(path, parse)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Each line of a text file that is not empty, with its number."""
    text = files.read(path, lambda file: file.read())
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def normalize_name(name: str) -> str:
    """One spelling of a column's name: `Patient ID` is patient_id."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _rows(file: IO[str], header: str, path: Path, needed: list[str] | None) -> Iterator[Row]:
    names = _header(header)
    reader = csv.reader(file, delimiter=_separator(header))
    try:
        for cells in reader:
            if not any(cells):
                continue
            row = Row(reader.line_num + 1, dict(zip(names, (cell.strip() for cell in cells), strict=False)))
            # empty cells after the last column are none
            complete = len(cells) >= len(names) and not any(cells[len(names) :])
            if not (complete if needed is None else row.cells.keys() >= set(needed)):
                raise DataError(f"{path.name}, line {row.line}: {len(cells)} cells, the header has {len(names)}")
            yield row
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num + 1}: {error}") from None


def _header(line: str) -> list[str]:
    return [normalize_name(title) for title in _titles(line)]


def _titles(line: str) -> list[str]:
    cells = next(csv.reader([line.lstrip("\ufeff")], delimiter=_separator(line)), [])
    return [cell.strip() for cell in cells]


def _separator(line: str) -> str:
    return max(SEPARATORS, key=line.count)


def _from_frame(frame: pd.DataFrame) -> Sheet:
    titles = [str(name).strip() for name in frame.columns]
    header = [normalize_name(title) for title in titles]
    columns = [[_text(cell) for cell in frame.iloc[:, number]] for number in range(len(header))]
    rows = [
        Row(line, dict(zip(header, cells, strict=True))) for line, cells in enumerate(zip(*columns, strict=True), 2)
    ]
    return Sheet(header, [row for row in rows if any(row.cells.values())], titles)


def _text(cell: object) -> str:
    """The cell as a CSV would have it: 7.0 of a column with gaps is 7."""
    if cell is None or cell is pd.NaT or cell != cell:  # noqa: PLR0124 - NaN alone differs from itself
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
