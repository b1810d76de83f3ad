"""Right and wrong predictions counted, and the rates made of the counts: numpy alone, since training uses them too."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion(actual: Ints, predicted: Ints, classes: int) -> Ints:
    """Images of class i that were predicted as class j, at [i, j].

    `actual` and `predicted` are class numbers from 0 to `classes` - 1, both (n,); the result is (classes, classes).
    """
    cells = np.asarray(actual, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: Ints) -> float:
    """The share of images predicted as what they are; 0 where there is no image."""
    return float(_ratio(np.trace(confusion), confusion.sum()))


def precision(confusion: Ints, positive: int | None) -> float:
    """Of the images predicted as `positive`, the share that is; None: the mean over classes. 0 where there is none."""
    return _of(_ratio(np.diag(confusion), confusion.sum(axis=0)), positive)


def recall(confusion: Ints, positive: int | None) -> float:
    """Of the images that are `positive`, the share predicted so; None: the mean over classes. 0 where there is none."""
    return _of(_ratio(np.diag(confusion), confusion.sum(axis=1)), positive)


def f1(confusion: Ints, positive: int | None) -> float:
    """The harmonic mean of precision and recall of `positive`; None: its mean over classes.

    It is 0 for a class that no image is of and none is predicted as (scikit-learn's zero_division=0).
    """
    return _of(_ratio(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)), positive)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """`part` / `whole`, 0 where `whole` is 0."""
    return np.true_divide(part, np.maximum(whole, 1))


def _of(rates: Floats, positive: int | None) -> float:
    return float(rates.mean() if positive is None else rates[positive])
