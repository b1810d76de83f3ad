"""Thresholds of one class's probability: fixed on the validation images, applied to the test images, never the reverse.

An image counts as the class where its probability is at least the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from xraylab.evaluate import intervals, rates
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.jackknife import cells_by_unit
from xraylab.evaluate.units import LEAST, Sample
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
    return {"highest Youden index on validation": youden, **fixed(sensitivities, specificities)}


def fixed(sensitivities: list[float], specificities: list[float]) -> dict[str, Callable[[Curve], float | None]]:
    """Those of them that are fixed for a sensitivity or a specificity."""
    found: dict[str, Callable[[Curve], float | None]] = {}
    for least in sensitivities:
        found[f"fixed for {100 * least:g} % sensitivity on validation"] = partial(at_sensitivity, least=least)
    for least in specificities:
        found[f"fixed for {100 * least:g} % specificity on validation"] = partial(at_specificity, least=least)
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
            known |= _on_validation(valid, label, threshold)
            if threshold is None:
                found.append(known | {"why": NOT_AVAILABLE if fixed is None else NOT_REACHED})
            else:
                found.append(known | {"why": None} | applied(test, label, threshold, asked))
    return found


def _on_validation(valid: Sample | None, label: int, threshold: float | None) -> dict[str, float | None]:
    """What the threshold does to the validation images; None where there are none of the class, or of the rest."""
    shares: dict[str, float | None] = {"valid_sensitivity": None, "valid_specificity": None}
    if valid is not None and threshold is not None:
        right = (valid.probabilities[:, label] >= threshold) == (valid.actual == label)
        for name, side in (("valid_sensitivity", valid.actual == label), ("valid_specificity", valid.actual != label)):
            shares[name] = float(right[side].mean()) if side.any() else None
    return shares


def applied(test: Sample, label: int, threshold: float, asked: Asked) -> dict[str, Any]:
    """tn, fp, fn, tp of the test images at the threshold; figures with `_low` and `_high`, None where undefined.

    No interval where the class or the rest, as far as the figure is about it, has fewer than five patients. It takes
    the threshold for granted.
    """
    actual = (test.actual == label).astype(np.int64)
    two = Sample(actual, np.empty((len(actual), 0)), test.patients)
    called = (test.probabilities[:, label] >= threshold).astype(np.int64)
    matrices = cells_by_unit(two, called, 2)
    parts = rates.proportions(matrices)
    found: dict[str, Any] = dict(zip(("tn", "fp", "fn", "tp"), matrices.sum(axis=0).ravel().tolist(), strict=True))
    rest, own = (two.patients_of(each) >= LEAST for each in (0, 1))
    for name in SHOWN:
        enough = own if name == "sensitivity" else rest if name == "specificity" else own and rest
        part, whole = (each[:, 1] for each in parts[name])
        interval = _interval(part, whole, test, asked) if enough else None
        low, high = interval or (None, None)
        value = float(part.sum() / whole.sum()) if whole.sum() else None
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


def _interval(part: Floats, whole: Floats, test: Sample, asked: Asked) -> intervals.Interval | None:
    if test.units.repeat:
        return intervals.clustered(part, whole, asked.confidence)[0]
    return intervals.wilson(part.sum(), whole.sum(), asked.confidence)
