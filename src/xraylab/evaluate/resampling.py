"""Which part each unit (patient, or image) has in a metric: leaving units out, and swapping them between experiments.

How far each unit moves a metric is what every variance, covariance and interval is made of. Of an AUROC it is the sum
of the unit's structural components (DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837), whose products are
Obuchowski's variance of clustered data (Biometrics 53 (1997) 567). Of the metrics of a confusion matrix and of losses
it is the jackknife's pseudo-value, each unit left out once within its stratum (Shao and Tu, The Jackknife and
Bootstrap, 1995, chapter 6). Of average precision it is the derivative (Jaeckel, The infinitesimal jackknife, Bell
Laboratories, 1972).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from scipy import linalg, stats

from xraylab.evaluate.config import MACRO, WEIGHTED, EvalConfig
from xraylab.evaluate.confusion import Floats, Ints
from xraylab.evaluate.metrics import (
    Key,
    auprc_derivatives,
    delong_components,
    has_both,
    image_losses,
    loss_metrics,
    matrix_metrics,
)
from xraylab.evaluate.samples import MIN_PATIENTS, Sample, unit_matrices

ROUNDING = 1e-9  # of a component times its number of images, which is a proportion: true differences are larger
MAX_OUTCOMES = 100_000  # so many swaps are gone through one by one


@dataclass(frozen=True)
class Influence:
    """`values` (units, groups) are centred in each group of images or units; `members` (groups,) counts the units.

    A group is a class of images (AUROC), where a patient may have images of several, or a stratum of units.
    """

    values: Floats
    members: Ints

    def __sub__(self, other: "Influence") -> "Influence":
        return Influence(self.values - other.values, self.members)


def mean_influence(influences: Sequence[Influence]) -> Influence:
    return Influence(np.mean([each.values for each in influences], axis=0), influences[0].members)


def mean_over_sources(influences: Sequence[Influence]) -> Influence:
    """The influence on the mean over sources, which share no unit."""
    values = linalg.block_diag(*(each.values / len(influences) for each in influences))
    return Influence(values, np.concatenate([each.members for each in influences]))


def variance(influence: Influence) -> float:
    """NaN where a group has one unit alone."""
    return float((_corrections(influence) * (influence.values.T @ influence.values)).sum())


def degrees_of_freedom(influence: Influence) -> float:
    """Of the variance (Satterthwaite, Biometrics Bull 2 (1946) 110), each group's part by itself."""
    parts = np.diag(_corrections(influence)) * np.square(influence.values).sum(axis=0)
    if not parts.sum() > 0:
        return float(influence.members.min() - 1)
    return float(parts.sum() ** 2 / (parts**2 / np.maximum(influence.members - 1, 1)).sum())


def joint_degrees_of_freedom(influence: Influence) -> float:
    """The same where a unit has a part in several groups, as in a mean over findings that go together.

    The sum of a unit's values has a variance that follows from the groups it is in; of normal sums of variances v the
    sum of squares has (sum v)^2 / (sum v^2) degrees of freedom. Groups without a common unit make it the above.
    """
    member = (influence.values != 0).astype(float)
    together = member.T @ member
    products = _corrections(influence) * (influence.values.T @ influence.values)
    covariances = np.divide(products, together, out=np.zeros_like(products), where=together > 0)
    of_units = np.maximum(((member @ covariances) * member).sum(axis=1), 0)
    lost = (member * (influence.members / np.maximum(influence.members - 1, 1))).max(axis=1)
    if not of_units.sum() > 0:
        return float(influence.members.min() - 1)
    return float(of_units.sum() ** 2 / (of_units**2 * lost).sum())


def _corrections(influence: Influence) -> Floats:
    """n / (n - 1): of a group's own units, and between groups of all."""
    n_units, members = len(influence.values), influence.members
    with np.errstate(divide="ignore"):
        factors = np.full((len(members), len(members)), np.divide(n_units, n_units - 1))
        np.fill_diagonal(factors, np.where(members > 1, members / (members - 1), np.nan))
    return factors


def from_components(components: Floats, groups: Ints, unit_of_image: Ints) -> Influence:
    """From what each image adds to the metric (n,), centred in its group (n,) and summed by its unit (n,).

    Exactly 0 in a group whose images differ by rounding alone.
    """
    n_units, labels = int(unit_of_image.max()) + 1, np.unique(groups)
    values, members = np.zeros((n_units, len(labels))), np.zeros(len(labels), np.int64)
    for column, label in enumerate(labels):
        inside = groups == label
        centred = components[inside] - components[inside].mean()
        centred[:] = 0 if np.ptp(centred) * len(centred) < ROUNDING else centred
        values[:, column] = np.bincount(unit_of_image[inside], centred, minlength=n_units)
        members[column] = len(np.unique(unit_of_image[inside]))
    return Influence(values, members)


