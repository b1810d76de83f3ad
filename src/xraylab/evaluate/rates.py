"""The figures of a confusion matrix, or of thousands of them at once: every function works on (..., C, C).

Row i, column j counts the images of class i that were predicted as class j. A figure whose denominator is 0 is NaN,
but for F1 and MCC, which are then 0 as in scikit-learn. Definitions: docs/evaluation.md.
"""

import numpy as np

from xraylab.evaluate.counts import Floats, Ints

Matrices = Ints | Floats
Parts = dict[str, tuple[Floats, Floats]]  # figure -> what is counted, and of how many; each (..., C)
Named = dict[str, Floats]


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole != 0, np.true_divide(part, whole), np.nan)


def proportions(matrix: Matrices) -> Parts:
    """Per class against the rest: the figures that are a count out of a count, both (..., C)."""
    tp, fp, fn, tn = cells(matrix)
    return {
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "fpr": (fp, tn + fp),
        "fnr": (fn, tp + fn),
    }


def called_normal(matrix: Matrices, normal: int) -> tuple[Floats, Floats]:
    """Of the images of each class, how many were called the class `normal`, and of how many; both (..., C)."""
    counts = np.asarray(matrix, float)
    return counts[..., :, normal], counts.sum(axis=-1)


def per_class(matrix: Matrices, normal: int | None = None, prevalence: Floats | None = None) -> Named:
    """Figure -> (..., C), of each class against the rest.

    `prevalence` (C,), summing to 1, adds PPV and NPV as they would be where classes are that frequent. `normal` adds
    the rate at which each other class is called normal.
    """
    found = {name: ratio(*parts) for name, parts in proportions(matrix).items()}
    found |= _harmonic(matrix)
    if normal is not None:
        found["called_normal"] = ratio(*called_normal(matrix, normal))
        found["called_normal"][..., normal] = np.nan
    if prevalence is not None:
        there = proportions(at_prevalence(matrix, prevalence))
        found |= {f"{name}_at_prevalence": ratio(*there[name]) for name in ("ppv", "npv")}
    return found


def overall(matrix: Matrices) -> Named:
    """Figure -> (...): accuracy, balanced accuracy (mean sensitivity), MCC of C classes, Cohen's kappa.

    MCC: Gorodkin, Comput Biol Chem 28 (2004) 367. Kappa: Cohen, Educ Psychol Meas 20 (1960) 37.
    """
    counts = np.asarray(matrix, float)
    n, right = counts.sum(axis=(-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    actual, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    chance = (actual * predicted).sum(axis=-1)
    spread = np.sqrt((n**2 - (actual**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1)))
    return {
        "accuracy": ratio(right, n),
        "balanced_accuracy": ratio(np.diagonal(counts, axis1=-2, axis2=-1), actual).mean(axis=-1),
        "mcc": np.nan_to_num(ratio(right * n - chance, spread)),
        "kappa": ratio(right * n - chance, n**2 - chance),
    }


def at_prevalence(matrix: Matrices, prevalence: Floats) -> Floats:
    """The matrix of shares, had the classes been as frequent as `prevalence` says: each row scaled to it."""
    counts = np.asarray(matrix, float)
    return ratio(counts, counts.sum(axis=-1, keepdims=True)) * prevalence[:, None]


def row_shares(matrix: Ints) -> Floats:
    """Each row as shares of the images of its class; NaN where there is none."""
    return ratio(np.asarray(matrix, float), matrix.sum(axis=-1, keepdims=True))


def cells(matrix: Matrices) -> tuple[Floats, Floats, Floats, Floats]:
    """True positives, false positives, false negatives and true negatives of each class against the rest, (..., C)."""
    counts = np.asarray(matrix, float)
    tp = np.diagonal(counts, axis1=-2, axis2=-1)
    fp, fn = counts.sum(axis=-2) - tp, counts.sum(axis=-1) - tp
    return tp, fp, fn, counts.sum(axis=(-2, -1))[..., None] - tp - fp - fn


def _harmonic(matrix: Matrices) -> Named:
    """F1 and MCC of each class against the rest."""
    tp, fp, fn, tn = cells(matrix)
    spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "f1": np.nan_to_num(ratio(2 * tp, 2 * tp + fp + fn)),
        "mcc": np.nan_to_num(ratio(tp * tn - fp * fn, spread)),
    }
