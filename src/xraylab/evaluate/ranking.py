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
    ties: bool  # whether two images have the same score; if not, `upto` is `below` and `own_below` counts from 0


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
        len(np.unique(scores)) < len(scores),
    )


def areas(order: Ranking, weights: Floats) -> tuple[Floats, Floats]:
    """AUROC and average precision, (draws,) each, of images weighted by `weights` (draws, images).

    AUROC is the share of pairs in the right order, a tie counting half. Average precision is the sum, over the
    thresholds, of precision times the gain in recall. NaN where no positive or no negative has weight.
    """
    ours, theirs = weights.take(order.positives, axis=1), _from_zero(weights.take(order.negatives, axis=1))
    m, n = ours.sum(axis=1), theirs[:, -1]
    below = theirs.take(order.below, axis=1)
    upto = theirs.take(order.upto, axis=1) if order.ties else below
    own = _from_zero(ours)
    tp = m[:, None] - (own.take(order.own_below, axis=1) if order.ties else own[:, :-1])
    called = tp + n[:, None] - below
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = m * n > 0
        auroc = (_dot(below, ours) + _dot(upto, ours)) / (2 * m * n)
        return np.where(both, auroc, np.nan), np.where(both, _dot(precision, ours) / m, np.nan)


def _sorted(chosen: Ints, scores: Floats) -> Ints:
    return chosen[np.argsort(scores[chosen], kind="stable")]


def _from_zero(weights: Floats) -> Floats:
    """(draws, k + 1): the sum of the first i columns, at i."""
    sums = np.empty((len(weights), weights.shape[1] + 1))
    sums[:, 0] = 0
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _dot(first: Floats, second: Floats) -> Floats:
    """Row by row."""
    found: Floats = np.einsum("di,di->d", first, second)
    return found
