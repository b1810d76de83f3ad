"""Augmentation: sample the changes of each training image, and apply them in one pass over its gray levels."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]
Levels = NDArray[np.float32]
DRAWS = 20  # uniform numbers an image and epoch
MORE_DRAWS = 6  # those of what came later, from a stream of their own, so that the first ones stay what they were
TTA_STREAM, MORE_STREAM = 2, 3
LEVELS = 256
BLUR_REACH = 3  # standard deviations of a Gaussian that are looked at
# torchvision's RandomResizedCrop and RandomErasing: ratios of width to height, and the erased share of the area
CROP_RATIO, ERASE_RATIO, ERASE_SHARE = (3 / 4, 4 / 3), (0.3, 3.3), (0.02, 0.33)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # what torchvision sharpens against


@dataclass(frozen=True)
class SampledAugmentation:
    """Sampled changes of n images; rows of these arrays make a batch."""

    luts: Gray | None
    """(n, 256): what becomes of each gray level of the image as it is cached."""
    references: Floats | None
    """Training image whose histogram is matched, as a fraction of their number; -1 for none."""
    sharpen: NDArray[np.bool_]
    blur: Floats | None
    """Standard deviations of a Gaussian blur, in pixels that the network sees; 0 where nothing is blurred."""
    matrices: Floats | None
    """(n, 2, 3): where in the image, in pixels from its centre, a place of the result is taken from; the last column is
    in shares of the width."""
    brightness: Floats
    contrast: Floats
    noise: NDArray[np.int64] | None
    """Seed of each image's noise."""
    erased: Floats | None
    """(n, 4): top, bottom, left and right of what is erased, in shares of the height and width."""

    def of(self, positions: NDArray[np.int64]) -> "SampledAugmentation":
        rows: dict[str, Any] = {key: None if each is None else each[positions] for key, each in vars(self).items()}
        return SampledAugmentation(**rows)


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the changes, named and computed as in torchvision v2 (RandomAffine, ColorJitter, ...).

    A histogram that is matched, then gamma, then sharpening act on the image as it is cached; blur on what the network
    sees; then, in one step on what the network sees, crop, flips, and rotation,
    shift, scale and shear; then brightness, then contrast about the mean, without rounding in between; then noise; and
    in the end a rectangle is erased, to the network's zero.
    """

    degrees: float
    translate: float
    scale: Sequence[float]
    shear: float
    p_hflip: float
    p_vflip: float
    crop_scale: float
    brightness: float
    sharpness_factor: float
    p_sharpness: float
    contrast: float
    noise_std: float
    p_erase: float
    gamma: float
    p_histogram_matching: float
    p_blur: float
    blur_sigma: float

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> "Augmentation":
        """As model.json has it."""
        return cls(**record)

    def draw(self, uniform: Floats) -> SampledAugmentation:
        """Sample the changes of n images from `uniform` numbers in [0, 1), (n, DRAWS + MORE_DRAWS)."""
        signed = 2 * uniform - 1
        later = uniform[:, DRAWS:]
        return SampledAugmentation(
            luts=gamma_luts((1 + self.gamma) ** signed[:, DRAWS]) if self.gamma > 0 else None,
            references=np.where(later[:, 1] < self.p_histogram_matching, later[:, 2], -1.0)
            if self.p_histogram_matching > 0
            else None,
            sharpen=uniform[:, 0] < self.p_sharpness,
            blur=np.where(later[:, 3] < self.p_blur, self.blur_sigma * later[:, 4], 0.0) if self.p_blur > 0 else None,
            matrices=self._matrices(uniform, signed) if self._moves else None,
            brightness=1 + self.brightness * signed[:, 6],
            contrast=1 + self.contrast * signed[:, 1],
            noise=(uniform[:, 19] * 2**53).astype(np.int64) if self.noise_std > 0 else None,
            erased=self._erased(uniform[:, 14:19]) if self.p_erase > 0 else None,
        )

    def for_tta(self) -> "Augmentation":
        """Without noise, erasing and histogram matching, which test-time augmentation leaves out."""
        return replace(self, noise_std=0.0, p_erase=0.0, p_histogram_matching=0.0)

    def draw_copies(self, n: int, images: int, seed: int) -> Iterator[SampledAugmentation]:
        """Sample `n` augmented copies of each image for test-time augmentation."""
        for copy in range(n):
            yield self.draw(uniform([seed, copy, TTA_STREAM], images))

    @property
    def changes(self) -> bool:
        """Return whether any image may be changed."""
        levels = (self.brightness, self.contrast, self.gamma, self.p_histogram_matching)
        other_strengths = (self.p_sharpness, self.p_blur, self.noise_std, self.p_erase)
        return self._moves or any(strength > 0 for strength in (*levels, *other_strengths))

    @property
    def _moves(self) -> bool:
        strengths = (self.degrees, self.translate, self.shear, self.p_hflip, self.p_vflip)
        return any(strength > 0 for strength in strengths) or self.crop_scale < 1 or tuple(self.scale) != (1, 1)

    def _matrices(self, uniform: Floats, signed: Floats) -> Floats:
        low, high = self.scale
        centre, half = round((low + high) / 2, 12), round((high - low) / 2, 12)  # of 0.9 to 1.1: 1 and 0.1 to the bit
        angle, scale = np.deg2rad(self.degrees * signed[:, 2]), centre + half * signed[:, 5]
        cos, sin, slant = np.cos(angle) / scale, np.sin(angle) / scale, np.tan(np.deg2rad(self.shear * signed[:, 9]))
        dx, dy = self.translate * signed[:, 3], self.translate * signed[:, 4]
        linear = [[cos - sin * slant, cos * slant + sin], [-sin, cos]]
        rows = np.array([[*row, -(row[0] * dx + row[1] * dy)] for row in linear]).transpose(2, 0, 1)
        flips = np.where(uniform[:, 7:9] < (self.p_hflip, self.p_vflip), -1.0, 1.0)
        if self.crop_scale == 1:
            return np.asarray(rows * flips[:, :, None])
        corner, size = _boxes(uniform[:, 10:14], (self.crop_scale, 1.0), CROP_RATIO)
        rows = rows * (flips * size)[:, :, None]
        rows[:, :, 2] += corner + size / 2 - 0.5
        return np.asarray(rows)

    def _erased(self, uniform: Floats) -> Floats:
        corner, size = _boxes(uniform[:, 1:], ERASE_SHARE, ERASE_RATIO)
        size = size * (uniform[:, :1] < self.p_erase)
        (left, top), (right, bottom) = corner.T, (corner + size).T
        return np.stack([top, bottom, left, right], axis=1)


def uniform(seeds: Sequence[int], images: int) -> Floats:
    """Random numbers for `Augmentation.draw`: (images, DRAWS + MORE_DRAWS) in [0, 1), a function of the seeds."""
    first = np.random.default_rng([*seeds]).random((images, DRAWS))
    return np.hstack([first, np.random.default_rng([*seeds, MORE_STREAM]).random((images, MORE_DRAWS))])


def gamma_luts(exponents: Floats) -> Gray:
    """(n, 256): each level, from 0 to 1, to the power of an image's exponent: below 1 brightens, above 1 darkens."""
    shares = np.arange(LEVELS) / (LEVELS - 1)
    return np.asarray(np.rint(shares ** exponents[:, None] * (LEVELS - 1)), np.uint8)


