"""Two experiments on the same images: is the difference more than chance?"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from xraylab.evaluate import intervals, swaps
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.estimates import too_few
from xraylab.evaluate.influence import Influence, degrees, variance
from xraylab.evaluate.jackknife import Influences, cells_by_unit
from xraylab.evaluate.swaps import Swaps
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import MACRO, OVERALL, Asked, Key, of_matrices, values

FIGURES = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
}
OF_ALL = ("accuracy", "balanced_accuracy")
OF_TWO = ("sensitivity", "specificity")  # of more classes their mean is the balanced accuracy, and says nothing new
SAME = "no image tells the two apart"

Row = dict[str, Any]


def compared(first: Sample, second: Sample, asked: Asked) -> list[Row]:
    """The differences first - second in every figure, each with its interval, p, test, or why there is none.

    Figures are of the positive class, or the mean over classes. Both samples hold the same images in one order.
    """
    pair = [Influences(sample, asked) for sample in (first, second)]
    ours, theirs = values(first, asked), values(second, asked)
    cells = [cells_by_unit(sample, sample.predicted, len(asked.classes)) for sample in (first, second)]
    swapped = swaps.swaps(cells[0], cells[1], asked.n_permutations, asked.seed)
    both = [of_matrices(matrices, asked) for matrices in (swapped.first, swapped.second)]
    rows = []
    for name, key in keys(asked).items():
        row = blank(name, ours[key] - theirs[key])
        why = too_few(first, key, asked)
        if row["difference"] is None or why:
            rows.append(row | {"why": why or None})
            continue
        moved = [each.of(key) for each in pair]
        if name == "auroc":
            row |= _by_variance(row["difference"], moved, asked.confidence)
            row["test"] = "paired DeLong" + (" of patients (Obuchowski)" if first.units.repeat else "")
        else:
            row |= _by_swaps(name, row["difference"], cells, both[0][key] - both[1][key], swapped)
            row |= _around(row, moved, asked.confidence)
        rows.append(row | (discordant(first, second) if name == "accuracy" else {}))
    return rows


def keys(asked: Asked) -> dict[str, Key]:
    """The figures that experiments are compared by."""
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    shown = [name for name in FIGURES if asked.positive is not None or name not in OF_TWO]
    return {name: (OVERALL if name in OF_ALL else whose, name) for name in shown}


def tested(difference: float, variance: float, freedom: float, confidence: float) -> Row:
    """Interval, two-sided p, and what a later test of a margin needs, from Student's t."""
    error = float(np.sqrt(variance))
    half = intervals.t(freedom, confidence) * error
    p = float(2 * stats.t.sf(abs(difference) / error, freedom))
    return {
        "low": difference - half,
        "high": difference + half,
        "p": p,
        "error": error,
        "freedom": freedom,
        "seeds_error": 0.0,
    }


def discordant(first: Sample, second: Sample) -> dict[str, int]:
    """How many images one of the two alone gets right."""
    ours, theirs = first.predicted == first.actual, second.predicted == second.actual
    return {"first_alone_right": int((ours & ~theirs).sum()), "second_alone_right": int((theirs & ~ours).sum())}


def holm(ps: npt.ArrayLike) -> Floats:
    """Each p corrected for all of them (Holm, Scand J Stat 6 (1979) 65); those that are NaN are no tests."""
    given = np.asarray(ps, float)
    found, known = np.full(len(given), np.nan), np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found


def _by_variance(difference: float, moved: list[Influence | None], confidence: float) -> Row:
    """Paired: the variance of the difference of what each patient adds to either figure."""
    if moved[0] is None or moved[1] is None:
        return {"why": SAME}
    apart = _apart(moved[0], moved[1])
    spread = variance(apart)
    return tested(difference, spread, degrees(apart), confidence) if spread > 0 else {"why": SAME}


def _apart(first: Influence, second: Influence) -> Influence:
    """Without what rounding alone leaves."""
    apart = first - second
    return Influence(np.where(np.abs(apart.values) < 1e-12, 0, apart.values), apart.members)


def _by_swaps(name: str, difference: float, cells: list[Ints], swapped: Floats, outcomes: Swaps) -> Row:
    if name == "accuracy":
        net = np.trace(cells[0] - cells[1], axis1=1, axis2=2)
        one = len(net) == cells[0].sum()
        return {"p": swaps.signs(net), "test": "exact McNemar" if one else "exact McNemar, signs of whole patients"}
    p, at_most = swaps.p_value(swapped, difference, outcomes)
    how = "all swaps" if outcomes.exact else f"{len(outcomes.chances):,} swaps"
    return {"p": p, "p_at_most": at_most, "test": f"{how} of whole patients"}


def _around(row: Row, moved: list[Influence | None], confidence: float) -> Row:
    """The jackknife's t interval, wide enough to hold 0 wherever the test of the same row does not reject it."""
    if moved[0] is None or moved[1] is None:
        return {"why": SAME if row["difference"] == 0 else None}
    apart = _apart(moved[0], moved[1])
    spread = variance(apart)
    if not spread > 0:
        return {"why": SAME if row["difference"] == 0 else None}
    found = tested(row["difference"], spread, degrees(apart), confidence)
    if row["p"] >= 1 - confidence and not found["low"] <= 0 <= found["high"]:
        half = abs(row["difference"])
        error = half / intervals.t(found["freedom"], confidence)
        found |= {"low": row["difference"] - half, "high": row["difference"] + half, "error": error}
    return {name: found[name] for name in ("low", "high", "error", "freedom", "seeds_error")}


def blank(name: str, difference: float) -> Row:
    """A row with a difference and nothing else."""
    known = None if np.isnan(difference) else float(difference)
    empty = dict.fromkeys(("low", "high", "p", "test", "why", "error", "freedom", "seeds_error"))
    return {"figure": name, "difference": known, **empty, "p_at_most": False}
