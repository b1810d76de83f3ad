"""Every figure with its interval, and by which rule the interval was made.

Independent images: Wilson for proportions, DeLong for AUROC, the bootstrap for the rest. Patients with several images:
the bootstrap that draws patients, for everything. A mean over sources: the bootstrap within each source.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from xraylab.evaluate import bootstrap, delong, intervals, rates
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import (
    MACRO,
    OVERALL,
    Asked,
    Key,
    averaged,
    confusion,
    of_matrices,
    of_scores,
    prepared,
    values,
)

Row = dict[str, Any]  # of, figure, value, low, high, by, n
Interval = tuple[float, float] | None
Found = dict[Key, tuple[Interval, str]]


def estimates(sample: Sample, asked: Asked) -> list[Row]:
    """One row per figure. `n`: how many images it speaks of (of an AUROC, the rarer of class and rest).

    `value` is None where a figure is not defined, `low` and `high` where it has no interval.
    """
    found = {
        key: (intervals.percentile(drawn, asked.confidence), _drawn(sample)) for key, drawn in draws(sample, asked)
    }
    if not sample.units.repeat and not sample.parts:
        found |= _wilson(sample, asked) | _delong(sample, asked)
    numbers = _numbers(sample, asked)
    return [_row(key, value, *found[key], numbers[key]) for key, value in values(sample, asked).items()]


def plain(sample: Sample, asked: Asked) -> list[Row]:
    """The same rows without intervals."""
    numbers = _numbers(sample, asked)
    return [_row(key, value, None, "", numbers[key]) for key, value in values(sample, asked).items()]


def draws(sample: Sample, asked: Asked) -> list[tuple[Key, Floats]]:
    """Every figure in every draw: (draws,) each; of several sources, each is drawn from by itself."""
    if sample.parts:
        each = [dict(draws(part, replace(asked, seed=asked.seed + at))) for at, part in enumerate(sample.parts)]
        return list(averaged(each).items())
    classes, units, ready = len(asked.classes), sample.units, prepared(sample, asked)
    matrices = bootstrap.matrices(sample.actual, sample.predicted, classes, units, asked.draws, asked.seed)
    chunks = [
        of_scores(ready, weights.take(units.of, axis=1), asked)
        for weights in bootstrap.weights(units, asked.draws, asked.seed)
    ]
    scored = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
    return list((of_matrices(matrices, asked) | scored).items())


def _drawn(sample: Sample) -> str:
    within = " within each source" if sample.parts else ""
    return ("bootstrap of patients" if sample.units.repeat else "bootstrap of images") + within


def _wilson(sample: Sample, asked: Asked) -> Found:
    parts = _parts(sample, asked)
    return {key: (intervals.wilson(part, whole, asked.confidence), "Wilson") for key, (part, whole) in parts.items()}


def _parts(sample: Sample, asked: Asked) -> dict[Key, tuple[float, float]]:
    """The figures that are a count out of a count, as these two."""
    matrix = confusion(sample, asked)
    parts = rates.proportions(matrix)
    if asked.normal is not None:
        parts["called_normal"] = rates.called_normal(matrix, asked.normal)
    found = {(OVERALL, "accuracy"): (float(np.trace(matrix)), float(matrix.sum()))}
    for label in asked.shown:
        for name, (part, whole) in parts.items():
            found[asked.classes[label], name] = float(part[label]), float(whole[label])
    return found


def _delong(sample: Sample, asked: Asked) -> Found:
    """Of each class that some images are of and some are not, and of their mean where that is all of them."""
    found: Found = {}
    every = [auroc_shares(sample, label) for label in asked.shown]
    for label, own in zip(asked.shown, every, strict=True):
        if own is not None:
            kinds = (sample.actual == label).astype(int)
            found[asked.classes[label], "auroc"] = _interval(own, kinds, _rarer(sample, label), asked)
    if asked.positive is None and (mean := mean_shares(every)) is not None:
        rarer = min(_rarer(sample, label) for label in asked.shown)
        found[MACRO, "auroc"] = _interval(mean, sample.actual, rarer, asked)
    return found


def auroc_shares(sample: Sample, label: int) -> Floats | None:
    """DeLong's shares of the class's AUROC (n,); None where it has none."""
    positive = sample.actual == label
    return delong.shares(positive, sample.probabilities[:, label]) if 0 < positive.sum() < len(positive) else None


def mean_shares(every: list[Floats | None]) -> Floats | None:
    known = [shares for shares in every if shares is not None]
    return np.mean(known, axis=0) if len(known) == len(every) else None


def _interval(shares: Floats, kinds: Ints, rarer: int, asked: Asked) -> tuple[Interval, str]:
    # the shares of positives, like those of negatives, sum to the AUROC, so all of them to twice it
    auroc, variance = float(shares.sum() / 2), delong.variance(shares, kinds)
    if not variance > 0 and (exact := delong.exact_interval(auroc, rarer, asked.confidence)):
        return exact, "Clopper-Pearson of pairs"
    return delong.interval(auroc, variance, asked.confidence), "DeLong"


def _rarer(sample: Sample, label: int) -> int:
    """How many images the rarer of class and rest has."""
    own = int((sample.actual == label).sum())
    return min(own, len(sample.actual) - own)


def _numbers(sample: Sample, asked: Asked) -> dict[Key, int]:
    """How many images each figure speaks of."""
    parts, images = _parts(sample, asked), np.bincount(sample.actual, minlength=len(asked.classes))
    rarer = {asked.classes[label]: int(min(images[label], len(sample.actual) - images[label])) for label in asked.shown}
    found: dict[Key, int] = {}
    for of, name in values(sample, asked):
        of_all = len(sample.actual) if of == OVERALL else int(images.min())
        found[of, name] = int(parts[of, name][1]) if (of, name) in parts else rarer.get(of, of_all)
    return found


def _row(key: Key, value: float, interval: Interval, by: str, n: int) -> Row:
    known = None if np.isnan(value) else value
    low, high = interval if interval is not None and known is not None else (None, None)
    return {
        "of": key[0],
        "figure": key[1],
        "value": known,
        "low": low,
        "high": high,
        "by": by if low is not None else None,
        "n": n,
    }
