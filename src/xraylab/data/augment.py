"""Random changes to training images: what is drawn for each, and one pass over its gray levels that applies it."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]
Levels = NDArray[np.float32]
DRAWS = 20  # uniform numbers an image and epoch
# torchvision's RandomResizedCrop and RandomErasing: ratios of width to height, and the erased share of the area
CROP_RATIO, ERASE_RATIO, ERASE_SHARE = (3 / 4, 4 / 3), (0.3, 3.3), (0.02, 0.33)
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
    noise: NDArray[np.int64] | None
    """What each image's noise grows from."""
    erased: Floats | None
    """(n, 4): top, bottom, left and right of what is erased, in shares of the height and width."""

    def of(self, positions: NDArray[np.int64]) -> "Drawn":
        matrices = None if self.matrices is None else self.matrices[positions]
        noise = None if self.noise is None else self.noise[positions]
        erased = None if self.erased is None else self.erased[positions]
        return Drawn(
            self.sharpen[positions], matrices, self.brightness[positions], self.contrast[positions], noise, erased
        )


@dataclass(frozen=True)
class Augmentation:
    """How strong each change may be, named and computed as in torchvision v2 (RandomAffine, ColorJitter, ...).

    Sharpening acts on the image as it is cached; then, in one step on what the network sees, crop, flips, and rotation,
    shift, zoom and shear; then brightness, then contrast about the mean, without rounding in between; then noise; and
    in the end a rectangle is erased, to the network's zero.
    """

    rotation: float
    shift: float
    zoom: float
    shear: float
    hflip_p: float
    vflip_p: float
    crop_scale: float
    brightness: float
    sharpness_factor: float
    sharpness_p: float
    contrast: float
    noise: float
    erase_p: float

    def draw(self, uniform: Floats) -> Drawn:
        """From numbers uniform in [0, 1), (n, DRAWS), to what happens to each image."""
        signed = 2 * uniform - 1
        return Drawn(
            sharpen=uniform[:, 0] < self.sharpness_p,
            matrices=self._matrices(uniform, signed) if self._moves else None,
            brightness=1 + self.brightness * signed[:, 6],
            contrast=1 + self.contrast * signed[:, 1],
            noise=(uniform[:, 19] * 2**53).astype(np.int64) if self.noise > 0 else None,
            erased=self._erased(uniform[:, 14:19]) if self.erase_p > 0 else None,
        )

    @property
    def changes(self) -> bool:
        """Whether any image may come out otherwise than it is."""
        strengths = (self.brightness, self.sharpness_p, self.contrast, self.noise, self.erase_p)
        return self._moves or any(strength > 0 for strength in strengths)

    @property
    def _moves(self) -> bool:
        strengths = (self.rotation, self.shift, self.zoom, self.shear, self.hflip_p, self.vflip_p)
        return any(strength > 0 for strength in strengths) or self.crop_scale < 1

    def _matrices(self, uniform: Floats, signed: Floats) -> Floats:
        angle, scale = np.deg2rad(self.rotation * signed[:, 2]), 1 + self.zoom * signed[:, 5]
        cos, sin, slant = np.cos(angle) / scale, np.sin(angle) / scale, np.tan(np.deg2rad(self.shear * signed[:, 9]))
        dx, dy = self.shift * signed[:, 3], self.shift * signed[:, 4]
        linear = [[cos - sin * slant, cos * slant + sin], [-sin, cos]]
        rows = np.array([[*row, -(row[0] * dx + row[1] * dy)] for row in linear]).transpose(2, 0, 1)
        flips = np.where(uniform[:, 7:9] < (self.hflip_p, self.vflip_p), -1.0, 1.0)
        if self.crop_scale == 1:
            return np.asarray(rows * flips[:, :, None])
        corner, size = _boxes(uniform[:, 10:14], (self.crop_scale, 1.0), CROP_RATIO)
        rows = rows * (flips * size)[:, :, None]
        rows[:, :, 2] += corner + size / 2 - 0.5
        return np.asarray(rows)

    def _erased(self, uniform: Floats) -> Floats:
        corner, size = _boxes(uniform[:, 1:], ERASE_SHARE, ERASE_RATIO)
        size = size * (uniform[:, :1] < self.erase_p)
        (left, top), (right, bottom) = corner.T, (corner + size).T
        return np.stack([top, bottom, left, right], axis=1)


def _boxes(uniform: Floats, share: tuple[float, float], ratio: tuple[float, float]) -> tuple[Floats, Floats]:
    """Upper left corners and sizes (n, 2), width first, in shares of the image.

    As torchvision draws them, evenly in the area and in the logarithm of the ratio; where it would draw again because
    a side is too long, that side is the image's.
    """
    area = share[0] + (share[1] - share[0]) * uniform[:, 0]
    low, high = np.log(ratio)
    root = np.exp((low + (high - low) * uniform[:, 1]) / 2)
    size = np.minimum(np.sqrt(area)[:, None] * np.stack([root, 1 / root], axis=1), 1.0)
    return uniform[:, 2:4] * (1 - size), size


