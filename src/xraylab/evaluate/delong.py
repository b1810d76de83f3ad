"""The variance of an AUROC, or of the difference of two on the same images.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: the variance is that of each image's share in the AUROC,
positives and negatives apart. For the mean over classes, images of each class are taken apart.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

from xraylab.evaluate.counts import Floats, Ints


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
    """The sum over kinds of images of n times the variance of their shares. NaN where a kind has one image alone."""
    total = 0.0
    for kind in np.unique(kinds):
        own = shares[kinds == kind]
        total += len(own) * float(own.var(ddof=1)) if len(own) > 1 else np.nan
    return total


def interval(auroc: float, variance: float, confidence: float) -> tuple[float, float] | None:
    """On the logit scale, so within 0 and 1 (Pepe, The Statistical Evaluation of Medical Tests, 2003, section 5.2).

    None where the variance is 0 or unknown: a perfect order says nothing of how sure it is.
    """
    if not 0 < auroc < 1 or not variance > 0:
        return None
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (auroc * (1 - auroc))
    middle = np.log(auroc / (1 - auroc))
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))


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
