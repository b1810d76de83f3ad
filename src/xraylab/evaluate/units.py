"""What is independent: patients where they are known, else images; and the strata that they are of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xraylab.evaluate.counts import Floats, Ints

LEAST = 5  # with fewer patients of a class there is no interval and no test


@dataclass(frozen=True)
class Units:
    """What counts as a whole.

    `of` (n,) says to which unit each image belongs, `strata` (units,) to which group of units each does: those whose
    images have the same set of labels.
    """

    of: Ints
    strata: Ints
    patients: int | None  # how many are known; None: no image has one

    @property
    def repeat(self) -> bool:
        """Whether a unit has several images, so that images are not independent."""
        return len(self.strata) < len(self.of)

    @property
    def why(self) -> str:
        """What the intervals take as independent, in words."""
        if self.patients is None:
            return "patients are unknown, so each image counts as one patient"
        return "a patient counts once, with all images" if self.repeat else "each image is of another patient"


def units(actual: Ints, patients: npt.NDArray[np.str_]) -> Units:
    """Images of one patient are one unit; an image whose patient is '' is one by itself. Both arrays are (n,)."""
    known = patients != ""
    _, of = np.unique(np.where(known, patients, ""), return_inverse=True)
    alone = np.flatnonzero(~known)
    of = of.astype(np.int64)
    of[alone] = len(patients) + np.arange(len(alone))
    _, of = np.unique(of, return_inverse=True)
    return Units(of.astype(np.int64), _strata(actual, of), len(np.unique(patients[known])) or None)


def _strata(actual: Ints, of: Ints) -> Ints:
    """The number of each unit's set of labels."""
    if not len(actual):
        return np.zeros(0, np.int64)
    has = np.zeros((int(of.max()) + 1, int(actual.max()) + 1), bool)
    has[of, actual] = True
    _, strata = np.unique(has, axis=0, return_inverse=True)
    return strata.ravel().astype(np.int64)


@dataclass(frozen=True)
class Sample:
    """Images with their actual classes (n,), class probabilities (n, classes) and patients (n,).

    `sources` (n,) where each source was scored by networks of its own, whose probabilities cannot be ordered together:
    a figure is then the mean over sources.
    """

    actual: Ints
    probabilities: Floats
    patients: npt.NDArray[np.str_]
    sources: npt.NDArray[np.str_] | None = None

    @cached_property
    def parts(self) -> list["Sample"]:
        """The images of each source, where there are several that cannot be ordered together; else none."""
        if self.sources is None:
            return []
        names = np.unique(self.sources)
        return [self[self.sources == name] for name in names] if len(names) > 1 else []

    @cached_property
    def predicted(self) -> Ints:
        """The class with the highest probability, the first of equals."""
        highest: Ints = self.probabilities.argmax(axis=1)
        return highest

    @cached_property
    def units(self) -> Units:
        return units(self.actual, self.patients)

    def patients_of(self, label: int, but: bool = False) -> int:
        """How many patients (images, where patients are unknown) have images of the class, or of another one."""
        return int(self._has[:, np.arange(self._has.shape[1]) != label if but else [label]].any(axis=1).sum())

    @cached_property
    def _has(self) -> npt.NDArray[np.bool_]:
        """(units, classes): of which classes each unit has images."""
        has = np.zeros((len(self.units.strata), max(self.probabilities.shape[1], 2)), bool)
        has[self.units.of, self.actual] = True
        return has

    def __getitem__(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> "Sample":
        sources = None if self.sources is None else self.sources[chosen]
        return Sample(self.actual[chosen], self.probabilities[chosen], self.patients[chosen], sources)


def joined(samples: Sequence[Sample]) -> Sample:
    sources = [sample.sources for sample in samples if sample.sources is not None]
    return Sample(
        np.concatenate([sample.actual for sample in samples]),
        np.concatenate([sample.probabilities for sample in samples]),
        np.concatenate([sample.patients for sample in samples]),
        np.concatenate(sources) if sources else None,
    )
