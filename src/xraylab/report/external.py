"""What `xraylab external-test` found, for the page; from the files in reports/external."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xraylab.report.records import Record

SHOWN = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auroc", "log_loss")
OVERALL = "overall"
OF_CLASSES = ("sensitivity", "specificity", "f1", "auroc")


def section(
    found: Sequence[dict[str, Any]], figures: Sequence[Record], predictions: Mapping[str, str]
) -> dict[str, Any] | None:
    """The tests of runs as they are trained now, and the names of those of an earlier training; None without any.

    `figures`: reports/evaluation/figures.csv, `predictions`: the SHA-256 of each run's, which an external test notes.
    """
    if not found:
        return None
    fresh = [each for each in found if predictions.get(_run(each)) == each["predictions"]]
    return {
        "tests": [_test(each, figures) for each in fresh],
        "stale": [f"{_run(each)} on {_place(each)}" for each in found if each not in fresh],
    }


def _test(record: dict[str, Any], figures: Sequence[Record]) -> dict[str, Any]:
    own = {
        (row["of"], row["figure"]): row
        for row in figures
        if (row["experiment"], row["number"]) == (record["experiment"], record["repeat"])
        and (row["kind"], row["checkpoint"], row["side"]) == ("repeat", "best", "test")
    }
    rows = [row for row in record["figures"] if row["figure"] in SHOWN and _once(row)]
    return {
        **{name: record[name] for name in ("images", "classes", "overlap", "intervals", "operating_points")},
        "run": _run(record),
        "place": _place(record),
        "rows": [(row, own.get((row["of"], row["figure"]))) for row in rows],
    }


def _once(row: dict[str, Any]) -> bool:
    """Accuracy and log loss are shown of all classes together, rates of each class."""
    return bool(row["of"] != OVERALL if row["figure"] in OF_CLASSES else row["of"] == OVERALL)


def _run(record: dict[str, Any]) -> str:
    return f"{record['experiment']}/{record['repeat']}"


def _place(record: dict[str, Any]) -> str:
    """The folder's name alone: its path may tell of people."""
    return Path(record["folder"]).name
