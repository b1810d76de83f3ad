"""CSV tables, exact and safe to open in a spreadsheet. Not in files.py, since pandas takes time to import."""

import csv
import warnings
from pathlib import Path
from typing import IO, Literal

import pandas as pd
from pandas.errors import ParserWarning

from xraylab import files, targets
from xraylab.errors import DataError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets leave out a tab or carriage return before a formula
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


def refuse_formulas(table: pd.DataFrame, name: str) -> None:
    """Errors: DataError for the first cell that a spreadsheet would run as a formula; `name` is the file's."""
    for column in table.select_dtypes(include=["object", "string"]):
        texts = table[column].dropna().astype(str)
        for text in texts[texts.str.startswith(FORMULA_STARTS)]:
            raise DataError(
                f"{name}: {text!r} in column {column} would run as a formula in a spreadsheet: "
                f"rename it so that it does not begin with one of {' '.join(FORMULA_STARTS[:4])}, or with a tab"
            )


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
