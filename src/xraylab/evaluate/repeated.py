"""Two recipes, each trained several times: is the difference more than that of other seeds and other patients?

Seeds are to a recipe what readers are to an imaging modality. So this is the analysis of Obuchowski and Rockette
(Commun Stat Simul 24 (1995) 285), both seeds and patients random, with seeds within recipes as Hillis has readers
within modalities (Stat Med 33 (2014) 330), and degrees of freedom after Satterthwaite. With folds every run tests other
patients: the t test of Nadeau and Bengio (Mach Learn 52 (2003) 239), over folds and rounds as in Bouckaert and Frank
(PAKDD 2004, LNCS 3056, 3).
"""

from collections.abc import Sequence

import numpy as np

from xraylab.evaluate import influence, paired
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.estimates import too_few
from xraylab.evaluate.influence import Influence, degrees, variance
from xraylab.evaluate.jackknife import Influences
from xraylab.evaluate.paired import Row
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import Asked, Key, values

SEEDS, FOLDS = "Obuchowski-Rockette, seeds and patients", "corrected t over folds (Nadeau and Bengio)"
FEWEST = 3  # folds
NOTHING = 1e-18  # of a variance, what rounding leaves
ALIKE = "every training gives the same"


def compared(first: Sequence[Sample], second: Sequence[Sample], asked: Asked, folds: int | None) -> list[Row]:
    """As `paired.compared`, of the mean over repeats; `first` and `second` hold the repeats in one order."""
    found = []
    each = [[values(sample, asked) for sample in own] for own in (first, second)]
    moved = [[Influences(sample, asked) for sample in own] for own in (first, second)]
    for name, key in paired.keys(asked).items():
        ours, theirs = (np.array([own[key] for own in runs]) for runs in each)
        difference = float(ours.mean() - theirs.mean())
        row = paired.blank(name, difference)
        if len(ours) > 1 and row["difference"] is not None:
            row |= {"first_sd": float(ours.std(ddof=1)), "second_sd": float(theirs.std(ddof=1))}
        why = next(filter(None, (too_few(sample, key, asked) for sample in first)), None)
        if row["difference"] is not None and why is None:
            row |= _over_folds(ours - theirs, folds, asked) if folds else _over_seeds([ours, theirs], moved, key, asked)
        found.append(row if row["difference"] is None else row | {"why": why or row["why"]})
    return found


def _over_folds(differences: Floats, folds: int, asked: Asked) -> Row:
    """`differences` (runs,): of each fold, of one round or several."""
    runs = len(differences)
    if runs < FEWEST:
        return {"why": f"{runs} folds were tested: a test takes {FEWEST} or more"}
    spread = float(differences.var(ddof=1)) * (1 / runs + 1 / (folds - 1))
    if not spread > NOTHING:
        return {"why": ALIKE}
    return paired.tested(float(differences.mean()), spread, runs - 1, asked.confidence) | {
        "test": FOLDS,
        "seeds_error": None,
    }


def _over_seeds(figures: list[Floats], moved: list[list[Influences]], key: Key, asked: Asked) -> Row:
    """`figures`: of each repeat (repeats,), of either recipe."""
    known = [[own for each in runs if (own := each.of(key)) is not None] for runs in moved]
    if any(len(own) < len(runs) for own, runs in zip(known, figures, strict=True)):
        return {"why": "not defined without some patient"}
    counts = [len(own) for own in figures]
    within = sum(float(np.square(own - own.mean()).sum()) for own in figures) / (sum(counts) - 2)
    of_seeds = within * sum(1 / count for count in counts)
    of_patients = _of_patients(known)
    total = of_seeds + of_patients
    if not total > NOTHING:
        return {"why": ALIKE}
    apart = influence.mean(known[0]) - influence.mean(known[1])
    freedom = total**2 / (of_seeds**2 / (sum(counts) - 2) + of_patients**2 / degrees(apart))
    difference = float(figures[0].mean() - figures[1].mean())
    told: Row = {"test": SEEDS, "seeds_error": float(np.sqrt(of_seeds))}
    return paired.tested(difference, total, freedom, asked.confidence) | told


def _of_patients(known: list[list[Influence]]) -> float:
    """What other patients would change in the difference of two recipes, each trained without end: at least 0.

    Of the recipes' means it is the variance less the part that each network has for itself, which the spread between
    seeds holds already.
    """
    means = [influence.mean(own) for own in known]
    total = variance(means[0] - means[1])
    for own, average in zip(known, means, strict=True):
        alone = sum(variance(each - average) for each in own) / (len(own) - 1)
        total -= alone / len(own)
    return max(total, 0.0)
