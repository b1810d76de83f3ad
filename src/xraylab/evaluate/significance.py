"""Two experiments on the same images: is the difference more than chance?

With one training of each, patients are what is random. With several, seeds are to a recipe what readers are to an
imaging modality: the analysis of Obuchowski and Rockette (Commun Stat Simul 24 (1995) 285), both seeds and patients
random, with seeds within recipes as Hillis has readers within modalities (Stat Med 33 (2014) 330), and degrees of
freedom after Satterthwaite. With folds every run tests other patients: the t test of Nadeau and Bengio (Mach Learn 52
(2003) 239), over folds and rounds as in Bouckaert and Frank (PAKDD 2004, LNCS 3056, 3).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from xraylab.evaluate.config import OVERALL, EvalConfig
from xraylab.evaluate.confusion import Floats
from xraylab.evaluate.intervals import Spread, t_quantile, too_few_patients
from xraylab.evaluate.metrics import Key, compute_metrics, matrix_metrics
from xraylab.evaluate.resampling import (
    Influence,
    Jackknife,
    Swaps,
    degrees_of_freedom,
    mean_influence,
    sign_test,
    swap_p_value,
    swap_units,
    variance,
)
from xraylab.evaluate.samples import Sample, unit_matrices

METRICS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
}
OF_ALL = ("accuracy", "balanced_accuracy")
OF_TWO = ("sensitivity", "specificity")  # of more classes their mean is the balanced accuracy, and says nothing new
NO_DIFFERENCE = "no discordant images"
SEEDS, FOLDS = "Obuchowski-Rockette, seeds and patients", "corrected t over folds (Nadeau and Bengio)"
MIN_FOLDS = 3
ROUNDING = 1e-18  # of a variance
NO_VARIATION = "the difference does not vary"


@dataclass(frozen=True)
class Difference:
    """First less second in one metric, with its interval, p and test, or the reason why there is none."""

    metric: str
    difference: float | None  # None where either has no such metric
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_at_most: bool = False  # p is known only as `<=`
    test: str | None = None
    why: str | None = None
    error: float | None = None  # standard error, from patients and seeds
    freedom: float | None = None
    seeds_error: float | None = None  # the part of other seeds in it
    first_sd: float | None = None  # over repeats
    second_sd: float | None = None
    first_alone_right: int | None = None  # images
    second_alone_right: int | None = None


def compared_metrics(cfg: EvalConfig, among: Collection[str] = tuple(METRICS)) -> dict[str, Key]:
    """What experiments are compared by: metrics of the positive class, or the mean over classes."""
    names = [name for name in METRICS if name in among and (cfg.positive is not None or name not in OF_TWO)]
    return {name: Key(OVERALL if name in OF_ALL else cfg.main_class, name) for name in names}


def holm(ps: npt.ArrayLike) -> Floats:
    """Each p corrected for all of them (Holm, Scand J Stat 6 (1979) 65); those that are NaN are no tests.

    statsmodels' own collects all garbage at every call, which simulations would wait for.
    """
    values = np.asarray(ps, float)
    corrected, tested = np.full(len(values), np.nan), np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def compare_runs(
    first: Sample, second: Sample, cfg: EvalConfig, names: Collection[str] = tuple(METRICS)
) -> list[Difference]:
    """The differences first - second of two trained networks. Both samples have the same images in one order."""
    jackknives = [Jackknife(sample, cfg) for sample in (first, second)]
    values = [compute_metrics(sample, cfg) for sample in (first, second)]

    @cache  # of AUROC and accuracy alone none is needed
    def swapped() -> tuple[Swaps, list[dict[Key, Floats]]]:
        matrices = [unit_matrices(sample, sample.predicted, len(cfg.classes)) for sample in (first, second)]
        swaps = swap_units(matrices[0], matrices[1], cfg.n_permutations, cfg.seed)
        return swaps, [matrix_metrics(each, cfg) for each in (swaps.first, swaps.second)]

    rows = []
    for name, key in compared_metrics(cfg, names).items():
        row = untested(name, values[0][key] - values[1][key])
        why = too_few_patients(first, key, cfg)
        if row.difference is None or why:
            rows.append(replace(row, why=why or None))
            continue
        apart = influence_on_difference([each.influence(key) for each in jackknives])
        if name == "auroc":
            rows.append(_delong_test(row, apart, first.units.clustered, cfg.confidence))
            continue
        if name == "accuracy":
            row = _mcnemar_test(row, first, second)
        else:
            swaps, (one, other) = swapped()
            row = _permutation_test(row, one[key] - other[key], swaps)
        rows.append(_with_interval(row, apart, cfg.confidence))
    return rows


def compare_repeats(
    first: Sequence[Sample],
    second: Sequence[Sample],
    cfg: EvalConfig,
    folds: int | None,
    names: Collection[str] = tuple(METRICS),
) -> list[Difference]:
    """As `compare_runs`, of the mean over repeats; `first` and `second` have the repeats in one order."""
    values = [[compute_metrics(sample, cfg) for sample in runs] for runs in (first, second)]
    jackknives = [[Jackknife(sample, cfg) for sample in runs] for runs in (first, second)]
    rows = []
    for name, key in compared_metrics(cfg, names).items():
        one, other = (np.array([each[key] for each in runs]) for runs in values)
        row = untested(name, float(one.mean() - other.mean()))
        if row.difference is not None:
            if len(one) > 1:
                row = replace(row, first_sd=float(one.std(ddof=1)), second_sd=float(other.std(ddof=1)))
            why = next(filter(None, (too_few_patients(sample, key, cfg) for sample in first)), None)
            if why:
                row = replace(row, why=why)
            elif folds:
                row = t_test_over_folds(row, one - other, folds, cfg.confidence)
            else:
                influences = [[each.influence(key) for each in runs] for runs in jackknives]
                row = t_test_over_seeds(row, [one, other], influences, cfg.confidence)
        rows.append(row)
    return rows


def untested(metric: str, difference: float) -> Difference:
    return Difference(metric, None if np.isnan(difference) else float(difference))


def t_test(row: Difference, difference: float, spread: Spread, confidence: float) -> Difference:
    """With interval and two-sided p of `difference`, from Student's t."""
    error = float(np.sqrt(spread.variance))
    low, high = _around(difference, t_quantile(spread.freedom, confidence) * error)
    p = float(2 * stats.t.sf(abs(difference) / error, spread.freedom))
    return replace(row, ci_low=low, ci_high=high, p=p, error=error, freedom=spread.freedom, seeds_error=0.0)


