"""Classified images, and what is independent among them: patients where they are known, else images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xraylab.evaluate.confusion import Floats, Ints

MIN_PATIENTS = 5  # with fewer patients of a class there is no interval and no test
Texts = npt.NDArray[np.str_]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Units:
    """What counts as a whole, a patient or an image."""

    of_image: Ints  # (n,): the unit of each image
    strata: Ints  # (units,): units whose images have the same set of labels are one stratum
    patients: int | None  # how many are known; None: no image has one

    @property
    def clustered(self) -> bool:
        """True where a unit has several images, so that images are not independent."""
        return len(self.strata) < len(self.of_image)

    @property
    def description(self) -> str:
        """What the intervals take as independent."""
        if self.patients is None:
            return "patients are unknown, so each image counts as one patient"
        return "a patient counts once, with all images" if self.clustered else "each image is of another patient"


def group_by_patient(actual: Ints, patients: Texts) -> Units:
    """Images of one patient are one unit; an image whose patient is '' is one by itself. Both arrays are (n,)."""
    has_patient = patients != ""
    _, number = np.unique(np.where(has_patient, patients, ""), return_inverse=True)
    number = np.where(has_patient, number, len(patients) + np.arange(len(patients)))
    _, of_image = np.unique(number, return_inverse=True)
    of_image = of_image.astype(np.int64)
    return Units(of_image, _strata(actual, of_image), len(np.unique(patients[has_patient])) or None)


def _strata(actual: Ints, of_image: Ints) -> Ints:
    """The number of each unit's set of labels."""
    if not len(actual):
        return np.zeros(0, np.int64)
    has = np.zeros((int(of_image.max()) + 1, int(actual.max()) + 1), bool)
    has[of_image, actual] = True
    _, strata = np.unique(has, axis=0, return_inverse=True)
    return strata.ravel().astype(np.int64)


@dataclass(frozen=True)
class Sample:
    """Images with their actual classes (n,), class probabilities (n, classes) and patients (n,).

    `sources` (n,) where each source was scored by networks of its own, whose probabilities cannot be ordered together:
    a metric is then the mean over sources. `thresholds` (n,), with two classes: the probability of the second from
    which an image is classified as it.
    """

    actual: Ints
    probabilities: Floats
    patients: Texts
    sources: Texts | None = None
    thresholds: Floats | None = None

    @cached_property
    def by_source(self) -> list["Sample"]:
        """The images of each source, where there are several that cannot be ordered together; else none."""
        if self.sources is None:
            return []
        names = np.unique(self.sources)
        return [self[self.sources == name] for name in names] if len(names) > 1 else []

    @cached_property
    def predicted(self) -> Ints:
        """The class with the highest probability, the first of equals, or what the thresholds say."""
        if self.thresholds is not None:
            return (self.probabilities[:, 1] >= self.thresholds).astype(np.int64)
        highest: Ints = self.probabilities.argmax(axis=1)
        return highest

    @cached_property
    def units(self) -> Units:
        return group_by_patient(self.actual, self.patients)

    def n_units(self, label: int, rest: bool = False) -> int:
        """How many patients (images, where patients are unknown) have images of the class, or of another one."""
        classes = np.arange(self._classes_of_units.shape[1])
        return int(self._classes_of_units[:, (classes == label) != rest].any(axis=1).sum())

    @cached_property
    def _classes_of_units(self) -> Bools:
        """(units, classes): of which classes each unit has images."""
        has = np.zeros((len(self.units.strata), max(self.probabilities.shape[1], 2)), bool)
        has[self.units.of_image, self.actual] = True
        return has

    def __getitem__(self, rows: Bools | npt.NDArray[np.integer]) -> "Sample":
        sources = None if self.sources is None else self.sources[rows]
        thresholds = None if self.thresholds is None else self.thresholds[rows]
        return Sample(self.actual[rows], self.probabilities[rows], self.patients[rows], sources, thresholds)


def concatenate(samples: Sequence[Sample]) -> Sample:
    sources = [sample.sources for sample in samples if sample.sources is not None]
    return Sample(
        np.concatenate([sample.actual for sample in samples]),
        np.concatenate([sample.probabilities for sample in samples]),
        np.concatenate([sample.patients for sample in samples]),
        np.concatenate(sources) if sources else None,
    )


def unit_matrices(sample: Sample, predicted: Ints, n_classes: int) -> Ints:
    """Each unit's own confusion matrix: (units, classes, classes)."""
    n_units = len(sample.units.strata)
    cells = (sample.units.of_image * n_classes + sample.actual) * n_classes + predicted
    return np.bincount(cells, minlength=n_units * n_classes**2).reshape(n_units, n_classes, n_classes)
