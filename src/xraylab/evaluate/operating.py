"""Thresholds of one class's probability: fixed on the validation images, applied to the test images, never the reverse.

An image counts as the class where its probability is at least the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from xraylab.evaluate import bootstrap, intervals, rates
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import Asked

Bools = npt.NDArray[np.bool_]
NOT_AVAILABLE = "not available: there are no validation images of the class and of the rest to fix it on"
NOT_REACHED = "not available: no threshold reaches it on the validation images"
SHOWN = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclass(frozen=True)
class Curve:
    """Every threshold that tells validation images apart, falling, with what it does to them."""

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats


def curve(positive: Bools, scores: Floats) -> Curve | None:
    """None where all images are of the class, or none is."""
    if not 0 < positive.sum() < len(positive):
        return None
    thresholds = np.unique(scores)[::-1]
    called = [
        len(own) - np.searchsorted(np.sort(own), thresholds, "left") for own in (scores[positive], scores[~positive])
    ]
    return Curve(thresholds, called[0] / positive.sum(), 1 - called[1] / (~positive).sum())


def youden(curve: Curve) -> float:
    """Of the highest sensitivity + specificity, the highest threshold (Youden, Cancer 3 (1950) 32)."""
    return float(curve.thresholds[np.argmax(np.round(curve.sensitivity + curve.specificity, 12))])


def at_sensitivity(curve: Curve, least: float) -> float | None:
    """The highest threshold with at least that sensitivity, which has the highest specificity."""
    reached = np.flatnonzero(curve.sensitivity >= least)
    return float(curve.thresholds[reached[0]]) if len(reached) else None


def at_specificity(curve: Curve, least: float) -> float | None:
    """The lowest threshold with at least that specificity, which has the highest sensitivity."""
    reached = np.flatnonzero(curve.specificity >= least)
    return float(curve.thresholds[reached[-1]]) if len(reached) else None


def points(sensitivities: list[float], specificities: list[float]) -> dict[str, Callable[[Curve], float | None]]:
    """Every operating point that is fixed on validation images, under its name."""
    found: dict[str, Callable[[Curve], float | None]] = {"Youden": youden}
    for least in sensitivities:
        found[f"sensitivity at least {100 * least:g} %"] = partial(at_sensitivity, least=least)
    for least in specificities:
        found[f"specificity at least {100 * least:g} %"] = partial(at_specificity, least=least)
    return found


def rows(
    valid: Sample | None, test: Sample, asked: Asked, wanted: dict[str, Callable[[Curve], float | None]]
) -> list[dict[str, Any]]:
    """Per class that is shown and operating point: the threshold, and the test figures there with their intervals."""
    found = []
    for label in asked.shown:
        fixed = None if valid is None else curve(valid.actual == label, valid.probabilities[:, label])
        thresholds = {"0.5": 0.5} | {name: None if fixed is None else fix(fixed) for name, fix in wanted.items()}
        for name, threshold in thresholds.items():
            known = {"of": asked.classes[label], "point": name, "threshold": threshold}
            if threshold is None:
                found.append(known | {"why": NOT_AVAILABLE if fixed is None else NOT_REACHED})
            else:
                found.append(known | {"why": None} | applied(test, label, threshold, asked))
    return found


def applied(test: Sample, label: int, threshold: float, asked: Asked) -> dict[str, Any]:
    """tn, fp, fn, tp of the test images at the threshold; figures with `_low` and `_high`, None where undefined."""
    actual = (test.actual == label).astype(int)
    called = (test.probabilities[:, label] >= threshold).astype(int)
    matrix = np.bincount(2 * actual + called, minlength=4).reshape(2, 2)
    parts = rates.proportions(matrix)
    found: dict[str, Any] = dict(zip(("tn", "fp", "fn", "tp"), matrix.ravel().tolist(), strict=True))
    drawn = _drawn(test, actual, called, asked) if test.units.repeat else None
    for name in SHOWN:
        part, whole = (float(each[1]) for each in parts[name])
        interval = intervals.wilson(part, whole, asked.confidence)
        if drawn is not None:
            interval = intervals.percentile(drawn[name][:, 1], asked.confidence)
        low, high = interval or (None, None)
        found |= {name: part / whole if whole else None, f"{name}_low": low, f"{name}_high": high}
    return found


def _drawn(
    test: Sample, actual: npt.NDArray[np.int64], called: npt.NDArray[np.int64], asked: Asked
) -> dict[str, Floats]:
    matrices = bootstrap.matrices(actual, called, 2, test.units, asked.draws, asked.seed)
    return rates.per_class(matrices)
