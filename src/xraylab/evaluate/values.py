"""Every figure of classified images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xraylab.evaluate import counts, rates
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.ranking import areas, ranking
from xraylab.evaluate.rates import Matrices, Named
from xraylab.evaluate.units import Sample

Key = tuple[str, str]  # what it is of (a class, or one of the three below) and the figure's name
OVERALL, MACRO, WEIGHTED = "overall", "macro", "weighted"
AVERAGED = ("sensitivity", "specificity", "ppv", "npv", "fpr", "fnr", "f1", "auroc", "auprc")


@dataclass(frozen=True)
class Asked:
    """What figures are wanted of, and how sure they shall be."""

    classes: Sequence[str]
    positive: int | None  # of two classes; None: each class against the rest, and their means
    normal: int | None  # the class of healthy images
    prevalence: Floats | None  # (classes,), summing to 1
    confidence: float
    primary: str  # the figure that the sentences are about, of the positive class or the mean over classes
    margin: float  # the smallest difference in it that matters; 0: none was stated
    n_permutations: int
    seed: int

    @property
    def shown(self) -> list[int]:
        """The classes with figures of their own."""
        return list(range(len(self.classes))) if self.positive is None else [self.positive]


def values(sample: Sample, asked: Asked) -> dict[Key, float]:
    """Every figure of the images as they are, or its mean over their sources; NaN where one is not defined."""
    if sample.parts:
        each = [values(part, asked) for part in sample.parts]
        return {key: sum(part[key] for part in each) / len(each) for key in each[0]}
    sums = prepared(sample, asked).sum(axis=0)[None]
    found = of_matrices(confusion(sample, asked)[None], asked) | _of_rankings(sample, asked) | of_losses(sums, asked)
    return {key: float(figure[0]) for key, figure in found.items()}


def confusion(sample: Sample, asked: Asked) -> Ints:
    return counts.confusion(sample.actual, sample.predicted, len(asked.classes))


def of_matrices(matrices: Matrices, asked: Asked) -> dict[Key, Floats]:
    """The figures of confusion matrices (draws, C, C): key -> (draws,)."""
    each = rates.per_class(matrices, asked.normal, asked.prevalence)
    return _named(each, rates.overall(matrices), np.asarray(matrices, float).sum(axis=-1), asked)


def prepared(sample: Sample, asked: Asked) -> Floats:
    """(n, 2 C + 1): squared distance per class, -ln p of the actual class, and 1 for the actual class."""
    truth = np.eye(len(asked.classes))[sample.actual]
    squares = (sample.probabilities - truth) ** 2
    own = np.maximum((sample.probabilities * truth).sum(axis=1), np.finfo(np.float32).tiny)
    return np.column_stack([squares, -np.log(own), truth])


def of_losses(sums: Floats, asked: Asked) -> dict[Key, Floats]:
    """The figures of probabilities, from sums (draws, 2 C + 1) of `prepared` over images: key -> (draws,).

    Brier, Mon Weather Rev 78 (1950) 1: of a class, the mean squared distance of its probability from 0 or 1; overall,
    with two classes that of the positive one, with more the sum over classes.
    """
    classes = len(asked.classes)
    support = sums[:, classes + 1 :]
    brier = rates.ratio(sums[:, :classes], support.sum(axis=1, keepdims=True))
    overall = {
        "brier": brier.sum(axis=1) if asked.positive is None else brier[:, asked.positive],
        "log_loss": rates.ratio(sums[:, classes], support.sum(axis=1)),
    }
    return _named({"brier": brier}, overall, support, asked)


def _of_rankings(sample: Sample, asked: Asked) -> dict[Key, Floats]:
    aurocs, auprcs = np.full((2, 1, len(asked.classes)), np.nan)
    for label in asked.shown:
        order = ranking(sample.actual == label, sample.probabilities[:, label])
        aurocs[0, label], auprcs[0, label] = areas(order)
    support = np.bincount(sample.actual, minlength=len(asked.classes))[None].astype(float)
    return _named({"auroc": aurocs, "auprc": auprcs}, {}, support, asked)


def _named(each: Named, overall: Named, support: Floats, asked: Asked) -> dict[Key, Floats]:
    """The figures under their keys, with their means over classes where there are more than two."""
    found = {(OVERALL, name): figure for name, figure in overall.items()}
    for label in asked.shown:
        found |= {(asked.classes[label], name): figure[..., label] for name, figure in each.items()}
    if asked.normal in asked.shown:
        found.pop((asked.classes[asked.normal], "called_normal"), None)
    if asked.positive is None:
        shares = rates.ratio(support, support.sum(axis=-1, keepdims=True))
        for name in AVERAGED:
            if name in each:
                found[MACRO, name] = each[name].mean(axis=-1)
                found[WEIGHTED, name] = (each[name] * shares).sum(axis=-1)
    return found
