"""CSV tables, exact and safe to open in a spreadsheet. Not in files.py, since pandas takes time to import."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

import pandas as pd
from pandas.errors import ParserWarning

from xraylab import files, targets
from xraylab.errors import DataError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Spreadsheets leave out white space before a formula, and some read the full-width signs of East Asia as such."""
TEXT = (
    "id", "other", "path", "label", "patient", "split", "source", "sex", "age", "view", "mode", "format",
    "file_hash", "pixel_hash", "perceptual_hash", "inside_hash", "burned_in", "window", "manufacturer", "site",
    "study_order", "actual", "predicted", "change",
)  # fmt: skip


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV whose floats read back exactly; refuse cells that a spreadsheet would run as formulas."""
    refuse_formulas(table, path.name)
    with files.replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", quoting=_quoting(table))


def _quoting(table: pd.DataFrame) -> Literal[0, 2]:
    """Quote where a cell holds a carriage return, which readers take for the end of a row, and csv does not quote."""
    texts = (table[column] for column in table.select_dtypes(include=["object", "string"]))
    returns = any(column.dropna().astype(str).str.contains("\r", regex=False).any() for column in texts)
    return csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL


def append(table: pd.DataFrame, file: IO[str], name: str, header: bool) -> None:
    """Append the rows to a CSV that is written batch by batch; `name` is the file's. Errors: as `write`."""
    refuse_formulas(table, name)
    table.to_csv(file, header=header, index=False, lineterminator="\n", quoting=_quoting(table))
    file.flush()


def refuse_formulas(table: pd.DataFrame, name: str) -> None:
    """Errors: DataError for the first name or cell that a spreadsheet would run as a formula; `name` is the file's."""
    for title in map(str, table.columns):
        if title.startswith(FORMULA_STARTS):
            raise DataError(f"{name}: the column {title!r} would run as a formula in a spreadsheet: rename it")
    for column in table.select_dtypes(include=["object", "string"]):
        texts = table[column].dropna().astype(str)
        for text in texts[texts.str.startswith(FORMULA_STARTS)]:
            raise DataError(
                f"{name}: {text!r} in column {column} would run as a formula in a spreadsheet: "
                f"rename it so that it does not begin with one of {' '.join(FORMULA_STARTS[:4])}, or with a tab"
            )


def require(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> None:
    """Errors: DataError where a table of images has not these columns, or an image twice."""
    if absent := [name for name in columns if name not in table]:
        raise DataError(f"{path} has no column {', '.join(absent)}: `dvc repro` makes it anew")
    if table["id"].duplicated().any():
        name = table["id"][table["id"].duplicated()].iloc[0]
        raise DataError(f"{path} lists {name} twice: `dvc repro` makes it anew")


def read(path: Path, text_columns: tuple[str, ...] = TEXT) -> pd.DataFrame:
    """Read a CSV; identifiers stay text (`007` is not 7, `NA` is a name) and an empty one is ''."""

    def parse(file: IO[str]) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)  # rows with more cells than the header, whose rest is lost
            table = pd.read_csv(file, dtype=dict.fromkeys(text_columns, str), keep_default_na=False, index_col=False)
        findings = targets.of_table(table)
        return table.assign(**{name: pd.to_numeric(table[name]).astype("Int64") for name in findings})

    try:
        return files.read(path, parse)
    except ParserWarning:
        raise DataError(f"{path} cannot be read: a row has more cells than the header") from None
