"""The confusion matrix and its simplest metrics.

Training imports this module and nothing else of evaluation, so that a change to any other metric trains nothing anew.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion_matrix(actual: Ints, predicted: Ints, n_classes: int) -> Ints:
    """Images of class i that were predicted as class j, at [i, j].

    `actual` and `predicted` are class numbers from 0 to `n_classes` - 1, both (n,).
    """
    cells = np.asarray(actual, np.int64) * n_classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(matrix: Ints) -> float:
    """The share of images predicted as what they are; 0 where there is no image."""
    return float(_ratio(np.trace(matrix), matrix.sum()))


def precision(matrix: Ints, positive: int | None) -> float:
    """Of the images predicted as `positive`, the share that is; None: the mean over classes. 0 where there is none."""
    return _select(_ratio(np.diag(matrix), matrix.sum(axis=0)), positive)


def recall(matrix: Ints, positive: int | None) -> float:
    """Of the images that are `positive`, the share predicted so; None: the mean over classes. 0 where there is none."""
    return _select(_ratio(np.diag(matrix), matrix.sum(axis=1)), positive)


def f1(matrix: Ints, positive: int | None) -> float:
    """The harmonic mean of precision and recall of `positive`; None: its mean over classes.

    It is 0 for a class that no image is of and none is predicted as (scikit-learn's zero_division=0).
    """
    return _select(_ratio(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)), positive)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """`part` / `whole`, 0 where `whole` is 0."""
    return np.true_divide(part, np.maximum(whole, 1))


def _select(rates: Floats, positive: int | None) -> float:
    return float(rates.mean() if positive is None else rates[positive])