def from_left_out(left_out: Floats, strata: Ints, stratified: bool = True) -> Influence:
    """From the metric with each unit left out (units,)."""
    _, members = np.unique(strata if stratified else np.zeros_like(strata), return_counts=True)
    factors = -(1 - 1 / members)
    return _within(left_out, strata, factors[strata] if stratified else np.full(len(strata), factors[0]), stratified)


def from_derivatives(derivatives: Floats, unit_of_image: Ints, strata: Ints, stratified: bool = True) -> Influence:
    """From the metric's derivative with respect to the weight of each image (n,)."""
    by_unit = np.bincount(unit_of_image, derivatives, minlength=len(strata)).astype(float)
    return _within(by_unit, strata, np.ones(len(strata)), stratified)


def _within(values: Floats, strata: Ints, factors: Floats, stratified: bool) -> Influence:
    """Values (units,) less the mean of their stratum, or of all, times `factors` (units,)."""
    _, members = np.unique(strata, return_counts=True)
    dummies = np.eye(len(members))[strata]
    centred = values - (((values @ dummies) / members)[strata] if stratified else values.mean())
    return Influence(dummies * (centred * factors)[:, None], members)


def merge_strata(strata: Ints, least: int) -> Ints:
    """The strata numbered anew, all of fewer than `least` units taken together, and with the next if still too few."""
    numbers = np.unique(strata, return_inverse=True)[1].ravel().astype(np.int64)
    sizes = np.bincount(numbers)
    order = np.argsort(sizes, kind="stable")
    n_merged = int((sizes < least).sum())
    if 0 < n_merged < len(sizes) and sizes[order[:n_merged]].sum() < least:
        n_merged += 1
    numbers[np.isin(numbers, order[:n_merged])] = -1
    return np.unique(numbers, return_inverse=True)[1].ravel().astype(np.int64)


class Jackknife:
    """How far each unit of a sample moves its metrics, each computed when it is first wanted.

    `stratified`: other samples would have as many units with each set of labels; else these numbers are random, too.
    """

    def __init__(self, sample: Sample, cfg: EvalConfig, stratified: bool = True) -> None:
        self._sample, self._cfg, self._stratified = sample, cfg, stratified
        self._sources = [Jackknife(part, cfg, stratified) for part in sample.by_source]
        self._strata = merge_strata(sample.units.strata, MIN_PATIENTS)

    def influence(self, key: Key) -> Influence | None:
        """None where the metric, or the metric without some unit, is not defined. Sources share no patient."""
        if self._sources:
            each = [moved for source in self._sources if (moved := source.influence(key)) is not None]
            return mean_over_sources(each) if len(each) == len(self._sources) else None
        if key.name in ("auroc", "auprc"):
            return self._of_ranking(key)
        left_out = self._left_out.get(key)
        if left_out is None or np.isnan(left_out).any():
            return None
        return from_left_out(left_out, self._strata, self._stratified)

    @cached_property
    def _left_out(self) -> dict[Key, Floats]:
        """Every metric of counts and losses with each unit left out: (units,)."""
        sample, cfg = self._sample, self._cfg
        losses = image_losses(sample, cfg)
        sums = np.stack([np.bincount(sample.units.of_image, column) for column in losses.T], axis=1)
        matrices = unit_matrices(sample, sample.predicted, len(cfg.classes))
        return matrix_metrics(matrices.sum(axis=0) - matrices, cfg) | loss_metrics(sums.sum(axis=0) - sums, cfg)

    def _of_ranking(self, key: Key) -> Influence | None:
        sample = self._sample
        labels, weights = class_weights(sample, key, self._cfg)
        if not all(has_both(sample.actual == label) for label in labels):
            return None
        per_image = delong_components if key.name == "auroc" else auprc_derivatives
        total = sum(
            weight * per_image(sample.actual == label, sample.probabilities[:, label])
            for label, weight in zip(labels, weights, strict=True)
        )
        values, of_image = np.asarray(total, float), sample.units.of_image
        if key.name == "auprc":
            return from_derivatives(values, of_image, self._strata, self._stratified)
        groups = sample.actual if len(labels) > 1 else (sample.actual == labels[0]).astype(np.int64)
        return from_components(values, groups, of_image)


