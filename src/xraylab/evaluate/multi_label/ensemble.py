"""The mean probabilities of several runs of a multi-label study."""

from typing import Any

import numpy as np
import pandas as pd

from xraylab import tables, targets
from xraylab.errors import DataError
from xraylab.evaluate import macro
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.multi_label.samples import fit_thresholds
from xraylab.evaluate.predictions import probability_columns
from xraylab.evaluate.scores import read_ensemble
from xraylab.paths import Paths


def score_ensemble(paths: Paths, runs: list[str], findings: list[str], checkpoint: str, split: str) -> dict[str, Any]:
    """The number of `runs`, each an experiment or experiment/repeat, and the scores of their mean probability.

    The scores are those of `evaluate-checkpoint`, means over findings and of each; sensitivity and specificity of each
    are at its threshold, the highest Youden index of the mean probabilities on validation images, or 0.5 without any.
    Errors: MissingError for a run without predictions, DataError where two do not predict the same images.
    """
    n, labels, p = _mean(paths, runs, findings, checkpoint, split)
    thresholds = _thresholds(paths, runs, findings, checkpoint)
    each = {
        name: {
            **macro.scores(labels[:, [number]], p[:, [number]]),
            **_rates(labels[:, number], p[:, number], thresholds[number]),
        }
        for number, name in enumerate(findings)
    }
    return {"runs": n, "n": len(p), **macro.scores(labels, p), "findings": each}


def _mean(
    paths: Paths, runs: list[str], findings: list[str], checkpoint: str, split: str
) -> tuple[int, Floats, Floats]:
    """How many runs there are; labels, NaN where they do not count, and mean probabilities (images, findings)."""
    every: list[pd.DataFrame] = read_ensemble(paths, runs, checkpoint, split)
    columns = probability_columns(findings)
    mean: Floats = np.mean([rows[columns].to_numpy(float) for rows in every], axis=0)
    values = targets.values(tables.read(paths.index).set_index("id").loc[every[0]["id"]], findings)
    return len(every), np.where(targets.known(values), values, np.nan), mean


def _thresholds(paths: Paths, runs: list[str], findings: list[str], checkpoint: str) -> Floats:
    try:
        _, labels, p = _mean(paths, runs, findings, checkpoint, "valid")
    except DataError:  # no validation images, or others in each run
        labels = p = np.empty((0, len(findings)))
    return fit_thresholds(labels, p)


def _rates(label: Floats, p: Floats, threshold: float) -> dict[str, float]:
    called = p >= threshold
    return {
        "threshold": float(threshold),
        "sensitivity": _share(called[label == 1]),
        "specificity": _share(~called[label == 0]),
    }


def _share(right: Floats) -> float:
    return float(right.mean()) if right.size else float("nan")
