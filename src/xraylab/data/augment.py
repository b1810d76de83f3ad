"""Random changes to training images: what is drawn for each, and one pass over its gray levels that applies it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]
DRAWS = 7  # uniform numbers an image and epoch
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # what torchvision sharpens against


@dataclass(frozen=True)
class Drawn:
    """What happens to each of n images: chosen rows of these arrays make a batch."""

    sharpen: NDArray[np.bool_]
    matrices: Floats | None
    """(n, 2, 3): where in the image, in pixels from its centre, a place of the result is taken from; the last column is
    in shares of the width."""
    brightness: Floats
    contrast: Floats

    def of(self, positions: NDArray[np.int64]) -> "Drawn":
        matrices = None if self.matrices is None else self.matrices[positions]
        return Drawn(self.sharpen[positions], matrices, self.brightness[positions], self.contrast[positions])


@dataclass(frozen=True)
class Augmentation:
    """How strong each change may be, named and computed as in torchvision v2 (RandomAffine, ColorJitter, ...).

    Sharpening acts on the image as it is cached, then rotation, shift and zoom on what the network sees, then
    brightness, then contrast about the mean; the last two without rounding in between.
    """

    rotation: float
    shift: float
    zoom: float
    brightness: float
    sharpness_factor: float
    sharpness_p: float
    contrast: float

    def draw(self, uniform: Floats) -> Drawn:
        """From numbers uniform in [0, 1), (n, DRAWS), to what happens to each image."""
        signed = 2 * uniform - 1
        moves = self.rotation > 0 or self.shift > 0 or self.zoom > 0
        return Drawn(
            sharpen=uniform[:, 0] < self.sharpness_p,
            matrices=self._matrices(signed[:, 2:6]) if moves else None,
            brightness=1 + self.brightness * signed[:, 6],
            contrast=1 + self.contrast * signed[:, 1],
        )

    def _matrices(self, signed: Floats) -> Floats:
        angle, scale = np.deg2rad(self.rotation * signed[:, 0]), 1 + self.zoom * signed[:, 3]
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        dx, dy = self.shift * signed[:, 1], self.shift * signed[:, 2]
        rows = [[cos, sin, -(cos * dx + sin * dy)], [-sin, cos, sin * dx - cos * dy]]
        return np.array(rows).transpose(2, 0, 1)


def sharpened(image: Gray, factor: float) -> Gray:
    """torchvision's adjust_sharpness: away from (or towards) the smoothed image; the outermost pixels stay."""
    kernel = SMOOTH * (1 - factor)
    kernel[1, 1] += factor
    changed = np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
    for edge in ((0,), (-1,), (slice(None), 0), (slice(None), -1)):
        changed[edge] = image[edge]
    return changed


def resized(image: Gray, pixels: int) -> Gray:
    """To (pixels, pixels), each pixel the mean of the area that it covers."""
    if image.shape[0] == pixels:
        return image
    return np.asarray(cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA), np.uint8)


def moved(image: Gray, matrix: Floats) -> Gray:
    """Taken from where `matrix` says; black from outside."""
    centre = (image.shape[0] - 1) / 2
    linear, share = matrix[:, :2], matrix[:, 2]
    offset = centre - linear @ (centre, centre) + share * image.shape[0]
    whole = np.column_stack([linear, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, whole, image.shape[::-1], flags=flags), np.uint8)


def levels(brightness: float, contrast: float, mean: float) -> NDArray[np.float32]:
    """What becomes of each of the 256 gray levels, in [0, 1]; `mean` is the image's, which contrast turns about."""
    bright = np.clip(np.arange(256) * brightness, 0, 255)
    changed = bright * contrast + min(mean * brightness, 255) * (1 - contrast)
    return np.asarray(np.clip(changed, 0, 255) / 255, np.float32)