def histogram_lut(image: Gray, reference: Gray) -> Gray:
    """Lookup table of the 256 levels that matches the image's histogram to the reference's.

    A level becomes the one that as large a share of the reference lies below; half of its own pixels count as below.
    """
    (_, below), (counts, reference_below) = (_shares_below(picture) for picture in (image, reference))
    present = np.flatnonzero(counts)
    return np.asarray(np.rint(np.interp(below, reference_below[present], present)), np.uint8)


def _shares_below(image: Gray) -> tuple[NDArray[np.int64], Floats]:
    counts = np.bincount(image.ravel(), minlength=LEVELS)
    return counts, np.asarray((counts.cumsum() - counts / 2) / image.size)


def match_histograms(
    sampled: SampledAugmentation, images: Gray, reference_images: Callable[[NDArray[np.int64]], Gray], count: int
) -> SampledAugmentation:
    """The same with each of `images` (n, height, width) matched, where that is drawn, to one of `count` others.

    `reference_images` yields those at such positions.
    """
    if sampled.references is None:
        return sampled
    positions = (sampled.references.clip(min=0) * count).astype(np.int64)
    identity = np.arange(LEVELS, dtype=np.uint8)
    luts = np.stack(
        [
            histogram_lut(image, reference) if share >= 0 else identity
            for image, reference, share in zip(images, reference_images(positions), sampled.references, strict=True)
        ]
    )
    combined = luts if sampled.luts is None else np.take_along_axis(sampled.luts, luts.astype(np.int64), axis=1)
    return replace(sampled, luts=combined, references=None)


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


def sharpen(image: Gray, factor: float) -> Gray:
    """torchvision's adjust_sharpness; the outermost pixels stay."""
    result = np.asarray(cv2.filter2D(image, -1, sharpening_kernel(factor)), np.uint8)
    for edge in ((0,), (-1,), (slice(None), 0), (slice(None), -1)):
        result[edge] = image[edge]
    return result


