"""Statistics of the training images, and the warnings about an image that they give."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from xraylab.data.pixels import Gray
from xraylab.errors import DataError
from xraylab.inference import warnings
from xraylab.inference.appearance import Appearance, LungLimits
from xraylab.inference.copies import WORDS, Copy, SeenHashes
from xraylab.inference.distances import Gaussian
from xraylab.inference.warnings import COPY_OF_TRAINING, Expected, ImageFacts, ImageWarning

Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]

VERSION = 1
Number = Annotated[float, Field(allow_inf_nan=False)]
GAUSSIANS = ("features", "layout")
SPLITS = {"train": "a training image", "valid": "a validation image, which chose the epoch and the thresholds"}


@dataclass(frozen=True)
class _Looks:
    limits: dict[str, Number]
    n_valid: Annotated[int, Field(gt=0)]
    rest: dict[str, Number]
    lungs: LungLimits | None


@dataclass(frozen=True)
class _Record:
    expected: Expected
    appearance: _Looks | None
    n_train: Annotated[int, Field(ge=0)] | None


RECORD: TypeAdapter[_Record] = TypeAdapter(_Record)
"""What is no array of a reference."""


@dataclass(frozen=True)
class Reference:
    """Statistics of the training and validation images of a run."""

    appearance: Appearance | None
    """None where there are too few validation images to fix limits."""
    expected: Expected
    hashes: SeenHashes | None
    """None where copies are not looked for."""

    def check(self, images: Gray, features: Floats, facts: Sequence[ImageFacts]) -> list[list[ImageWarning]]:
        """The warnings about each image, in the order of `warnings.CODES`.

        `images` (n, size, size) are prepared by the run's classifier, `features` (n, width) are `Scores.features`.
        """
        looks = self.appearance.check(images, features) if self.appearance and len(images) else [[] for _ in images]
        return [
            warnings.in_order(
                [
                    *warnings.of_dicom(each.dicom, self.expected),
                    *warnings.of_pixels(image, each),
                    *look,
                    *self._copy(each),
                ]
            )
            for image, each, look in zip(images, facts, looks, strict=True)
        ]

    def may_be_copy(self, gray: Gray) -> bool:
        """Return False for decoded images that are no copy, as `SeenHashes.may_hold`; for all without hashes."""
        return self.hashes is not None and self.hashes.may_hold(gray)

    def without_hashes(self) -> "Reference":
        """The same without hashes of images, so that copies are not looked for."""
        return replace(self, hashes=None)

    def to_tensors(self) -> tuple[Tensors, dict[str, Any]]:
        """Arrays, and all else as JSON has it."""
        tensors: Tensors = {}
        record: dict[str, Any] = {"version": VERSION, "expected": asdict(self.expected), "appearance": None}
        if self.appearance:
            gaussians = {name: getattr(self.appearance, name) for name in GAUSSIANS}
            for name, gaussian in gaussians.items():
                tensors |= {f"{name}.{key}": getattr(gaussian, key) for key in ("mean", "components", "variances")}
            numbers = {key: getattr(self.appearance, key) for key in ("limits", "n_valid")}
            rest = {name: gaussian.rest for name, gaussian in gaussians.items()}
            lungs = asdict(self.appearance.lungs) if self.appearance.lungs else None
            record["appearance"] = {**numbers, "rest": rest, "lungs": lungs}
        if self.hashes:  # as bytes: not every reader of safetensors knows unsigned integers of 64 bits
            tensors |= {f"hashes.{key}": getattr(self.hashes, key).view(np.uint8) for key in ("whole", "inside")}
        record["n_train"] = self.hashes.n_train if self.hashes else None
        return tensors, record

    @classmethod
    def from_tensors(cls, tensors: Tensors, record: dict[str, Any]) -> "Reference":
        """As `to_tensors` has made them.

        Errors: DataError where another version of xraylab has made them, KeyError and ValueError where none has.
        """
        if record["version"] != VERSION:
            raise DataError("the statistics of the training images are of another version of xraylab: install that one")
        told = RECORD.validate_python(record)
        appearance = _appearance(tensors, told.appearance) if told.appearance else None
        if told.n_train is None:
            return cls(appearance, told.expected, None)
        whole, inside = (np.ascontiguousarray(tensors[f"hashes.{key}"]).view(np.uint64) for key in ("whole", "inside"))
        if not whole.shape == inside.shape == (WORDS, whole.shape[-1]):
            raise ValueError(f"hashes of the shapes {whole.shape} and {inside.shape}")
        return cls(appearance, told.expected, SeenHashes(whole, inside, told.n_train))

    def _copy(self, facts: ImageFacts) -> list[ImageWarning]:
        copy: Copy | None = self.hashes.find(facts.look) if self.hashes and facts.look else None
        if copy is None:
            return []
        text = f"has the picture of {SPLITS[copy.split]}: {copy.bits} of 256 bits of their hashes differ"
        return [ImageWarning(COPY_OF_TRAINING, text)]


def _appearance(tensors: Tensors, record: _Looks) -> Appearance:
    """Errors: KeyError, and ValueError where the arrays do not fit together."""
    for name in GAUSSIANS:
        mean, components, variances = (tensors[f"{name}.{key}"] for key in ("mean", "components", "variances"))
        if (mean.ndim, variances.ndim) != (1, 1) or components.shape != (len(variances), len(mean)):
            raise ValueError(f"{name} has components of another width than its mean")
    features, layout = (
        Gaussian(
            tensors[f"{name}.mean"], tensors[f"{name}.components"], tensors[f"{name}.variances"], record.rest[name]
        )
        for name in GAUSSIANS
    )
    if absent := {*GAUSSIANS, *(["lungs"] if record.lungs else [])} - set(record.limits):
        raise ValueError(f"no limit of {', '.join(sorted(absent))}")
    return Appearance(features, layout, record.limits, record.n_valid, record.lungs)
