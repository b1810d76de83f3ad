"""Tables beside images, whatever their format, cell by cell as text."""

from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import pandas as pd

from xraylab.data.layouts import csvs
from xraylab.data.layouts.csvs import Row
from xraylab.errors import DataError, MissingError


class Sheet(NamedTuple):
    """The names of the columns in one spelling, and each row with its line number."""

    header: list[str]
    rows: list[tuple[int, Row]]


def read(path: Path) -> Sheet:
    """Errors: DataError where the file cannot be read, MissingError where what reads Parquet is not installed."""
    match path.suffix.lower():
        case ".xlsx":
            return _of(_excel(path))
        case ".parquet":
            return _of(_parquet(path))
        case _:
            return Sheet(csvs.header(path), csvs.read(path))


def _excel(path: Path) -> pd.DataFrame:
    try:
        return pd.read_excel(path, dtype=str, keep_default_na=False)
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError:
        raise MissingError(
            f"{path.name} is a Parquet table, and pyarrow, which reads it, is not installed: pip install pyarrow"
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None


def _of(frame: pd.DataFrame) -> Sheet:
    header = [csvs.spelling(str(name)) for name in frame.columns]
    columns = [[_text(cell) for cell in frame.iloc[:, place]] for place in range(len(header))]
    rows = [dict(zip(header, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return Sheet(header, [(number, row) for number, row in enumerate(rows, start=2) if any(row.values())])


def _text(cell: object) -> str:
    """The cell as a CSV would have it: 7.0 of a column with gaps is 7."""
    if cell is None or cell is pd.NaT or cell != cell:  # noqa: PLR0124 - NaN alone differs from itself
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