def class_weights(sample: Sample, key: Key, cfg: EvalConfig) -> tuple[list[int], Floats]:
    """The classes that a metric of a ranking is of, and what each counts for."""
    labels = cfg.reported if key.class_ in (MACRO, WEIGHTED) else [cfg.classes.index(key.class_)]
    images = np.bincount(sample.actual, minlength=len(cfg.classes))[labels]
    weights = images if key.class_ == WEIGHTED else np.ones(len(labels))
    return labels, weights / max(weights.sum(), 1)


@dataclass(frozen=True)
class Swaps:
    """The confusion matrices of two experiments after every swap (outcomes, C, C), and how likely each outcome is."""

    first: Floats
    second: Floats
    chances: Floats
    exact: bool


def swap_units(first: Ints, second: Ints, n_permutations: int, seed: int) -> Swaps:
    """Swap whole units between two experiments, from the confusion matrices of each unit (units, C, C).

    If two experiments are alike, the predictions of each patient may be swapped between them, all images at once, and
    the difference in any metric is as likely as before (Fisher, The Design of Experiments, 1935, section 21). Units
    whose swap changes the same cells count together, since only how many of them are swapped matters. Where all
    outcomes are few enough, each is gone through with its chance; else `n_permutations` are drawn.
    """
    n_classes = first.shape[-1]
    kinds, counts = _kinds_of_swaps((first - second).reshape(len(first), -1))
    exact = prod(int(count) + 1 for count in counts) <= MAX_OUTCOMES
    times, chances = _all_outcomes(counts) if exact else _random_outcomes(counts, n_permutations, seed)
    change = (times @ kinds).reshape(-1, n_classes, n_classes)
    both = (first + second).sum(axis=0)
    return Swaps((both + change) / 2, (both - change) / 2, chances, exact)


def swap_p_value(differences: Floats, observed: float, swaps: Swaps) -> tuple[float, bool]:
    """Two-sided: how often a difference is at least as large as the observed one; True where p is only known as `<=`.

    What was observed counts as one of the draws (Phipson and Smyth, Stat Appl Genet Mol Biol 9 (2010) article 39).
    """
    extreme = np.abs(differences) >= abs(observed) - 1e-12
    if swaps.exact:
        return float(min(swaps.chances[extreme].sum(), 1.0)), False
    hits = int(extreme.sum())
    return (1 + hits) / (1 + len(extreme)), hits == 0


def sign_test(net: Ints) -> float:
    """The same p of the sum of `net` (units,), all signs of whole units gone through, however many they are.

    Where units are images, so that net is 1, 0 or -1, this is the exact McNemar test (McNemar, Psychometrika 12 (1947)
    153).
    """
    sizes = np.abs(net[net != 0]).astype(int)
    if (sizes <= 1).all():
        return float(stats.binomtest(int((net > 0).sum()), len(sizes)).pvalue) if len(sizes) else 1.0
    chances = np.ones(1)  # the distribution of the sum, in the end from -sizes.sum() to sizes.sum()
    for size in sizes:
        chances = np.convolve(chances, [0.5, *np.zeros(2 * size - 1), 0.5])
    sums = np.arange(len(chances)) - sizes.sum()
    return float(min(chances[np.abs(sums) >= abs(int(net.sum()))].sum(), 1.0))


def _kinds_of_swaps(changes: Ints) -> tuple[Ints, Ints]:
    """What a swap changes, as it is or the other way round, once each; and how many units change that."""
    changes = changes[changes.any(axis=1)]
    if not len(changes):
        return changes, np.zeros(0, np.int64)
    leading = np.take_along_axis(changes, (changes != 0).argmax(axis=1)[:, None], axis=1)
    kinds, counts = np.unique(changes * np.sign(leading), axis=0, return_counts=True)
    return kinds, counts.astype(np.int64)


def _all_outcomes(counts: Ints) -> tuple[Floats, Floats]:
    """Every outcome: by how many more units each kind is one way than the other (outcomes, kinds), and its chance."""
    if not len(counts):
        return np.zeros((1, 0)), np.ones(1)
    numbers = np.stack(np.meshgrid(*map(np.arange, counts + 1), indexing="ij"), axis=-1).reshape(-1, len(counts))
    chances = np.prod([stats.binom.pmf(numbers[:, k], n, 0.5) for k, n in enumerate(counts)], axis=0)
    return (2 * numbers - counts).astype(float), chances


def _random_outcomes(counts: Ints, n_permutations: int, seed: int) -> tuple[Floats, Floats]:
    numbers = np.random.default_rng(seed).binomial(counts, 0.5, (n_permutations, len(counts)))
    return (2 * numbers - counts).astype(float), np.full(n_permutations, 1 / n_permutations)
