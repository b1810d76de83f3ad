"""AUROC and average precision of one class against the rest: sorted once, then weighted by as many draws as wanted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xraylab.evaluate.counts import Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """Where each positive stands among the negatives and among the positives, both sorted by score, lowest first."""

    positives: Ints  # (m,) image numbers
    negatives: Ints  # (n,)
    below: Ints  # (m,) negatives with a lower score
    upto: Ints  # (m,) negatives with a lower or the same score
    own_below: Ints  # (m,) positives with a lower score


def ranking(positive: npt.NDArray[np.bool_], scores: Floats) -> Ranking:
    """`positive` says which of the images are of the class; both arrays are (images,)."""
    positives, negatives = (_sorted(np.flatnonzero(chosen), scores) for chosen in (positive, ~positive))
    theirs, ours = scores[negatives], scores[positives]
    return Ranking(
        positives,
        negatives,
        np.searchsorted(theirs, ours, "left"),
        np.searchsorted(theirs, ours, "right"),
        np.searchsorted(ours, ours, "left"),
    )


def areas(order: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision, (draws,) each, of images weighted by `weights` (images, draws).

    AUROC is the share of pairs in the right order, a tie counting half. Average precision is the sum, over the
    thresholds, of precision times the gain in recall. NaN where no positive or no negative has weight.
    """
    ours, theirs = weights[order.positives], _from_zero(weights[order.negatives])
    m, n = ours.sum(axis=0), theirs[-1]
    below = theirs[order.below]
    auroc = ((below + theirs[order.upto]) * ours).sum(axis=0)
    tp = m - _from_zero(ours)[order.own_below]
    fp = n - below
    precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=tp + fp > 0)
    precision *= ours
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(m * n > 0, auroc / (2 * m * n), np.nan), np.where(m * n > 0, precision.sum(axis=0) / m, np.nan)


def _sorted(chosen: Ints, scores: Floats) -> Ints:
    return chosen[np.argsort(scores[chosen], kind="stable")]


def _from_zero(weights: Floats) -> Floats:
    """(k + 1, draws): the sum of the first i rows, at i."""
    sums = np.empty((len(weights) + 1, weights.shape[1]))
    sums[0] = 0
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
