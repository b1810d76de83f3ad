"""Prepare image files for a network, up to normalisation: for the cache, prediction and export."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xraylab.data import pixels
from xraylab.data.pixels import Gray, Levels, Picture

CLAHE_TILES = (8, 8)
PYRAMID_LEVELS = 3
BORDER_TOLERANCE = 10  # gray levels: more than the noise and the JPEG ringing of a border
BORDER_ROWS = 64  # that are looked at together
MOST_FRAMES = 256  # borders in one another: no film has more than a few, and stripes of a line each would take for ever
BORDER_OUTLIERS = 0.02  # the share of an edge line that may be specks

Borders = tuple[int, int, int, int]


@dataclass(frozen=True)
class Preparation:
    """Steps between decoding and resizing an image, in this order."""

    crop_border: bool
    crop_lungs: bool
    """To the lungs and a little margin; without its border, and whole, where none are found."""
    clip_percentiles: Sequence[float] | None
    """The two percentiles of its levels that become black and white."""
    clahe: float | None
    """The clip limit of contrast-limited adaptive histogram equalisation."""
    pyramid_sharpening: float

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> "Preparation":
        """As params.yaml and model.json have it, among the other keys of `images`."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Crop:
    """The part of an image that remains after cropping."""

    rows: slice
    columns: slice
    lungs: bool | None
    """True if these are the lungs; None where they were not searched."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[self.rows, self.columns]


def read(path: Path, preparation: Preparation, size: int, fit: str) -> Gray:
    """The image as uint8 (size, size): decoded, prepared and fitted. Errors: DataError with the file's path."""
    return read_with_lungs(path, preparation, size, fit)[0]


def read_with_lungs(path: Path, preparation: Preparation, size: int, fit: str) -> tuple[Gray, bool]:
    """The image of `read`, and whether it is whole because no lungs were found in it."""
    with pixels.BUDGET.lease() as reserve:
        return from_picture(pixels.decode(path, reserve), preparation, size, fit)


def from_picture(picture: Picture, preparation: Preparation, size: int, fit: str) -> tuple[Gray, bool]:
    """`read_with_lungs` of an image that has been decoded."""
    inside = find_crop(picture.levels, preparation)
    return pixels.fit(_prepared(picture.levels, preparation, inside, picture.padding), size, fit), inside.lungs is False


def prepare(levels: Levels, preparation: Preparation, padding: NDArray[np.bool_] | None = None) -> Gray:
    """uint8 or uint16 levels to uint8 ones, of the same size unless something is cropped.

    Padding, where `padding` (height, width) is true, has no part in the percentiles and is black in the end.
    """
    return _prepared(levels, preparation, find_crop(levels, preparation), padding)


def _prepared(levels: Levels, preparation: Preparation, inside: Crop, padding: NDArray[np.bool_] | None) -> Gray:
    empty = np.zeros(levels.shape, dtype=bool) if padding is None else padding
    levels, empty = inside.of(levels), inside.of(empty)
    gray = (
        pixels.gray(levels)
        if preparation.clip_percentiles is None
        else stretch(levels, empty, *preparation.clip_percentiles)
    )
    if preparation.clahe is not None:
        gray = equalise(gray, preparation.clahe)
    if preparation.pyramid_sharpening > 0:
        gray = sharpen(gray, preparation.pyramid_sharpening)
    return np.where(empty, np.uint8(0), gray) if empty.any() else gray


def find_crop(levels: Levels, preparation: Preparation) -> Crop:
    """Find the part that remains after cropping borders, or all but the lungs."""
    inside = Crop(slice(0, levels.shape[0]), slice(0, levels.shape[1]), None)
    if not preparation.crop_border and not preparation.crop_lungs:
        return inside
    gray = pixels.gray(levels)
    inside = _within(inside, border(gray), None)
    if not preparation.crop_lungs:
        return inside
    from xraylab.data import lungs  # noqa: PLC0415 - OpenCV takes time to import, and most studies do without

    around = lungs.borders(inside.of(gray))
    return _within(inside, around or (0, 0, 0, 0), around is not None)


