"""Locate the lungs on a frontal chest film: the position where a small atlas of mean lungs correlates best."""

from functools import cache
from math import inf

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]
Borders = tuple[int, int, int, int]

# How much air lies in front of each place, from 0 to 9: the mean over the healthy patients of `source: demo`, with an
# eighth of the lungs' box on every side of them.
ATLAS = (
    "000000000000000000000000000000",
    "000000000000000000000000000000",
    "000000000111100001111000000000",
    "000000001233200003433100000000",
    "000000013455510025554310000000",
    "000000135666620046666531000000",
    "000000256777730057777652000000",
    "000001467888840068888764100000",
    "000002578899840059998875200000",
    "000013678999950027999876310000",
    "000014788999940017999886410000",
    "000025788999940048999887520000",
    "000036788999840069999887630000",
    "000136788999830059999887631000",
    "000146788999830048999887641000",
    "000146789999720037999987641000",
    "000256889999710015899987652000",
    "000257889999610002689988752000",
    "000257889998510001478988752000",
    "000357889998400000247888753000",
    "000357889998300000135888753000",
    "000357889998300000014788753000",
    "001367887776300000013688763000",
    "001366665444200000012577763100",
    "001355421111000000001356653100",
    "001342100000000000000123453100",
    "000221000000000000000001232100",
    "000100000000000000000000011000",
    "000000000000000000000000000000",
    "000000000000000000000000000000",
)
ATLAS_MARGIN = 1 / 8  # around the lungs in the atlas, in shares of their width and height
MARGIN = 0.08  # around the lungs in what is cropped
THUMBNAIL = 64  # pixels of the film's longer side: lungs are large
SMALLEST, LARGEST, STEP = 24, 60, 6  # pixels of the thumbnail that lungs may be wide and high
FEW_SHAPES = ((42, 42), (42, 54), (54, 54), (54, 42), (30, 42), (30, 30), (30, 54), (42, 30), (54, 30))
PROPORTIONS = (0.72, 1.5)  # of height to width
REACH = 16  # pixels that lungs may lie outside the film
RIBS, SURROUNDINGS, FLAT = 1.2, 12.8, 6.0  # pixels, pixels, gray levels: what is smoothed away, and contrast evened out
# how much size, and places far from the middle (a little above it), count against correlation
SIZE_WEIGHT, ACROSS_WEIGHT, DOWN_WEIGHT, MIDDLE = 0.2, 2.5, 1.25, (0.5, 0.47)
PLAUSIBLE = 0.12

Match = tuple[float, float, float, float, float]
"""Score; left, top, width and height of the lungs on the thumbnail."""


def borders(gray: Gray) -> Borders | None:
    """Count the rows and columns around the lungs and a small margin: top, bottom, left, right.

    None where nothing looks like two lungs that fill a good part of the film.
    """
    height, width = gray.shape
    normalized, shape = _thumbnail(gray)
    score, left, top, wide, high = _search(normalized, shape)
    if score < PLAUSIBLE:
        return None
    across, down = width / shape[0], height / shape[1]
    edges = (
        (top - MARGIN * high) * down,
        height - (top + (1 + MARGIN) * high) * down,
        (left - MARGIN * wide) * across,
        width - (left + (1 + MARGIN) * wide) * across,
    )
    above, below, leading, trailing = (max(round(edge), 0) for edge in edges)
    return above, below, leading, trailing


def plausibility(gray: Gray, enough: float = inf) -> float:
    """How much the image looks like two lungs, up to about 0.8: the score of a quick search, of few sizes.

    The search ends where the score has reached `enough`.
    """
    normalized, shape = _thumbnail(gray)
    best = -inf
    for wide, high in FEW_SHAPES:
        best = max(best, _correlate(normalized, shape, wide, high)[0])
        if best >= enough:
            break
    return best


def _thumbnail(gray: Gray) -> tuple[Floats, tuple[int, int]]:
    """The thumbnail, normalized, and its width and height."""
    height, width = gray.shape
    scale = THUMBNAIL / max(height, width)
    shape = max(round(width * scale), 1), max(round(height * scale), 1)
    thumbnail = np.asarray(cv2.resize(gray, shape, interpolation=cv2.INTER_AREA), np.uint8)
    return _normalize(thumbnail), shape


def _normalize(thumbnail: Gray) -> Floats:
    """Without ribs, each place against its surroundings, and with room around for lungs that are cut off."""
    smooth = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), RIBS)
    wide = cv2.copyMakeBorder(smooth, REACH, REACH, REACH, REACH, cv2.BORDER_REPLICATE)
    apart = wide - cv2.GaussianBlur(wide, (0, 0), SURROUNDINGS)
    contrast = np.sqrt(cv2.GaussianBlur(apart * apart, (0, 0), SURROUNDINGS))
    return np.asarray(apart / (contrast + FLAT), np.float32)


def _search(normalized: Floats, shape: tuple[int, int]) -> Match:
    """Every size in large steps first, then those around the best one in half of them."""
    sizes = range(SMALLEST, LARGEST + 1, STEP)
    best = max(_correlate(normalized, shape, wide, high) for wide in sizes for high in sizes)
    around = (-STEP // 2, 0, STEP // 2)
    return max(
        _correlate(normalized, shape, int(best[3]) + more, int(best[4]) + higher)
        for more in around
        for higher in around
    )


def _correlate(normalized: Floats, shape: tuple[int, int], wide: int, high: int) -> Match:
    """The best place for lungs of this size; of no score where lungs have no such proportions."""
    atlas = _atlas(wide, high)
    fits = all(part <= available for part, available in zip(atlas.shape, normalized.shape, strict=True))
    if not fits or not PROPORTIONS[0] <= high / wide <= PROPORTIONS[1]:
        return (-1.0, 0.0, 0.0, float(wide), float(high))
    score = cv2.matchTemplate(normalized, atlas, cv2.TM_CCOEFF_NORMED)
    tops, lefts = (
        np.arange(length) + ATLAS_MARGIN * size - REACH for length, size in zip(score.shape, (high, wide), strict=True)
    )
    aside, below = (lefts + wide / 2) / shape[0] - MIDDLE[0], (tops + high / 2) / shape[1] - MIDDLE[1]
    score = score - ACROSS_WEIGHT * aside**2 - DOWN_WEIGHT * below[:, None] ** 2
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    size = SIZE_WEIGHT * np.log(wide * high / THUMBNAIL**2)
    return (float(score[row, column] + size), float(lefts[column]), float(tops[row]), float(wide), float(high))


@cache
def _atlas(wide: int, high: int) -> Floats:
    """The atlas with lungs of this size: dark where there is air."""
    air = np.array([[int(digit) for digit in row] for row in ATLAS], np.float32)
    shape = round(wide * (1 + 2 * ATLAS_MARGIN)), round(high * (1 + 2 * ATLAS_MARGIN))
    return np.asarray(-cv2.resize(air, shape, interpolation=cv2.INTER_AREA), np.float32)
