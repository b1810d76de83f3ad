"""Tables written batch by batch: CSV, JSON lines and Parquet, whole or not at all; and CSV to the standard output."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pandas as pd

from xraylab import files, tables, text
from xraylab.errors import DataError, MissingError

STDOUT = "-"
Write = Callable[[pd.DataFrame], None]
"""Appends rows; every table has the columns of the first, which may have no row."""


def is_csv(target: str) -> bool:
    """Return whether `target` gets CSV, in which a cell may be a formula."""
    return target == STDOUT or Path(target).suffix.lower() == ".csv"


def check(target: str) -> None:
    """Errors: DataError for a suffix of no known format, MissingError where Parquet's library is not installed."""
    suffix = Path(target).suffix.lower()
    if target != STDOUT and suffix not in FORMATS:
        raise DataError(f"{target}: name a file that ends in one of {', '.join(FORMATS)}, or - for CSV on the screen")
    if suffix == ".parquet":
        _pyarrow()


def file_name(number: int, name: str) -> str:
    """The name of an image's own file, without suffix: its row in the table, and its name in plain characters."""
    return f"{number:06}-{re.sub(r'[^A-Za-z0-9._-]', '_', Path(name).stem)[-80:]}"


@contextmanager
def open_table(target: str) -> Iterator[Write]:
    """Yield a function that appends rows to `target`, which is there when all are written, and not before."""
    check(target)
    if target == STDOUT:
        yield _csv_to(text.exact(sys.stdout), "the standard output")
        return
    path = Path(target)
    with files.replacing(path) as temporary, FORMATS[path.suffix.lower()](temporary, path.name) as write:
        yield write


def _csv_to(file: IO[str], name: str) -> Write:
    first = True

    def write(rows: pd.DataFrame) -> None:
        nonlocal first
        tables.append(rows, file, name, first)
        first = False

    return write


@contextmanager
def _csv(path: Path, name: str) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _csv_to(file, name)


@contextmanager
def _json_lines(path: Path, _: str) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(rows: pd.DataFrame) -> None:
            for row in rows.to_dict("records"):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path, _: str) -> Iterator[Write]:
    arrow, parquet = _pyarrow()
    writer = None

    def write(rows: pd.DataFrame) -> None:
        nonlocal writer
        if writer is None:
            writer = parquet.ParquetWriter(path, _schema(rows, arrow))
        writer.write_table(arrow.Table.from_pandas(rows, schema=writer.schema, preserve_index=False))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _schema(rows: pd.DataFrame, arrow: Any) -> Any:
    """Numbers as they are; all else is text, also where there is no row to tell it."""
    kinds = {"f": arrow.float64(), "i": arrow.int64()}
    return arrow.schema([(name, kinds.get(kind.kind, arrow.string())) for name, kind in rows.dtypes.items()])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise MissingError(".parquet needs pyarrow, which is not installed: pip install 'xraylab[parquet]'") from None
    return pyarrow, parquet


FORMATS: dict[str, Callable[[Path, str], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
"""By suffix: from the path and the name of the file in errors to a context that appends rows."""
