"""Would it matter which experiment predicted what? The randomisation test that swaps whole patients.

If two experiments are alike, the predictions of each patient may be swapped between them, all images at once, and the
difference in any figure is as likely as before (Fisher, The Design of Experiments, 1935, section 21). Patients whose
swap changes the same cells count together, since only how many of them are swapped matters. Where all outcomes are few
enough, each is gone through with its chance; else they are drawn, and what was seen counts as one of the draws (Phipson
and Smyth, Stat Appl Genet Mol Biol 9 (2010) article 39).
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from scipy import stats

from xraylab.evaluate.counts import Floats, Ints

OUTCOMES = 100_000  # that many are gone through one by one


@dataclass(frozen=True)
class Swaps:
    """Both confusion matrices after every swap (outcomes, C, C), and how often each outcome is."""

    first: Floats
    second: Floats
    chances: Floats
    exact: bool


def swaps(first: Ints, second: Ints, n_permutations: int, seed: int) -> Swaps:
    """From the matrices of each unit (units, C, C). Drawn swaps are `n_permutations`."""
    classes = first.shape[-1]
    kinds, counts = _kinds((first - second).reshape(len(first), -1))
    exact = prod(int(count) + 1 for count in counts) <= OUTCOMES
    times, chances = _all(counts) if exact else _drawn(counts, n_permutations, seed)
    moved = (times @ kinds).reshape(-1, classes, classes)
    both = (first + second).sum(axis=0)
    return Swaps((both + moved) / 2, (both - moved) / 2, chances, exact)


def p_value(differences: Floats, seen: float, swaps: Swaps) -> tuple[float, bool]:
    """Two-sided: how often a difference is at least as large as the one seen. And whether it is only known as `<=`."""
    far = np.abs(differences) >= abs(seen) - 1e-12
    if swaps.exact:
        return float(min(swaps.chances[far].sum(), 1.0)), False
    hits = int(far.sum())
    return (1 + hits) / (1 + len(far)), hits == 0


def signs(net: Ints) -> float:
    """The same p of the sum of `net` (units,), all signs of whole units gone through, however many they are.

    Where units are images, so that net is 1, 0 or -1, this is the exact McNemar test (McNemar, Psychometrika 12 (1947)
    153).
    """
    sizes = np.abs(net[net != 0]).astype(int)
    if (sizes <= 1).all():
        return float(stats.binomtest(int((net > 0).sum()), len(sizes)).pvalue) if len(sizes) else 1.0
    chances = np.ones(1)
    for size in sizes:  # the distribution of the sum, from -sizes.sum() to sizes.sum()
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    sums = np.arange(len(chances)) - sizes.sum()
    return float(min(chances[np.abs(sums) >= abs(int(net.sum()))].sum(), 1.0))


def _kinds(moved: Ints) -> tuple[Ints, Ints]:
    """What a swap changes, as it is or the other way round, once each; and how many units change that."""
    moved = moved[moved.any(axis=1)]
    if not len(moved):
        return moved, np.zeros(0, np.int64)
    leading = np.take_along_axis(moved, (moved != 0).argmax(axis=1)[:, None], axis=1)
    kinds, counts = np.unique(moved * np.sign(leading), axis=0, return_counts=True)
    return kinds, counts.astype(np.int64)


def _all(counts: Ints) -> tuple[Floats, Floats]:
    """Every outcome: by how many more units each kind is one way than the other (outcomes, kinds), and its chance."""
    if not len(counts):
        return np.zeros((1, 0)), np.ones(1)
    each = [np.arange(count + 1) for count in counts]
    numbers = np.stack(np.meshgrid(*each, indexing="ij"), axis=-1).reshape(-1, len(counts))
    chances = np.prod([stats.binom.pmf(numbers[:, k], n, 0.5) for k, n in enumerate(counts)], axis=0)
    return (2 * numbers - counts).astype(float), chances


def _drawn(counts: Ints, n_permutations: int, seed: int) -> tuple[Floats, Floats]:
    numbers = np.random.default_rng(seed).binomial(counts, 0.5, (n_permutations, len(counts)))
    return (2 * numbers - counts).astype(float), np.full(n_permutations, 1 / n_permutations)