def influence_on_difference(pair: Sequence[Influence | None]) -> Influence | None:
    """Of each patient on first less second, without what rounding alone leaves; None where nothing varies."""
    first, second = pair
    if first is None or second is None:
        return None
    apart = (first - second).values
    influence = Influence(np.where(np.abs(apart) < 1e-12, 0, apart), first.members)
    return influence if variance(influence) > 0 else None


def _delong_test(row: Difference, apart: Influence | None, clustered: bool, confidence: float) -> Difference:
    """Paired: the variance of the difference of what each patient adds to either AUROC."""
    row = replace(row, test="paired DeLong" + (" of patients (Obuchowski)" if clustered else ""))
    if apart is None or row.difference is None:
        return replace(row, why=NO_DIFFERENCE)
    return t_test(row, row.difference, Spread(variance(apart), degrees_of_freedom(apart)), confidence)


def _mcnemar_test(row: Difference, first: Sample, second: Sample) -> Difference:
    """Of accuracy, with how many images one of the two alone gets right."""
    right = [sample.predicted == sample.actual for sample in (first, second)]
    net = np.bincount(first.units.of_image, right[0].astype(float) - right[1])
    test = "exact McNemar" + (", signs of whole patients" if first.units.clustered else "")
    first_alone, second_alone = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    p = sign_test(net.astype(np.int64))
    return replace(row, p=p, test=test, first_alone_right=first_alone, second_alone_right=second_alone)


