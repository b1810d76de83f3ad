"""Intervals of a proportion, of an AUROC, and of any figure with a variance.

bench/inference_level.py counts how often each holds the truth.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from xraylab.evaluate.counts import Floats, Ints

Interval = tuple[float, float]
SURE = 1e-9  # an AUROC so near to 1 or 0 is that
SCALES = {  # there, back, and the ends of what it holds for
    "logit": (special.logit, special.expit, (0.0, 1.0)),
    "atanh": (np.arctanh, np.tanh, (-1.0, 1.0)),
    "log": (np.log, np.exp, (0.0, np.inf)),
}


def wilson(part: float, whole: float, confidence: float) -> Interval | None:
    """Wilson's score interval of `part` out of `whole`, J Am Stat Assoc 22 (1927) 209; None out of 0."""
    if whole == 0:
        return None
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share, shrunk = part / whole, 1 + z**2 / whole
    middle = (share + z**2 / (2 * whole)) / shrunk
    half = z / shrunk * float(np.sqrt(share * (1 - share) / whole + z**2 / (4 * whole**2)))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def clustered(parts: Floats, wholes: Floats, confidence: float) -> tuple[Interval | None, str]:
    """Of a proportion whose images come by patient: `parts` out of `wholes`, (units,) each.

    The variance of a ratio of sums (Cochran, Sampling Techniques, 1977, section 3.12), on the logit scale with t on one
    degree of freedom less than patients. Where all images are right, or none, there is no variance to estimate, and
    the patients, all right, have Wilson's.
    """
    own = wholes > 0
    units, total = int(own.sum()), float(wholes.sum())
    if units == 0:
        return None, ""
    share = float(parts.sum() / total)
    if share in (0.0, 1.0):
        return wilson(share * units, units, confidence), "Wilson of patients"
    variance = units / max(units - 1, 1) * float(np.square(parts - share * wholes)[own].sum()) / total**2
    return transformed(share, variance, units - 1, confidence, "logit"), "logit t of patients"


def transformed(value: float, variance: float, freedom: float, confidence: float, scale: str) -> Interval | None:
    """A t interval on the scale `logit` (of figures from 0 to 1), `atanh` (-1 to 1) or `log` (0 and above).

    None at the ends of the scale and without a variance: there nothing tells how sure the figure is.
    """
    forward, back, (low, high) = SCALES[scale]
    if not (variance > 0 and freedom > 0 and low + 1e-12 < value < high - 1e-12):
        return None
    step = 1e-6 * min(value - low, high - value, 1.0)
    slope = (forward(value + step) - forward(value - step)) / (2 * step)
    half = t(freedom, confidence) * np.sqrt(variance) * slope
    return float(back(forward(value) - half)), float(back(forward(value) + half))


def t(freedom: float, confidence: float) -> float:
    """The two-sided quantile of Student's t."""
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def area(
    auroc: float, variance: float, freedom: float, images: npt.ArrayLike, patients: npt.ArrayLike,
    weights: npt.ArrayLike, confidence: float,
) -> Interval:  # fmt: skip
    """Of an AUROC, or of a mean of several with `weights`: every true value that its score test does not reject.

    Newcombe, Stat Med 25 (2006) 559, method 5: the variance at a true value, not at the estimate, so that an order
    without a mistake has an interval too. Times the ratio of `variance` (DeLong's or Obuchowski's) to Newcombe's where
    it is above 1, and with the t quantile. `images` and `patients`: of each class and its rest; patients alone count
    where no mistake tells how alike the images of one are.
    """
    perfect = not SURE < auroc < 1 - SURE
    numbers = np.array(patients if perfect else images, float)
    shares = np.square(weights)

    def at(true: float) -> float:
        return float(shares @ _newcombe(true, numbers[:, 0], numbers[:, 1]))

    ratio = 1.0 if perfect else max(variance / at(auroc), 1.0)
    wide = t(freedom, confidence) ** 2 * ratio

    def outside(true: float) -> float:
        return (auroc - true) ** 2 - wide * at(true)

    low = 0.0 if auroc <= SURE else optimize.brentq(outside, 0, min(auroc, 1 - SURE))
    high = 1.0 if auroc >= 1 - SURE else optimize.brentq(outside, max(auroc, SURE), 1)
    return float(low), float(high)


def of_difference(first: tuple[float, float, float], second: tuple[float, float, float]) -> Interval:
    """The interval of first - second, from the value and the limits (value, low, high) of two independent groups.

    Its level is that of the two intervals: the method of variance estimates recovery (Zou and Donner, Stat Med 27
    (2008) 1693), which from two Wilson intervals makes Newcombe's. Where groups share patients it is too wide.
    """
    (value, low, high), (other, other_low, other_high) = first, second
    below, above = math.hypot(value - low, other_high - other), math.hypot(high - value, other - other_low)
    return value - other - below, value - other + above


def _newcombe(true: float, positives: Floats | Ints, negatives: Floats | Ints) -> Floats:
    """The variance of an AUROC whose true value is `true`; that of Hanley and McNeil with the mean of both numbers."""
    middle = (positives + negatives) / 2
    spread = 2 * middle - 1 - 3 * (middle - 1) / ((2 - true) * (1 + true))
    found: Floats = true * (1 - true) * spread / (positives * negatives)
    return found
