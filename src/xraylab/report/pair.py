"""The two best experiments side by side."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from xraylab.report.comparison import place
from xraylab.report.records import Record, chosen, keyed

FIGURES = ("accuracy", "sensitivity", "specificity", "f1", "auroc")
SHOWN = 6  # images that only one of the two gets right


def table(summary: dict[str, Any], rows: Sequence[Record], spread: Sequence[Record]) -> list[dict[str, Any]]:
    """Per figure: that of either experiment, with several repeats their mean, and their tested difference."""
    several = len({run["repeat"] for run in summary["runs"]}) > 1
    known = {"checkpoint": "best", "side": "test", "kind": "repeat"}
    both = [keyed(chosen(spread if several else rows, experiment=name, **known)) for name in summary["top_two"]]
    if several:
        both = [{key: row | {"value": row["mean"]} for key, row in own.items()} for own in both]
    top = [row for row in summary["comparisons"] if row["kind"] == "top two"]
    tested = {row["figure"]: _from(summary["top_two"][0], row) for row in top}
    return [
        {"figure": name, "each": [own[place(summary, name)] for own in both], "difference": tested.get(name)}
        for name in FIGURES
    ]


def _from(first: str, row: Record) -> Record:
    """The same comparison, its difference that of `first` less the other."""
    if row["first"] == first or row["difference"] is None:
        return row
    ends = {"low": row["high"], "high": row["low"]}
    return (
        row
        | {"difference": -row["difference"]}
        | {end: None if value is None else -value for end, value in ends.items()}
    )


def alone_right(first: pd.DataFrame, second: pd.DataFrame) -> list[pd.DataFrame]:
    """The images that the first alone gets right, and those that the second alone does; each as the other sees it.

    Both hold id, actual, predicted and probability of the same images.
    """
    there = second.set_index("id").loc[first["id"]].reset_index()
    ours, theirs = (part["predicted"] == part["actual"] for part in (first, there))
    return [_surest(there[ours & ~theirs]), _surest(first[theirs & ~ours])]


def _surest(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("probability", ascending=False, kind="stable").head(SHOWN)
