"""The AUROC, and how much of it is each image's.

DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837.
"""

import numpy as np
import numpy.typing as npt

from xraylab.evaluate import influence
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.influence import Influence
from xraylab.evaluate.units import Sample


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


def of_class(sample: Sample, label: int) -> Floats | None:
    """The shares of the class's AUROC (n,); None where it has none."""
    positive = sample.actual == label
    return shares(positive, sample.probabilities[:, label]) if 0 < positive.sum() < len(positive) else None


def of_mean(sample: Sample, labels: list[int]) -> Floats | None:
    """The shares of the mean of the classes' AUROCs; None where one of them has none."""
    every = [of_class(sample, label) for label in labels]
    known = [own for own in every if own is not None]
    return np.mean(known, axis=0) if len(known) == len(labels) else None


def moved(shares: Floats, sample: Sample, label: int | None) -> Influence:
    """How far each patient moves the AUROC of `label`, or the mean over classes: the images of each class apart."""
    kinds = sample.actual if label is None else (sample.actual == label).astype(np.int64)
    return influence.of_components(shares, kinds, sample.units.of)


def _above(scores: Floats, others: Floats) -> Floats:
    """How many of `others` are lower than each of `scores`, the same counting half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2
