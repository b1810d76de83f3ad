"""What the page says of one experiment."""

from collections.abc import Sequence
from typing import Any

from xraylab.report.comparison import MACRO, OVERALL, place
from xraylab.report.records import Record, chosen, keyed
from xraylab.report.rows import confusions

WEIGHTED = "weighted"
WHOLE = ("accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "log_loss")
OF_CLASS = (
    "sensitivity", "specificity", "ppv", "npv", "ppv_at_prevalence", "npv_at_prevalence", "fpr", "fnr",
    "called_normal", "f1", "auroc", "auprc",
)  # fmt: skip
GROUPED = ("accuracy", "sensitivity", "specificity", "f1", "auroc")


def figures(summary: dict[str, Any], rows: Sequence[Record], spread: Sequence[Record], experiment: str) -> list[Any]:
    """Of the mean probability over repeats: what speaks of all classes, then a block per class and of their means.

    A block holds a name and (figure, row, mean over repeats or None).
    """
    known = {"experiment": experiment, "checkpoint": "best", "side": "test"}
    own = keyed(chosen(rows, kind="mean", **known))
    kind = "round" if summary["folds"] else "repeat"
    means = keyed(chosen(spread, kind=kind, **known))
    named = [summary["positive"]] if summary["positive"] else [*summary["classes"], MACRO, WEIGHTED]
    blocks = {OVERALL: WHOLE} | dict.fromkeys(named, OF_CLASS)
    return [
        {
            "of": of,
            "rows": [(name, own[of, name], _several(means.get((of, name)))) for name in names if (of, name) in own],
        }
        for of, names in blocks.items()
    ]


def _several(row: Record | None) -> Record | None:
    return row if row is not None and row["n"] > 1 else None


def points(rows: Sequence[Record], experiment: str) -> dict[int, list[Record]]:
    """Repeat -> the thresholds and what they do to the test images."""
    found: dict[int, list[Record]] = {}
    for row in chosen(rows, experiment=experiment):
        found.setdefault(row["repeat"], []).append(row)
    return found


def groups(summary: dict[str, Any], rows: Sequence[Record], experiment: str) -> list[dict[str, Any]]:
    """One entry per grouping and group: its images and its figures by name; without them where it is too small."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in chosen(rows, experiment=experiment):
        key = (row["grouping"], row["group"])
        counts = {name: row[name] for name in ("images", "patients", "reference")}
        group = found.setdefault(key, {"by": key[0], "group": key[1], **counts, "figures": {}})
        if row["figure"] and (row["of"], row["figure"]) == place(summary, row["figure"]):
            group["figures"][row["figure"]] = row
    return list(found.values())


def section(
    summary: dict[str, Any], tables: dict[str, list[Record]], calibrations: list[Record], experiment: str
) -> dict[str, Any]:
    """Everything but the charts. `tables`: figures, spread, operating_points and subgroups, of every experiment."""
    compared = [row for row in summary["comparisons"] if row["kind"] == "baseline" and row["first"] == experiment]
    return {
        "experiment": experiment,
        "sentences": [row["sentence"] for row in compared],
        "blocks": figures(summary, tables["figures"], tables["spread"], experiment),
        "confusions": confusions(summary, experiment),
        "at_thresholds": chosen(summary["at_thresholds"], first=experiment),
        "points": points(tables["operating_points"], experiment),
        "calibration": chosen(calibrations, experiment=experiment),
        "groups": groups(summary, tables["subgroups"], experiment),
    }
