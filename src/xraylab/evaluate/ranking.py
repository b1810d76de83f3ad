"""AUROC and average precision of one class against the rest, and what each image adds to the latter."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xraylab.evaluate.counts import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """For each positive (m,), how many images stand where: those of the same score count as called with it."""

    below: Ints  # negatives with a lower score
    upto: Ints  # negatives with a lower or the same score
    own_below: Ints  # positives with a lower score
    negatives: int


def ranking(positive: npt.NDArray[np.bool_], scores: Floats) -> Ranking:
    """`positive` says which of the images are of the class; both arrays are (images,)."""
    ours, theirs = np.sort(scores[positive]), np.sort(scores[~positive])
    return Ranking(
        np.searchsorted(theirs, ours, "left"),
        np.searchsorted(theirs, ours, "right"),
        np.searchsorted(ours, ours, "left"),
        len(theirs),
    )


def areas(order: Ranking) -> tuple[float, float]:
    """AUROC and average precision.

    AUROC is the share of pairs in the right order, a tie counting half. Average precision is the sum, over the
    thresholds, of precision times the gain in recall. NaN where there is no positive or no negative.
    """
    m, n = len(order.below), order.negatives
    if not m * n:
        return float("nan"), float("nan")
    tp = m - order.own_below
    precision = tp / (tp + n - order.below)
    return float((order.below + order.upto).sum() / (2 * m * n)), float(precision.mean())


def derivatives(positive: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Average precision's derivative after the weight of each image (n,).

    An image changes the precision at every positive that is called only once it is: that of no higher a score.
    """
    order = ranking(positive, scores)
    ours, m = np.sort(scores[positive]), len(order.below)
    tp = m - order.own_below
    called = tp + order.negatives - order.below
    precision = tp / called
    parts = ((1 - precision) / called, precision / called)
    gained, lost = (np.concatenate([[0], np.cumsum(part / m)]) for part in parts)
    upto = np.searchsorted(ours, scores, "right")
    found = np.where(positive, gained[upto], -lost[upto])
    found[np.flatnonzero(positive)[np.argsort(scores[positive], kind="stable")]] += (precision - precision.mean()) / m
    return found
