"""The tables of a whole study: what `evaluate` writes beside its summary."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xraylab.evaluate import calibration, goals, learning, operating, rates, subgroups
from xraylab.evaluate.estimates import Row, estimates, plain
from xraylab.evaluate.operating import Curve
from xraylab.evaluate.runs import Run, by_experiment, mean, pooled
from xraylab.evaluate.values import MACRO, OVERALL, Asked, confusion

REPEAT, ROUND, MEAN = "repeat", "round", "mean"
CHECKPOINTS = ("best", "last")
GROUPED = (
    "experiment", "chosen_on", "grouping", "group", "images", "patients", "suppressed",
    "of", "figure", "value", "low", "high", "by", "n", "why",
    "reference", "difference", "difference_ci_low", "difference_ci_high",
)  # fmt: skip


def figures(runs: Sequence[Run], asked: Asked, folds: int | None) -> list[Row]:
    """Every figure of every repeat, checkpoint and side, with intervals on the test side.

    `kind` is repeat, round (the folds of one round pooled) or mean (the mean probability over repeats), `number` the
    repeat or round.
    """
    found: list[Row] = []
    for own in by_experiment(runs).values():
        for checkpoint in CHECKPOINTS:
            found += _repeats(own, checkpoint, asked)
            found += _together(own, checkpoint, asked, folds, found)
    return found


def _repeats(runs: list[Run], checkpoint: str, asked: Asked) -> list[Row]:
    found: list[Row] = []
    for run in runs:
        known = _known(run, checkpoint) | {"kind": REPEAT, "number": run.repeat}
        if run.valid:
            found += [known | {"side": "valid"} | row for row in plain(run.valid[checkpoint], asked)]
        found += [known | {"side": "test"} | row for row in _tested(run, checkpoint, asked)]
    return found


def _tested(run: Run, checkpoint: str, asked: Asked) -> list[Row]:
    rows = estimates(run.test[checkpoint], asked)
    accuracy = next(row for row in rows if (row["of"], row["figure"]) == (OVERALL, "accuracy"))
    return [*rows, learning.gap(run.history, run.epochs[checkpoint], accuracy)]


def _together(runs: list[Run], checkpoint: str, asked: Asked, folds: int | None, so_far: list[Row]) -> list[Row]:
    known = _known(runs[0], checkpoint) | {"side": "test"}
    rounds = pooled(runs, folds, checkpoint) if folds else {}
    found = [
        known | {"kind": ROUND, "number": number} | row
        for number, sample in rounds.items()
        for row in estimates(sample, asked)
    ]
    of_mean = known | {"kind": MEAN, "number": None}
    if len(runs) > 1:
        return found + [of_mean | row for row in estimates(mean(runs, checkpoint)[1], asked)]
    same = [row for row in so_far if all(row[key] == value for key, value in known.items())]
    return found + [row | of_mean for row in same if row["figure"] != learning.GAP]


def _known(run: Run, checkpoint: str) -> dict[str, Any]:
    return {"experiment": run.experiment, "checkpoint": checkpoint, "chosen_on": run.chosen_on(checkpoint)}


def spread(rows: list[Row]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of every figure over repeats, and over rounds where folds are pooled."""
    table = pd.DataFrame([row for row in rows if row["kind"] != MEAN])
    keys = ["experiment", "checkpoint", "side", "chosen_on", "kind", "of", "figure"]
    grouped = table.assign(value=table["value"].astype(float)).groupby(keys, sort=False)["value"]
    return grouped.agg(["mean", "std", "count"]).reset_index().rename(columns={"std": "sd", "count": "n"})


def operating_points(
    runs: Sequence[Run], asked: Asked, wanted: dict[str, Callable[[Curve], float | None]]
) -> pd.DataFrame:
    """Each run's thresholds, fixed on its own validation images, and its test figures there; best epochs."""
    return pd.DataFrame(
        [
            {"experiment": run.experiment, "repeat": run.repeat, "chosen_on": run.select_on} | row
            for run in runs
            for row in operating.rows(run.valid.get("best"), run.test["best"], asked, wanted)
        ]
    )


def calibrations(runs: Sequence[Run], asked: Asked, bins: int) -> list[dict[str, Any]]:
    """Each run's temperature, and its calibration before and after; best epochs."""
    return [
        {"experiment": run.experiment, "repeat": run.repeat, "chosen_on": run.select_on}
        | calibration.report(run.valid.get("best"), run.test["best"], asked, bins)
        for run in runs
    ]


def by_subgroup(
    runs: Sequence[Run], index: pd.DataFrame, asked: Asked, bounds: list[int], smallest: int
) -> pd.DataFrame:
    """Every experiment's figures by sex, age band, view and source, of the mean probability over repeats."""
    found = []
    for experiment, own in by_experiment(runs).items():
        ids, sample = mean(own, "best")
        images = index.set_index("id").loc[ids.tolist()]
        known = {"experiment": experiment, "chosen_on": own[0].select_on}
        found += [known | row for row in subgroups.rows(sample, images, asked, bounds, smallest)]
    return pd.DataFrame(found, columns=list(GROUPED))


def learnt(runs: Sequence[Run]) -> list[Row]:
    """How many epochs each run took to its highest accuracy: a count, which is its own interval."""
    found = []
    for run in runs:
        epochs = learning.epochs_to_highest(run.history, run.select_on)
        known = {"experiment": run.experiment, "repeat": run.repeat, "chosen_on": run.select_on}
        found.append(known | {"figure": learning.HIGHEST, "value": epochs, "low": epochs, "high": epochs})
    return found


def goal_rows(
    rows: list[Row], counts: list[Row], asked: Asked, at_least: dict[str, float], at_most: dict[str, float]
) -> list[dict[str, Any]]:
    """The goals judged on the best epoch of every repeat, or of every round where folds are pooled."""
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    chosen = [row for row in rows if (row["checkpoint"], row["side"]) == ("best", "test")]
    kind = ROUND if any(row["kind"] == ROUND for row in chosen) else REPEAT
    overall = {row["figure"] for row in chosen if row["of"] == OVERALL}
    judged = [
        row | {"repeat": row["number"]}
        for row in chosen
        if row["kind"] == (REPEAT if row["figure"] == learning.GAP else kind)
        and row["of"] == (OVERALL if row["figure"] in overall else whose)
    ]
    return goals.rows([*judged, *counts], at_least, at_most)


def matrices(runs: Sequence[Run], asked: Asked) -> list[dict[str, Any]]:
    """Each best epoch's confusion on the test side: counts, and each row as shares of its class."""
    found = []
    for run in runs:
        counted = confusion(run.test["best"], asked)
        shares = [[None if np.isnan(cell) else cell for cell in row] for row in rates.row_shares(counted).tolist()]
        known = {"experiment": run.experiment, "repeat": run.repeat, "chosen_on": run.select_on}
        found.append(known | {"classes": list(asked.classes), "counts": counted.tolist(), "row_shares": shares})
    return found


def rests_on(runs: Sequence[Run], asked: Asked) -> dict[str, Any]:
    """What the intervals take for independent."""
    units = runs[0].test["best"].units
    return {
        "units": len(units.strata),
        "confidence": asked.confidence,
        "n_permutations": asked.n_permutations,
        "patients": units.patients,
        "rests_on": units.why,
    }
