"""How far each unit moves every figure of a sample: of its confusion matrix, its probabilities and its rankings."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from xraylab.evaluate import delong, influence, ranking
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.influence import Influence
from xraylab.evaluate.units import LEAST, Sample
from xraylab.evaluate.values import MACRO, WEIGHTED, Asked, Key, of_losses, of_matrices, prepared

RANKED = ("auroc", "auprc")


class Influences:
    """The influences of one sample's figures, each computed when it is first wanted."""

    def __init__(self, sample: Sample, asked: Asked) -> None:
        self._sample, self._asked = sample, asked
        self._parts = [Influences(part, asked) for part in sample.parts]
        self._strata = influence.merged(sample.units.strata, LEAST)

    def of(self, key: Key) -> Influence | None:
        """None where a figure has none: it, or it without some unit, is not defined. Sources share no patient."""
        if self._parts:
            each = [own for part in self._parts if (own := part.of(key)) is not None]
            return influence.over_parts(each) if len(each) == len(self._parts) else None
        if key[1] in RANKED:
            return self._ranked(key)
        left_out = self._left_out.get(key)
        if left_out is None or np.isnan(left_out).any():
            return None
        return influence.of_left_out(left_out, self._strata)

    @cached_property
    def _left_out(self) -> dict[Key, Floats]:
        """Every figure of counts and losses with each unit left out: (units,)."""
        units, losses = self._sample.units, prepared(self._sample, self._asked)
        sums = np.stack([np.bincount(units.of, column) for column in losses.T], axis=1)
        cells = cells_by_unit(self._sample, self._sample.predicted, len(self._asked.classes))
        return of_matrices(cells.sum(axis=0) - cells, self._asked) | of_losses(sums.sum(axis=0) - sums, self._asked)

    def _ranked(self, key: Key) -> Influence | None:
        labels, shares = weights(self._sample, key, self._asked)
        every = [self._of_class(label, key[1]) for label in labels]
        if any(own is None for own in every):
            return None
        total = sum(share * own for share, own in zip(shares, every, strict=True) if own is not None)
        moved = np.asarray(total, float)
        sample = self._sample
        if key[1] == "auprc":
            return influence.of_derivatives(moved, sample.units.of, self._strata)
        return delong.moved(moved, sample, labels[0] if len(labels) == 1 else None)

    def _of_class(self, label: int, figure: str) -> Floats | None:
        if figure == "auroc":
            return delong.of_class(self._sample, label)
        positive = self._sample.actual == label
        if not 0 < positive.sum() < len(positive):
            return None
        return ranking.derivatives(positive, self._sample.probabilities[:, label])


def weights(sample: Sample, key: Key, asked: Asked) -> tuple[list[int], Floats]:
    """The classes that a ranked figure is of, and what each counts for."""
    labels = asked.shown if key[0] in (MACRO, WEIGHTED) else [list(asked.classes).index(key[0])]
    images = np.bincount(sample.actual, minlength=len(asked.classes))[labels]
    counts = images if key[0] == WEIGHTED else np.ones(len(labels))
    return labels, counts / max(counts.sum(), 1)


def cells_by_unit(sample: Sample, predicted: Ints, classes: int) -> npt.NDArray[np.int64]:
    """Each unit's own confusion matrix: (units, classes, classes)."""
    units = len(sample.units.strata)
    cells = (sample.units.of * classes + sample.actual) * classes + predicted
    return np.bincount(cells, minlength=units * classes**2).reshape(units, classes, classes)