def _permutation_test(row: Difference, differences: Floats, swaps: Swaps) -> Difference:
    p, at_most = swap_p_value(differences, row.difference or 0.0, swaps)
    how = "all swaps" if swaps.exact else f"{len(swaps.chances):,} swaps"
    return replace(row, p=p, p_at_most=at_most, test=f"{how} of whole patients")


def _with_interval(row: Difference, apart: Influence | None, confidence: float) -> Difference:
    """With the jackknife's t interval, wide enough to hold 0 wherever the test of the row does not reject it."""
    if apart is None or row.difference is None or row.p is None:
        return replace(row, why=NO_DIFFERENCE if row.difference == 0 else None)
    error, freedom = float(np.sqrt(variance(apart))), degrees_of_freedom(apart)
    low, high = _around(row.difference, t_quantile(freedom, confidence) * error)
    if row.p >= 1 - confidence and not low <= 0 <= high:
        low, high = _around(row.difference, abs(row.difference))
        error = abs(row.difference) / t_quantile(freedom, confidence)
    return replace(row, ci_low=low, ci_high=high, error=error, freedom=freedom, seeds_error=0.0)


def _around(middle: float, half: float) -> tuple[float, float]:
    return middle - half, middle + half


def t_test_over_folds(row: Difference, differences: Floats, folds: int, confidence: float) -> Difference:
    """`differences` (runs,): of each fold, of one round or several."""
    runs = len(differences)
    if runs < MIN_FOLDS:
        return replace(row, why=f"{runs} folds were tested: a test takes {MIN_FOLDS} or more")
    of_mean = float(differences.var(ddof=1)) * (1 / runs + 1 / (folds - 1))
    if not of_mean > ROUNDING:
        return replace(row, why=NO_VARIATION)
    tested = t_test(row, float(differences.mean()), Spread(of_mean, runs - 1), confidence)
    return replace(tested, test=FOLDS, seeds_error=None)


def t_test_over_seeds(
    row: Difference,
    values: list[Floats],
    influences: list[list[Influence | None]],
    confidence: float,
    freedom_of: Callable[[Influence], float] = degrees_of_freedom,
) -> Difference:
    """`values`: of each repeat (repeats,), of either recipe; `influences`: of the same."""
    defined = [[each for each in runs if each is not None] for runs in influences]
    counts = [len(runs) for runs in influences]
    if [len(runs) for runs in defined] != counts or row.difference is None:
        return replace(row, why="not defined without some patient")
    freedom_within = sum(counts) - 2
    within = sum(float(np.square(each - each.mean()).sum()) for each in values) / freedom_within
    of_seeds = within * sum(1 / count for count in counts)
    of_patients = _variance_of_patients(defined)
    total = of_seeds + of_patients
    if not total > ROUNDING:
        return replace(row, why=NO_VARIATION)
    apart = mean_influence(defined[0]) - mean_influence(defined[1])
    freedom = total**2 / (of_seeds**2 / freedom_within + of_patients**2 / freedom_of(apart))
    tested = t_test(row, row.difference, Spread(total, freedom), confidence)
    return replace(tested, test=SEEDS, seeds_error=float(np.sqrt(of_seeds)))


def _variance_of_patients(influences: list[list[Influence]]) -> float:
    """What other patients would change in the difference of two recipes, each trained without end: at least 0.

    Of the recipes' means it is the variance less the part that each network has for itself, which the spread between
    seeds holds already.
    """
    means = [mean_influence(runs) for runs in influences]
    total = variance(means[0] - means[1])
    for runs, mean in zip(influences, means, strict=True):
        alone = sum(variance(each - mean) for each in runs) / (len(runs) - 1)
        total -= alone / len(runs)
    return max(total, 0.0)
