"""The curves of one run, as tables for plots."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve

from xraylab.evaluate import calibration, decision, figures, recalibration
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.runs import Run
from xraylab.evaluate.values import Asked


class Series(NamedTuple):
    """A table, and where it belongs below the evaluation's folder."""

    path: str
    table: pd.DataFrame


def of_run(run: Run, asked: Asked, bins: int) -> Iterator[Series]:
    """ROC and precision-recall curves of each class that has them, calibration and net benefit; best epoch, test."""
    name, test = f"{run.experiment}-{run.repeat}", run.test["best"]
    for label in asked.shown:
        if figures.has_curve(test.actual, label):
            file = f"{name}/{asked.classes[label]}.csv"
            yield Series(f"roc/{file}", figures.roc(test.actual, test.probabilities, label))
            yield Series(f"pr/{file}", precision_recall(test.actual, test.probabilities, label))
    yield Series(f"reliability/{name}.csv", _reliability(test.actual, test.probabilities, asked, bins))
    judged = calibration.stated(test.actual, test.probabilities, asked.positive)
    smooth = recalibration.curve(*judged, test.units.of, asked.confidence)
    yield Series(f"calibration_curve/{name}.csv", smooth)
    if asked.positive is not None:
        yield Series(f"net_benefit/{name}.csv", decision.net_benefit(test, asked.positive, asked.prevalence))
    if run.valid:
        fitted = calibration.temperature(run.valid["best"].actual, run.valid["best"].probabilities)
        scaled = calibration.scaled(test.probabilities, fitted)
        yield Series(f"reliability_scaled/{name}.csv", _reliability(test.actual, scaled, asked, bins))


def precision_recall(actual: Ints, probabilities: Floats, label: int) -> pd.DataFrame:
    """One class against the rest: recall, precision, and the probability from which an image counts as it."""
    precision, recall, threshold = precision_recall_curve(actual == label, probabilities[:, label])
    return pd.DataFrame({"recall": recall, "precision": precision, "threshold": np.append(threshold, np.inf)})


def _reliability(actual: Ints, probabilities: Floats, asked: Asked, bins: int) -> pd.DataFrame:
    """The bins that hold images."""
    table = calibration.reliability(*calibration.stated(actual, probabilities, asked.positive), bins)
    return table[table["n"] > 0]
