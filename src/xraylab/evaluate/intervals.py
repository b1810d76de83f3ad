"""Intervals of a proportion, and of anything that was drawn often."""

import math

import numpy as np
from scipy import stats

from xraylab.evaluate.counts import Floats

UNDEFINED = 0.05  # the largest share of draws in which a figure may be undefined


def wilson(part: float, whole: float, confidence: float) -> tuple[float, float] | None:
    """Wilson's score interval of `part` out of `whole`, J Am Stat Assoc 22 (1927) 209; None out of 0."""
    if whole == 0:
        return None
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, shrunk = part / whole, 1 + z**2 / whole
    middle = (share + z**2 / (2 * whole)) / shrunk
    half = z / shrunk * float(np.sqrt(share * (1 - share) / whole + z**2 / (4 * whole**2)))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def percentile(draws: Floats, confidence: float) -> tuple[float, float] | None:
    """The middle `confidence` of the draws (draws,).

    None where the figure is undefined in more than UNDEFINED of them, or the same in all: a figure that no draw can
    change, such as an accuracy without a single error, has no interval that drawing could find.
    """
    known = draws[~np.isnan(draws)]
    if len(known) < (1 - UNDEFINED) * len(draws) or np.ptp(known) < 1e-12:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def of_difference(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """The interval of first - second, from the value and the limits (value, low, high) of two independent groups.

    Its level is that of the two intervals: the method of variance estimates recovery (Zou and Donner, Stat Med 27
    (2008) 1693), which from two Wilson intervals makes Newcombe's. Where groups share patients it is too wide.
    """
    (value, low, high), (other, other_low, other_high) = first, second
    below, above = math.hypot(value - low, other_high - other), math.hypot(high - value, other - other_low)
    return value - other - below, value - other + above
