"""How far each unit (patient, or image) moves a figure: what every variance, covariance and interval is made of.

Of an AUROC it is the sum of the unit's structural components (DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988)
837), whose products are Obuchowski's variance of clustered data (Biometrics 53 (1997) 567). Of the figures of a
confusion matrix and of losses it is the jackknife's pseudo-value, each unit left out once within its stratum (Shao and
Tu, The Jackknife and Bootstrap, 1995, chapter 6). Of average precision it is the derivative (Jaeckel, The
infinitesimal jackknife, Bell Laboratories, 1972).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from xraylab.evaluate.counts import Floats, Ints

ROUNDING = 1e-9  # of a share times its number of images, which is a proportion: true differences are larger


@dataclass(frozen=True)
class Influence:
    """`values` (units, groups) are centred in each group of images or units; `members` (groups,) counts the units.

    A group is a class of images (AUROC), where a patient may have images of several, or a stratum of units.
    """

    values: Floats
    members: Ints

    def __sub__(self, other: "Influence") -> "Influence":
        return Influence(self.values - other.values, self.members)


def mean(several: Sequence[Influence]) -> Influence:
    return Influence(np.mean([each.values for each in several], axis=0), several[0].members)


def over_parts(parts: Sequence[Influence]) -> Influence:
    """Of the mean over parts that share no unit."""
    each = [Influence(part.values / len(parts), part.members) for part in parts]
    values = linalg.block_diag(*(part.values for part in each))
    return Influence(values, np.concatenate([part.members for part in each]))


def covariance(first: Influence, second: Influence) -> float:
    """Of two figures of the same units; NaN where a group has one unit alone."""
    return float((_factors(first) * (first.values.T @ second.values)).sum())


def variance(influence: Influence) -> float:
    return covariance(influence, influence)


def degrees(influence: Influence) -> float:
    """Degrees of freedom of the variance (Satterthwaite, Biometrics Bull 2 (1946) 110), each group's part by itself."""
    parts = np.diag(_factors(influence)) * np.square(influence.values).sum(axis=0)
    if not parts.sum() > 0:
        return float(influence.members.min() - 1)
    freedom = np.maximum(influence.members - 1, 1)
    return float(parts.sum() ** 2 / (parts**2 / freedom).sum())


def _factors(influence: Influence) -> Floats:
    """n / (n - 1): of a group's own units, and between groups of all."""
    units, members = len(influence.values), influence.members
    with np.errstate(divide="ignore"):
        found = np.full((len(members), len(members)), np.divide(units, units - 1))
        np.fill_diagonal(found, np.where(members > 1, members / (members - 1), np.nan))
    return found


def of_components(components: Floats, groups: Ints, of: Ints) -> Influence:
    """From what each image adds to the figure (n,), centred in its group (n,) and summed by its unit `of` (n,).

    Exactly 0 in a group whose images differ by rounding alone.
    """
    units, numbers = int(of.max()) + 1, np.unique(groups)
    values, members = np.zeros((units, len(numbers))), np.zeros(len(numbers), np.int64)
    for column, number in enumerate(numbers):
        inside = groups == number
        own = components[inside] - components[inside].mean()
        own[:] = 0 if np.ptp(own) * len(own) < ROUNDING else own
        values[:, column] = np.bincount(of[inside], own, minlength=units)
        members[column] = len(np.unique(of[inside]))
    return Influence(values, members)


def of_left_out(left_out: Floats, strata: Ints) -> Influence:
    """From the figure with each unit left out (units,)."""
    _, members = np.unique(strata, return_counts=True)
    within = _dummies(strata)
    means = (left_out @ within) / members
    moved = (means[strata] - left_out) * (1 - 1 / members)[strata]
    return Influence(within * moved[:, None], members)


def of_derivatives(derivatives: Floats, of: Ints, strata: Ints) -> Influence:
    """From the figure's derivative after the weight of each image (n,)."""
    units = np.bincount(of, derivatives, minlength=len(strata))
    _, members = np.unique(strata, return_counts=True)
    within = _dummies(strata)
    return Influence(within * (units - ((units @ within) / members)[strata])[:, None], members)


def merged(strata: Ints, least: int) -> Ints:
    """The strata numbered anew, all of fewer than `least` units taken together, and with the next if still too few."""
    numbers = np.unique(strata, return_inverse=True)[1].ravel().astype(np.int64)
    sizes = np.bincount(numbers)
    order = np.argsort(sizes, kind="stable")
    together = int((sizes < least).sum())
    if 0 < together < len(sizes) and sizes[order[:together]].sum() < least:
        together += 1
    numbers[np.isin(numbers, order[:together])] = -1
    return np.unique(numbers, return_inverse=True)[1].ravel().astype(np.int64)


def _dummies(strata: Ints) -> npt.NDArray[np.float64]:
    return np.eye(int(strata.max()) + 1)[strata]