def _within(inside: Crop, borders: Borders, lungs: bool | None) -> Crop:
    (top, bottom, left, right), rows, columns = borders, inside.rows, inside.columns
    return Crop(slice(rows.start + top, rows.stop - bottom), slice(columns.start + left, columns.stop - right), lungs)


def border(gray: Gray) -> Borders:
    """Count the nearly uniform edge rows and columns: top, bottom, left, right.

    Each side has one level of its own; specks in it and slight noise are passed over. A picture that is uniform from
    edge to edge has no border in that direction, so that something always remains.
    """
    top, bottom, left, right = 0, 0, 0, 0
    for _ in range(MOST_FRAMES):
        rest = gray[top : gray.shape[0] - bottom, left : gray.shape[1] - right]
        above, below = _sides(rest)
        leading, trailing = _sides(rest[above : rest.shape[0] - below].T)
        if not above + below + leading + trailing:
            return top, bottom, left, right
        top, bottom, left, right = top + above, bottom + below, left + leading, right + trailing
    return top, bottom, left, right


def stretch(levels: Levels, padding: NDArray[np.bool_], low: float, high: float) -> Gray:
    """Percentile `low` and all below become black, `high` and all above white, what lies between in proportion.

    The percentiles are those of what is not padding.
    """
    image = levels[~padding] if padding.any() and not padding.all() else levels
    black, white = np.percentile(image, [low, high])
    scaled: NDArray[np.float64] = (np.arange(np.iinfo(levels.dtype).max + 1.0) - black) / (white - black or 1.0)
    return pixels.look_up(levels, np.round(scaled.clip(0, 1) * 255).astype(np.uint8))


def equalise(gray: Gray, clip_limit: float) -> Gray:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) over 8 x 8 tiles."""
    import cv2  # noqa: PLC0415 - takes time to import, and most studies do without

    return np.asarray(cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=CLAHE_TILES).apply(gray), dtype=np.uint8)


def sharpen(gray: Gray, strength: float) -> Gray:
    """Multiply the three finest levels of the Laplacian pyramid (Burt & Adelson 1983) by 1 + `strength`.

    Every level is raised alike and expanding is linear, so their sum, the image less its expanded coarse rest, does.
    """
    import cv2  # noqa: PLC0415 - takes time to import, and most studies do without

    fine = gray.astype(np.float32)
    pyramid = [fine]
    for _ in range(PYRAMID_LEVELS):
        pyramid.append(np.asarray(cv2.pyrDown(pyramid[-1]), dtype=np.float32))
    coarse = pyramid.pop()
    for level in reversed(pyramid):
        coarse = np.asarray(cv2.pyrUp(coarse, dstsize=level.shape[::-1]), dtype=np.float32)
    sharp = np.empty_like(gray)
    blocks = pixels.row_blocks
    for into, one, other in zip(blocks(sharp), blocks(fine), blocks(coarse), strict=True):
        into[:] = np.round(np.clip(one + strength * (one - other), 0, 255))
    return sharp


def _sides(gray: Gray) -> tuple[int, int]:
    """Count the nearly uniform rows at the top and at the bottom; 0 where all are."""
    above, below = _uniform_rows(gray), _uniform_rows(gray[::-1])
    return (above, below) if above + below < len(gray) else (0, 0)


def _uniform_rows(gray: Gray) -> int:
    """Count the first rows whose levels are all near the first one's median."""
    middle = int(np.sort(gray[0])[gray.shape[1] // 2])
    if _outlying(gray[:1], middle)[0]:
        return 0
    for start in range(0, len(gray), BORDER_ROWS):  # the rows behind the border need not be looked at
        uneven = _outlying(gray[start : start + BORDER_ROWS], middle)
        if uneven.any():
            return start + int(uneven.argmax())
    return len(gray)


def _outlying(rows: Gray, middle: int) -> NDArray[np.bool_]:
    """Find rows with too many pixels far from `middle`."""
    low, high = max(middle - BORDER_TOLERANCE, 0), min(middle + BORDER_TOLERANCE, 255)
    far = rows - np.uint8(low) > high - low  # what is below `low` wraps round and is above, too
    return np.asarray(far.sum(axis=1, dtype=np.min_scalar_type(rows.shape[1])) > BORDER_OUTLIERS * rows.shape[1])
