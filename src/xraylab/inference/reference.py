"""Statistics of the training images, and the warnings about an image that they give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xraylab.data.pixels import Gray
from xraylab.inference.warnings import ImageFacts, ImageWarning

Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """What the training and validation images of a run have in common."""

    def check(self, images: Gray, features: Floats, facts: Sequence[ImageFacts]) -> list[list[ImageWarning]]:
        """The warnings about each image, in the order of `warnings.CODES`.

        `images` (n, size, size) are prepared by the run's classifier, `features` (n, width) are `Scores.features`.
        """
        return [[] for _ in facts]

    def without_hashes(self) -> "Reference":
        """The same without hashes of images, so that copies are not looked for."""
        return self

    def to_tensors(self) -> tuple[Tensors, dict[str, Any]]:
        """Arrays, and all else as JSON has it."""
        return {}, {}

    @classmethod
    def from_tensors(cls, tensors: Tensors, record: dict[str, Any]) -> "Reference":
        """As `to_tensors` has made them."""
        return cls()