def sharpening_kernel(factor: float) -> Levels:
    """The 3 x 3 filter of torchvision's adjust_sharpness: away from (or towards) the smoothed image."""
    kernel = SMOOTH * (1 - factor)
    kernel[1, 1] += factor
    return np.asarray(kernel, np.float32)


def sharpened(image: Gray, factor: float) -> Gray:
    """torchvision's adjust_sharpness; the outermost pixels stay."""
    changed = np.asarray(cv2.filter2D(image, -1, sharpening_kernel(factor)), np.uint8)
    for edge in ((0,), (-1,), (slice(None), 0), (slice(None), -1)):
        changed[edge] = image[edge]
    return changed


@cache
def area_weights(source: int, target: int) -> Levels:
    """W (target, source), the share of each source pixel in each target pixel; every row sums to 1.

    W @ image @ W.T, rounded, is the one definition of resizing a (source, source) image, smaller or larger: each pixel
    is the mean of the area that it covers.
    """
    after, before = np.arange(target + 1)[:, None] * source, np.arange(source + 1)[None] * target  # edges of pixels
    common = np.minimum(after[1:], before[:, 1:]) - np.maximum(after[:-1], before[:, :-1])
    weights = np.asarray(common.clip(min=0) / source, np.float32)
    weights.flags.writeable = False  # one array for all who ask
    return weights


def resized(image: Gray, pixels: int) -> Gray:
    """An image (n, n) as (pixels, pixels), as `area_weights` says; OpenCV computes the same faster where it shrinks."""
    if image.shape[0] == pixels:
        return image
    if pixels < image.shape[0]:
        return np.asarray(cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA), np.uint8)
    weights = area_weights(image.shape[0], pixels)  # OpenCV's INTER_AREA takes wrong pixels at some sizes, as 38 to 42
    return np.asarray(np.rint(weights @ image @ weights.T), np.uint8)


def moved(image: Gray, matrix: Floats) -> Gray:
    """Taken from where `matrix` says; black from outside."""
    centre = (image.shape[0] - 1) / 2
    linear, share = matrix[:, :2], matrix[:, 2]
    offset = centre - linear @ (centre, centre) + share * image.shape[0]
    whole = np.column_stack([linear, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, whole, image.shape[::-1], flags=flags), np.uint8)


def levels(brightness: float, contrast: float, mean: float) -> Levels:
    """What becomes of each of the 256 gray levels, in [0, 1]; `mean` is the image's, which contrast turns about."""
    bright = np.clip(np.arange(256) * brightness, 0, 255)
    changed = bright * contrast + min(mean * brightness, 255) * (1 - contrast)
    return np.asarray(np.clip(changed, 0, 255) / 255, np.float32)


def changed(image: Gray, drawn: Drawn, number: int, sharpness_factor: float, pixels: int) -> tuple[Gray, Levels]:
    """One image as it is drawn in row `number`, but for noise and erasing, and what becomes of its 256 levels."""
    if drawn.sharpen[number]:
        image = sharpened(image, sharpness_factor)
    image = resized(image, pixels)
    brightness, contrast = float(drawn.brightness[number]), float(drawn.contrast[number])
    mean = cv2.mean(image)[0] if contrast != 1 else 0.0
    if drawn.matrices is not None:
        image = moved(image, drawn.matrices[number])
    return image, levels(brightness, contrast, mean)


def grain(seed: int, pixels: int) -> Levels:
    """Standard normal noise (pixels, pixels), float32, the same for the same seed."""
    return np.random.Generator(np.random.SFC64(seed)).standard_normal((pixels, pixels), np.float32)


def span(erased: Floats, pixels: int) -> tuple[slice, slice]:
    """The rows and columns of one image that are erased."""
    top, bottom, left, right = (round(edge * pixels) for edge in erased)
    return slice(top, bottom), slice(left, right)


def shown(image: Gray, drawn: Drawn, number: int, augmentation: Augmentation, pixels: int, zero: float) -> Gray:
    """What the network is shown, for people; `zero` is the level, from 0 to 1, that it takes for 0."""
    image, table = changed(image, drawn, number, augmentation.sharpness_factor, pixels)
    result = table[image]
    if drawn.noise is not None:
        result = np.clip(result + augmentation.noise * grain(int(drawn.noise[number]), pixels), 0, 1)
    if drawn.erased is not None:
        result[span(drawn.erased[number], pixels)] = zero
    return np.asarray(np.rint(result * 255), np.uint8)
