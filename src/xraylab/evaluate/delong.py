"""The variance of an AUROC, or of the difference of two on the same images.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: the variance is that of each image's share in the AUROC,
positives and negatives apart. For the mean over classes, images of each class are taken apart.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

from xraylab.evaluate.counts import Floats, Ints

ROUNDING = 1e-9  # of a share times its number of images, which is a proportion: true differences are larger


def shares(positive: npt.NDArray[np.bool_], scores: Floats) -> Floats:
    """Each image's structural component, divided by how many images of its kind there are: (n,).

    Of a positive it is the share of negatives that it ranks above (ties half), of a negative the share of positives
    that rank above it; so the shares of either kind sum to the AUROC.
    """
    ours, theirs = scores[positive], scores[~positive]
    found = np.empty(len(scores))
    found[positive] = _above(ours, theirs) / len(theirs) / len(ours)
    found[~positive] = (len(ours) - _above(theirs, ours)) / len(ours) / len(theirs)
    return found


def variance(shares: Floats, kinds: Ints) -> float:
    """The sum over kinds of images of n times the variance of their shares. NaN where a kind has one image alone.

    Exactly 0 where the shares of each kind differ by rounding alone.
    """
    total = 0.0
    for kind in np.unique(kinds):
        own = shares[kinds == kind]
        same = np.ptp(own) * len(own) < ROUNDING
        total += np.nan if len(own) < 2 else 0.0 if same else len(own) * float(own.var(ddof=1))
    return total


def interval(auroc: float, variance: float, confidence: float) -> tuple[float, float] | None:
    """On the logit scale, so within 0 and 1 (Pepe, The Statistical Evaluation of Medical Tests, 2003, section 5.2).

    None where the variance is 0 or unknown: it says nothing of how sure a perfect order is.
    """
    if not 0 < auroc < 1 or not variance > 0:
        return None
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (auroc * (1 - auroc))
    middle = np.log(auroc / (1 - auroc))
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))


def exact_interval(auroc: float, rarer: int, confidence: float) -> tuple[float, float] | None:
    """Of an AUROC of 1 or 0, whose variance DeLong cannot estimate; None of any other.

    `rarer` is the number of images of the rarer kind: so many pairs of a positive and a negative share no image, and
    all of them are in the right order. With a true AUROC of a, the chance of that is at most a ** `rarer`, whatever the
    scores' distributions; so this is the interval of Clopper and Pearson (Biometrika 26 (1934) 404) for `rarer` out
    of `rarer`. Of a mean over classes, `rarer` is the smallest: some class's AUROC is not above the mean.
    """
    low = ((1 - confidence) / 2) ** (1 / rarer)
    if auroc > 1 - ROUNDING:
        return low, 1.0
    return (0.0, 1 - low) if auroc < ROUNDING else None


def test(difference: float, variance: float, confidence: float) -> tuple[float, float, float] | None:
    """Low, high and two-sided p of a difference of AUROCs; None where its variance is 0 or unknown."""
    if not variance > 0:
        return None
    error = float(np.sqrt(variance))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return difference - half, difference + half, float(2 * stats.norm.sf(abs(difference) / error))


def _above(scores: Floats, others: Floats) -> Floats:
    """How many of `others` are lower than each of `scores`, the same counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2
