"""The rows of the comparison table."""

from collections.abc import Sequence
from typing import Any

from xraylab.report.answer import Means, mark
from xraylab.report.records import Record, chosen, keyed

OVERALL, MACRO = "overall", "macro"
COLUMNS = {"best": ("accuracy", "sensitivity", "specificity", "f1", "auroc"), "last": ("accuracy", "f1", "auroc")}
NONE = {"value": None, "low": None, "high": None}


def rows(
    summary: dict[str, Any], means: Means, figures: Sequence[Record], spread: Sequence[Record]
) -> list[dict[str, Any]]:
    """One row per experiment with, where there are several repeats, a row for each of these: test figures.

    A repeat's figures come with their intervals, an experiment's mean over repeats with its standard deviation.
    """
    tested = chosen(figures, side="test")
    return [
        {
            "experiment": experiment,
            "rank": _rank(summary, experiment),
            "mark": mark(summary, experiment),
            "valid": means.get((experiment, "best", "valid"), {}).get("f1"),
            "whole": _whole(summary, experiment, tested, spread),
            "repeats": _repeats(summary, experiment, tested),
        }
        for experiment in dict.fromkeys(run["experiment"] for run in summary["runs"])
    ]


def whose(summary: dict[str, Any]) -> str:
    """What F1, sensitivity and so on speak of: the positive class, or the mean over classes."""
    return summary["positive"] or MACRO


def place(summary: dict[str, Any], name: str) -> tuple[str, str]:
    """The key of a figure that the page's tables show."""
    return (OVERALL if name == "accuracy" else whose(summary), name)


def _rank(summary: dict[str, Any], experiment: str) -> int | None:
    return summary["top_two"].index(experiment) + 1 if experiment in summary["top_two"] else None


def _repeats(summary: dict[str, Any], experiment: str, tested: Sequence[Record]) -> list[dict[str, Any]]:
    """Per repeat and checkpoint: epoch, confusion and figures."""
    runs = [row for row in summary["results"] if (row["experiment"], row["side"]) == (experiment, "test")]
    found: dict[int, dict[str, Any]] = {}
    for run in runs:
        name = run["checkpoint"]
        own = keyed(chosen(tested, experiment=experiment, checkpoint=name, kind="repeat", number=run["repeat"]))
        shown = {figure: own.get(place(summary, figure), NONE) for figure in COLUMNS[name]}
        held = {"epoch": run["epoch"], "confusion": run["confusion"], **shown}
        found.setdefault(run["repeat"], {"repeat": _named(summary, run["repeat"])})[name] = held
    return list(found.values())


def _named(summary: dict[str, Any], repeat: int) -> str:
    """The repeat, and the source that it tests where it tests one."""
    sources = summary["test_sources"]
    return f"{repeat}, tests {sources[repeat % len(sources)]}" if sources else str(repeat)


def _whole(
    summary: dict[str, Any], experiment: str, tested: Sequence[Record], spread: Sequence[Record]
) -> dict[str, Any] | None:
    """Mean and SD over repeats, or over rounds of folds; None where there is a single repeat."""
    repeats = [run["repeat"] for run in summary["runs"] if run["experiment"] == experiment]
    if len(repeats) == 1 and not summary["folds"]:
        return None
    kind = "round" if summary["folds"] else "repeat"
    found: dict[str, Any] = {}
    for name, columns in COLUMNS.items():
        known = {"experiment": experiment, "checkpoint": name, "kind": kind}
        means = keyed(chosen(spread, side="test", **known))
        single = keyed(chosen(tested, **known)) if kind == "round" else {}
        found[name] = {figure: _mean(place(summary, figure), means, single) for figure in columns}
    return found


def _mean(key: tuple[str, str], means: dict[tuple[str, str], Record], single: dict[tuple[str, str], Record]) -> Record:
    row = means.get(key)
    if row is None:
        return NONE
    if row["n"] == 1:
        return single.get(key, NONE)
    return {"value": row["mean"], "sd": row["sd"], "n": row["n"], "low": None, "high": None}
