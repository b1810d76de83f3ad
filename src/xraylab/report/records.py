"""Tables of the evaluation as rows for the page."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from xraylab import tables

Record = dict[str, Any]

WORDS = (
    "experiment", "checkpoint", "chosen_on", "kind", "side", "of", "figure", "by", "point", "why", "grouping", "group",
    "suppressed", "split", "reference",
)  # fmt: skip
TEXT = (*tables.TEXT, *WORDS)


def records(table: pd.DataFrame) -> list[Record]:
    """One mapping per row of a table that was read with `TEXT`; None where a cell is empty or no number."""
    numbers = {str(name): pd.to_numeric(table[name], errors="coerce") for name in table.columns if name not in TEXT}
    found = table.assign(**numbers).to_dict("records")
    return [{str(key): _known(value) for key, value in row.items()} for row in found]


def chosen(rows: Iterable[Record], **wanted: Any) -> list[Record]:
    """The rows that hold all of `wanted`."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def keyed(rows: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """(what it is of, figure) -> row."""
    return {(row["of"], row["figure"]): row for row in rows}


def _known(value: Any) -> Any:
    return None if value == "" or value != value else value  # noqa: PLR0124 - NaN alone differs from itself
