"""Tables that came with a data set, whatever their format, cell by cell as text."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZipFile

import pandas as pd

from xraylab import files
from xraylab.errors import DataError, MissingError, XraylabError

SEPARATORS = ",;\t|"
LONGEST_HEADER = 1_000_000  # characters
MOST_COLUMNS = 10_000  # each row is a mapping of them
MOST_BYTES = 512 << 20  # of a workbook, unpacked


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
    excel = suffix == ".xlsx"
    try:
        if excel:
            _refuse_large(path)
        return _from_frame(pd.read_excel(path, dtype=str, keep_default_na=False) if excel else pd.read_parquet(path))
    except ImportError:
        raise MissingError(
            f"{path.name} is a Parquet table, and pyarrow, which reads it, is not installed: pip install pyarrow"
        ) from None
    except XraylabError:
        raise
    except Exception as error:  # the parts of a damaged workbook fail in any way
        raise DataError(f"{path.name} cannot be read: {error or type(error).__name__}") from None


def _refuse_large(path: Path) -> None:
    """Errors: DataError for a workbook of few bytes that unpacks to many; a table of a million images has 100 MB."""
    with ZipFile(path) as workbook:
        size = sum(member.file_size for member in workbook.infolist())
    if size > MOST_BYTES:
        raise DataError(f"{path.name} unpacks to {size / 1e6:,.0f} MB, and may to {MOST_BYTES >> 20}: save it as CSV")


def read_header(path: Path) -> list[str]:
    """The names of a CSV's columns in one spelling: `Patient ID` is patient_id."""
    return [normalize_name(title) for title in read_titles(path)]


def read_titles(path: Path) -> list[str]:
    """The names of a CSV's columns as they are written."""
    with files.open_text(path, errors="replace") as file:  # strictly only where it is read wholly
        return _titles(_first_line(file, path), path)


def read_csv(path: Path, needed: list[str] | None = None) -> list[Row]:
    """The rows of a CSV, whatever its separator.

    A row must have as many cells as the header or, with `needed`, at least these. Errors: DataError.
    """

    def parse(file: IO[str]) -> list[Row]:
        return list(_rows(file, _first_line(file, path), path, needed))

    return files.read(path, parse)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Each line of a text file that is not empty, with its number."""
    text = files.read(path, lambda file: file.read())
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def normalize_name(name: str) -> str:
    """One spelling of a column's name: `Patient ID` is patient_id."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _rows(file: IO[str], header: str, path: Path, needed: list[str] | None) -> Iterator[Row]:
    names = [normalize_name(title) for title in _titles(header, path)]
    repeated = {name for name in names if name and names.count(name) > 1} if len(set(names)) < len(names) else set()
    reader = csv.reader(file, delimiter=_separator(header))
    try:
        for cells in reader:
            if not any(cells):
                continue
            if repeated:
                _refuse_contradiction(names, cells, repeated, f"{path.name}, line {reader.line_num + 1}")
            row = Row(reader.line_num + 1, dict(zip(names, (cell.strip() for cell in cells), strict=False)))
            # empty cells after the last column are none
            complete = len(cells) >= len(names) and not any(cells[len(names) :])
            if not (complete if needed is None else row.cells.keys() >= set(needed)):
                raise DataError(f"{path.name}, line {row.line}: {len(cells)} cells, the header has {len(names)}")
            yield row
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num + 1}: {error}") from None


def _refuse_contradiction(names: list[str], cells: list[str], repeated: set[str], where: str) -> None:
    """Errors: DataError where columns of one name differ in a row."""
    for name in sorted(repeated):
        values = list(dict.fromkeys(cell.strip() for title, cell in zip(names, cells, strict=False) if title == name))
        if len(values) > 1:
            raise DataError(f"{where}: the column {name} is there twice, with {values[0]!r} and {values[1]!r}")


def _first_line(file: IO[str], path: Path) -> str:
    """Errors: DataError where it is no header."""
    line = file.readline(LONGEST_HEADER + 1)
    if len(line) > LONGEST_HEADER:
        raise DataError(f"{path.name}, line 1: a header of more than {LONGEST_HEADER:,} characters is none")
    return line


def _titles(line: str, path: Path) -> list[str]:
    try:
        cells = next(csv.reader([line.lstrip("\ufeff")], delimiter=_separator(line)), [])
    except csv.Error as error:
        raise DataError(f"{path.name}, line 1: {error}") from None
    if len(cells) > MOST_COLUMNS:
        raise DataError(
            f"{path.name} has {len(cells):,} columns, and may have {MOST_COLUMNS:,}: leave out what is not used"
        )
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