@cache
def area_weights(source: int, target: int) -> Levels:
    """W (target, source), the share of each source pixel in each target pixel; every row sums to 1.

    W @ image @ W.T, rounded, is the one definition of resizing a (source, source) image, smaller or larger: each pixel
    is the mean of the area that it covers.
    """
    target_edges, source_edges = (
        np.arange(target + 1)[:, None] * source,
        np.arange(source + 1)[None] * target,
    )  # edges of pixels
    common = np.minimum(target_edges[1:], source_edges[:, 1:]) - np.maximum(target_edges[:-1], source_edges[:, :-1])
    weights = np.asarray(common.clip(min=0) / source, np.float32)
    weights.flags.writeable = False  # one array for all who ask
    return weights


def resize(image: Gray, pixels: int) -> Gray:
    """An image (n, n) as (pixels, pixels), as `area_weights` says; OpenCV computes the same faster where it shrinks."""
    if image.shape[0] == pixels:
        return image
    if pixels < image.shape[0]:
        return np.asarray(cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA), np.uint8)
    weights = area_weights(image.shape[0], pixels)  # OpenCV's INTER_AREA takes wrong pixels at some sizes, as 38 to 42
    return np.asarray(np.rint(weights @ image @ weights.T), np.uint8)


def blur_kernel(sigma: float, radius: int) -> Levels:
    """A Gaussian's weights at -radius to radius, which sum to 1; beyond BLUR_REACH standard deviations they are 0."""
    at = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2) * (np.abs(at) <= blur_radius(sigma)) if sigma > 0 else at == 0
    return np.asarray(weights / weights.sum(), np.float32)


def blur_radius(sigma: float) -> int:
    return math.ceil(BLUR_REACH * sigma)


def blur(image: Gray, sigma: float) -> Gray:
    """A Gaussian blur, whose border is the image mirrored about its outermost pixels, as in torchvision."""
    kernel = blur_kernel(sigma, min(blur_radius(sigma), image.shape[0] - 1))
    smooth = cv2.sepFilter2D(image.astype(np.float32), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(np.rint(smooth), np.uint8)


def warp(image: Gray, matrix: Floats) -> Gray:
    """Warp an image affinely by `matrix`; black comes in from outside."""
    centre = (image.shape[0] - 1) / 2
    linear, share = matrix[:, :2], matrix[:, 2]
    offset = centre - linear @ (centre, centre) + share * image.shape[0]
    warp = np.column_stack([linear, offset])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, warp, image.shape[::-1], flags=flags), np.uint8)


def levels(brightness: float, contrast: float, mean: float) -> Levels:
    """Lookup table of the 256 gray levels, in [0, 1]; contrast acts about the image's `mean`."""
    bright = np.clip(np.arange(256) * brightness, 0, 255)
    contrasted = bright * contrast + min(mean * brightness, 255) * (1 - contrast)
    return np.asarray(np.clip(contrasted, 0, 255) / 255, np.float32)


def transform(
    image: Gray, sampled: SampledAugmentation, number: int, sharpness_factor: float, pixels: int
) -> tuple[Gray, Levels]:
    """Augment one image as row `number` samples it, without noise and erasing; and the lookup table of its levels."""
    if sampled.luts is not None:
        image = np.asarray(cv2.LUT(image, sampled.luts[number]), np.uint8)
    if sampled.sharpen[number]:
        image = sharpen(image, sharpness_factor)
    image = resize(image, pixels)
    if sampled.blur is not None and sampled.blur[number] > 0:
        image = blur(image, float(sampled.blur[number]))
    brightness, contrast = float(sampled.brightness[number]), float(sampled.contrast[number])
    mean = cv2.mean(image)[0] if contrast != 1 else 0.0
    if sampled.matrices is not None:
        image = warp(image, sampled.matrices[number])
    return image, levels(brightness, contrast, mean)


def grain(seed: int, pixels: int) -> Levels:
    """Standard normal noise (pixels, pixels), float32, the same for the same seed."""
    return np.random.Generator(np.random.SFC64(seed)).standard_normal((pixels, pixels), np.float32)


def span(erased: Floats, pixels: int) -> tuple[slice, slice]:
    """The rows and columns of one image that are erased."""
    top, bottom, left, right = (round(edge * pixels) for edge in erased)
    return slice(top, bottom), slice(left, right)


def render(
    image: Gray, sampled: SampledAugmentation, number: int, augmentation: Augmentation, pixels: int, zero: float
) -> Gray:
    """Render an augmented image as the network gets it; `zero` is the level, from 0 to 1, that it takes for 0."""
    image, table = transform(image, sampled, number, augmentation.sharpness_factor, pixels)
    result = table[image]
    if sampled.noise is not None:
        result = np.clip(result + augmentation.noise_std * grain(int(sampled.noise[number]), pixels), 0, 1)
    if sampled.erased is not None:
        result[span(sampled.erased[number], pixels)] = zero
    return np.asarray(np.rint(result * 255), np.uint8)
