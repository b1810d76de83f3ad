"""Every figure with its interval, by which rule the interval was made, and why there is none.

Independent images: Wilson for proportions. Patients with several images: the logit t interval of a ratio. AUROC:
Newcombe's, with DeLong's or Obuchowski's variance. Everything else, and means over sources: the jackknife, on the
figure's own scale.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from xraylab.evaluate import intervals, rates
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.influence import degrees, variance
from xraylab.evaluate.intervals import Interval
from xraylab.evaluate.jackknife import Influences, cells_by_unit, weights
from xraylab.evaluate.units import LEAST, Sample
from xraylab.evaluate.values import MACRO, OVERALL, WEIGHTED, Asked, Key, confusion, values

Row = dict[str, Any]  # of, figure, value, low, high, by, n, why
Found = tuple[Interval | None, str]
OF_CLASS, OF_REST = ("sensitivity", "fnr", "called_normal"), ("specificity", "fpr")
SCALES = {"mcc": "atanh", "kappa": "atanh", "brier": "log", "log_loss": "log"}  # of the others it is the logit
NOTHING_VARIES = "every patient has the same of it, so nothing tells how it varies"


def estimates(sample: Sample, asked: Asked) -> list[Row]:
    """One row per figure. `n`: how many images it speaks of (of an AUROC, the rarer of class and rest).

    `value` is None where a figure is not defined, `low` and `high` where it has no interval, with `why`.
    """
    parts, influences, measured = _parts(sample, asked), Influences(sample, asked), values(sample, asked)
    numbers, found = _numbers(sample, asked, measured), []
    for key, value in measured.items():
        why = too_few(sample, key, asked)
        if np.isnan(value) or why:
            found.append(_row(key, value, None, "", numbers[key], why))
        else:
            ends, by = _interval(key, value, sample, parts, influences, asked)
            found.append(_row(key, value, ends, by, numbers[key], NOTHING_VARIES))
    return found


def plain(sample: Sample, asked: Asked) -> list[Row]:
    """The same rows without intervals."""
    measured = values(sample, asked)
    numbers = _numbers(sample, asked, measured)
    return [_row(key, value, None, "", numbers[key], "") for key, value in measured.items()]


def too_few(sample: Sample, key: Key, asked: Asked) -> str:
    """Which class that the figure is about has too few patients for an interval or a test; empty where none has.

    Of a class, a rate of its own images needs these, one of the others needs those, and every other figure both.
    """
    if sample.parts:
        return next(filter(None, (too_few(part, key, asked) for part in sample.parts)), "")
    unit = "image" if sample.units.patients is None else "patient"
    for name, patients in _about(sample, key, asked).items():
        if patients < LEAST:
            return f"{patients} {unit}{'' if patients == 1 else 's'} of {name}: an interval takes {LEAST} or more"
    return ""


def _about(sample: Sample, key: Key, asked: Asked) -> dict[str, int]:
    """How many patients each class has that the figure is about."""
    if key[0] in (OVERALL, MACRO, WEIGHTED):
        return {name: sample.patients_of(label) for label, name in enumerate(asked.classes)}
    label = list(asked.classes).index(key[0])
    other = asked.classes[1 - label] if len(asked.classes) == 2 else "the other classes"
    own, rest = {key[0]: sample.patients_of(label)}, {other: sample.patients_of(label, but=True)}
    return own if key[1] in OF_CLASS else rest if key[1] in OF_REST else own | rest


def _interval(
    key: Key, value: float, sample: Sample, parts: dict[Key, tuple[Floats, Floats]], influences: Influences,
    asked: Asked,
) -> Found:  # fmt: skip
    if key in parts and not sample.parts:
        if sample.units.repeat:
            return intervals.clustered(*parts[key], asked.confidence)
        return intervals.wilson(parts[key][0].sum(), parts[key][1].sum(), asked.confidence), "Wilson"
    moved, within = influences.of(key), " within each source" if sample.parts else ""
    if moved is None:
        return None, ""
    if key[1] == "auroc":
        each = [_pairs(part, key, asked) for part in sample.parts or [sample]]
        images, patients, counted = (np.concatenate([part[at] for part in each]) for at in range(3))
        by = f"Newcombe, variance of {'Obuchowski' if sample.units.repeat else 'DeLong'}{within}"
        spread = variance(moved), degrees(moved)
        return intervals.area(value, *spread, images, patients, counted / len(each), asked.confidence), by
    scale = SCALES.get(key[1], "logit")
    by = f"jackknife of {'patients' if sample.units.repeat else 'images'}{within}, {scale} t"
    return intervals.transformed(value, variance(moved), degrees(moved), asked.confidence, scale), by


def _pairs(sample: Sample, key: Key, asked: Asked) -> tuple[Floats, Floats, Floats]:
    """Of each class that an AUROC is of, and its rest: how many images, how many patients, and what it counts for."""
    labels, counted = weights(sample, key, asked)
    images = [[(sample.actual == label).sum(), (sample.actual != label).sum()] for label in labels]
    patients = [[sample.patients_of(label), sample.patients_of(label, but=True)] for label in labels]
    return np.array(images, float), np.array(patients, float), counted


def _parts(sample: Sample, asked: Asked) -> dict[Key, tuple[Floats, Floats]]:
    """The figures that are a count out of a count, as these two, by unit (units,)."""
    matrices = cells_by_unit(sample, sample.predicted, len(asked.classes))
    parts = rates.proportions(matrices)
    if asked.normal is not None:
        parts["called_normal"] = rates.called_normal(matrices, asked.normal)
    whole = matrices.sum(axis=(1, 2)).astype(float)
    found = {(OVERALL, "accuracy"): (np.trace(matrices, axis1=1, axis2=2).astype(float), whole)}
    for label in asked.shown:
        for name, (part, of) in parts.items():
            found[asked.classes[label], name] = part[:, label], of[:, label]
    return found


def _numbers(sample: Sample, asked: Asked, keys: Iterable[Key]) -> dict[Key, int]:
    """How many images each figure speaks of."""
    matrix, images = confusion(sample, asked), np.bincount(sample.actual, minlength=len(asked.classes))
    wholes = {name: whole for name, (_, whole) in rates.proportions(matrix).items()}
    if asked.normal is not None:
        wholes["called_normal"] = matrix.sum(axis=1).astype(float)
    found: dict[Key, int] = {}
    for of, name in keys:
        if of in asked.classes:
            label = list(asked.classes).index(of)
            rarer = min(images[label], len(sample.actual) - images[label])
            found[of, name] = int(wholes[name][label] if name in wholes else rarer)
        else:
            found[of, name] = len(sample.actual) if of == OVERALL else int(images.min())
    return found


def _row(key: Key, value: float, interval: Interval | None, by: str, n: int, why: str) -> Row:
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
        "why": None if low is not None or known is None else why or None,
    }
