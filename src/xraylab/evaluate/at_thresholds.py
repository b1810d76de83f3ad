"""Experiments against the baseline at thresholds that each run fixed on its own validation images."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from xraylab.evaluate import comparisons, operating
from xraylab.evaluate.operating import Curve
from xraylab.evaluate.paired import Row
from xraylab.evaluate.runs import Run, by_experiment
from xraylab.evaluate.values import Asked

FIGURES = ("sensitivity", "specificity")
COLUMNS = ("point", *comparisons.COLUMNS)


def rows(
    runs: Sequence[Run],
    baseline: str,
    asked: Asked,
    points: dict[str, Callable[[Curve], float | None]],
    folds: int | None,
) -> list[Row]:
    """One row per experiment, point and figure: the difference in sensitivity or specificity, all exploratory.

    Every image is called by its own run's threshold, so the test is that of predictions: whole patients are swapped, or
    with several repeats seeds count as readers. Thresholds are taken as they are. Corrected over all rows together. No
    rows with more than two classes, and none for a point that some run has no threshold for.
    """
    if asked.positive is None:
        return []
    every, found = by_experiment(runs), []
    for point, fix in points.items():
        by = by_experiment([called for run in runs if (called := _at_threshold(run, fix, asked)) is not None])
        complete = {name: own for name, own in by.items() if len(own) == len(every[name])}
        for name, own in complete.items():
            if name != baseline and baseline in complete:
                chosen = "test" in {run.select_on for run in (*own, *complete[baseline])}
                compared = comparisons.of_pair(own, complete[baseline], "baseline", chosen, asked, folds)
                found += [{"point": point} | row for row in compared if row["figure"] in FIGURES]
    return [
        {"point": row["point"]} | comparisons.describe(row, asked)
        for row in comparisons.correct(found, comparisons.EXPLORATORY)
    ]


def _at_threshold(run: Run, fix: Callable[[Curve], float | None], asked: Asked) -> Run | None:
    """The run with a probability of 0 or 1 for each test image: whether its threshold calls it positive."""
    label, valid = asked.positive or 0, run.valid.get("best")
    curve = None if valid is None else operating.curve(valid.actual == label, valid.probabilities[:, label])
    threshold = None if curve is None else fix(curve)
    if threshold is None:
        return None
    test = run.test["best"]
    positive = (test.probabilities[:, label] >= threshold).astype(float)
    columns = [positive if number == label else 1 - positive for number in range(2)]
    return replace(run, test={"best": replace(test, probabilities=np.column_stack(columns))})
