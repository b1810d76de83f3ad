"""Tables that came with a data set, cell by cell as text."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from xraylab import files
from xraylab.data.names import some
from xraylab.errors import DataError

Row = dict[str, str]
SEPARATORS = ",;\t|"


def header(path: Path) -> list[str]:
    """The names of the columns in one spelling: `Patient ID` is patient_id."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:  # strictly only where it is read wholly
        return _names(file.readline())


def read(path: Path, needed: list[str] | None = None) -> list[tuple[int, Row]]:
    """Each row with its line number.

    A row must have as many cells as the header, or, where `needed` is given, at least these. Errors: DataError.
    """

    def parse(file: IO[str]) -> list[tuple[int, Row]]:
        line = file.readline()
        return list(_rows(file, line, path, needed))

    return files.read(path, parse)


def lines(path: Path) -> list[tuple[int, str]]:
    """Each line of a text file that is not empty, with its number."""
    text = files.read(path, lambda file: file.read())
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _rows(file: IO[str], line: str, path: Path, needed: list[str] | None) -> Iterator[tuple[int, Row]]:
    names = _names(line)
    reader = csv.reader(file, delimiter=_separator(line))
    try:
        for cells in reader:
            if not any(cells):
                continue
            row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
            whole = _as_long(cells, names) if needed is None else row.keys() >= set(needed)
            if not whole:
                raise DataError(
                    f"{path.name}, line {reader.line_num + 1}: {len(cells)} cells, the header has {len(names)}"
                )
            yield reader.line_num + 1, row
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num + 1}: {error}") from None


def _as_long(cells: list[str], names: list[str]) -> bool:
    """Empty cells after the last column are none."""
    return len(cells) >= len(names) and not any(cells[len(names) :])


def _names(line: str) -> list[str]:
    cells = next(csv.reader([line.lstrip("\ufeff")], delimiter=_separator(line)), [])
    return [spelling(cell) for cell in cells]


def spelling(name: str) -> str:
    """One spelling of a column's name: `Patient ID` is patient_id."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _separator(line: str) -> str:
    return max(SEPARATORS, key=line.count)


def column(names: list[str], known: tuple[str, ...], table: str) -> str:
    """The first of the `known` names that is a column; '' where none is. Errors: DataError where it is there twice."""
    name = next((name for name in known if name in names), "")
    if name and names.count(name) > 1:
        raise DataError(f"{table}: has the column {name} twice, in {some(names, 20)}")
    return name
