"""Thresholds of one class's probability: fixed on the validation images, applied to the test images, never the reverse.

An image counts as the class where its probability is at least the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.intervals import proportion
from xraylab.evaluate.metrics import has_both, proportions
from xraylab.evaluate.samples import MIN_PATIENTS, Bools, Sample, unit_matrices

NOT_AVAILABLE = "not available: there are no validation images of the class and of the rest to fix it on"
NOT_REACHED = "not available: no threshold reaches it on the validation images"
REPORTED = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclass(frozen=True)
class ThresholdCurve:
    """Every threshold that tells validation images apart, falling, with what it does to them."""

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats


Rule = Callable[[ThresholdCurve], float | None]
"""The threshold that it takes; None where there is none."""


@dataclass(frozen=True)
class Rate:
    """A proportion of the test images at a threshold; None where undefined, or without an interval."""

    name: str
    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold does to the test images."""

    tn: int
    fp: int
    fn: int
    tp: int
    rates: list[Rate]


@dataclass(frozen=True)
class OperatingPoint:
    class_: str
    point: str
    threshold: float | None
    valid_sensitivity: float | None
    valid_specificity: float | None
    why: str | None  # why there is no threshold
    test: AtThreshold | None


def threshold_curve(positive: Bools, scores: Floats) -> ThresholdCurve | None:
    """None where all images are of the class, or none is."""
    if not has_both(positive):
        return None
    thresholds = np.unique(scores)[::-1]
    called, called_wrongly = (
        len(kind) - np.searchsorted(np.sort(kind), thresholds, "left") for kind in (scores[positive], scores[~positive])
    )
    return ThresholdCurve(thresholds, called / positive.sum(), 1 - called_wrongly / (~positive).sum())


def youden(curve: ThresholdCurve) -> float:
    """Of the highest sensitivity + specificity, the highest threshold (Youden, Cancer 3 (1950) 32)."""
    return float(curve.thresholds[np.argmax(np.round(curve.sensitivity + curve.specificity, 12))])


def at_sensitivity(curve: ThresholdCurve, least: float) -> float | None:
    """The highest threshold with at least that sensitivity, which has the highest specificity."""
    reached = np.flatnonzero(curve.sensitivity >= least)
    return float(curve.thresholds[reached[0]]) if len(reached) else None


def at_specificity(curve: ThresholdCurve, least: float) -> float | None:
    """The lowest threshold with at least that specificity, which has the highest sensitivity."""
    reached = np.flatnonzero(curve.specificity >= least)
    return float(curve.thresholds[reached[-1]]) if len(reached) else None


def fixed_rules(sensitivities: list[float], specificities: list[float]) -> dict[str, Rule]:
    """The operating points that are fixed for a sensitivity or a specificity, by name."""
    rules: dict[str, Rule] = {}
    for least in sensitivities:
        rules[f"fixed for {100 * least:g} % sensitivity on validation"] = partial(at_sensitivity, least=least)
    for least in specificities:
        rules[f"fixed for {100 * least:g} % specificity on validation"] = partial(at_specificity, least=least)
    return rules


def all_rules(sensitivities: list[float], specificities: list[float]) -> dict[str, Rule]:
    """Every operating point that is fixed on validation images, by name."""
    return {"highest Youden index on validation": youden, **fixed_rules(sensitivities, specificities)}


def operating_points(
    valid: Sample | None, test: Sample, cfg: EvalConfig, rules: dict[str, Rule]
) -> list[OperatingPoint]:
    """Of each class that is reported: the threshold 0.5 and those of `rules`, and what they do."""
    points = []
    for label in cfg.reported:
        curve = None if valid is None else threshold_curve(valid.actual == label, valid.probabilities[:, label])
        thresholds = {"0.5": 0.5} | {name: None if curve is None else rule(curve) for name, rule in rules.items()}
        for name, threshold in thresholds.items():
            on_valid = _on_validation(valid, label, threshold)
            if threshold is None:
                why, on_test = (NOT_AVAILABLE if curve is None else NOT_REACHED), None
            else:
                why, on_test = None, apply_threshold(test, label, threshold, cfg.confidence)
            points.append(OperatingPoint(cfg.classes[label], name, threshold, *on_valid, why, on_test))
    return points


def _on_validation(valid: Sample | None, label: int, threshold: float | None) -> tuple[float | None, float | None]:
    """Sensitivity and specificity on the validation images; None without images of the class, or of the rest."""
    if valid is None or threshold is None:
        return None, None
    positive = valid.actual == label
    correct = (valid.probabilities[:, label] >= threshold) == positive
    sensitivity, specificity = (float(correct[kind].mean()) if kind.any() else None for kind in (positive, ~positive))
    return sensitivity, specificity


def apply_threshold(test: Sample, label: int, threshold: float, confidence: float) -> AtThreshold:
    """Counts and rates of the test images at the threshold, which is taken for granted.

    No interval where the class or the rest, as far as the rate is about it, has fewer than five patients.
    """
    binary = Sample((test.actual == label).astype(np.int64), np.empty((len(test.actual), 0)), test.patients)
    called = (test.probabilities[:, label] >= threshold).astype(np.int64)
    matrices = unit_matrices(binary, called, 2)
    enough_rest, enough = (binary.n_units(kind) >= MIN_PATIENTS for kind in (0, 1))
    enough_for = {"sensitivity": enough, "specificity": enough_rest}
    rates = []
    for name in REPORTED:
        part, whole = (counts[:, 1] for counts in proportions(matrices)[name])
        interval = None
        if enough_for.get(name, enough and enough_rest):
            interval, _ = proportion(binary, (part, whole), confidence)
        value = float(part.sum() / whole.sum()) if whole.sum() else None
        rates.append(Rate(name, value, *(interval or (None, None))))
    tn, fp, fn, tp = matrices.sum(axis=0).ravel().tolist()
    return AtThreshold(tn, fp, fn, tp, rates)
