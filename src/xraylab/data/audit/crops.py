"""Find pictures that are parts of others: candidates by their lowest frequencies, then a second look at each."""

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xraylab import progress
from xraylab.data.audit.hashes import Floats, Pairs, tiles
from xraylab.shards import Images

Thumbnail = NDArray[np.uint8]  # (size, size)
Window = tuple[float, float, float, float]  # top, bottom, left, right, as shares of height and width

WINDOWS: tuple[Window, ...] = (
    *((top, top + 0.9, left, left + 0.9) for top in (0.0, 0.05, 0.1) for left in (0.0, 0.05, 0.1)),
    (0.1, 1, 0, 1), (0, 0.9, 0, 1), (0, 1, 0.1, 1), (0, 1, 0, 0.9),
    (0.1, 0.9, 0.1, 0.9),
    *((top, top + 0.8, left, left + 0.8) for top in (0.03, 0.17) for left in (0.03, 0.17)),
)  # fmt: skip
FULL_WINDOW: Window = (0, 1, 0, 1)
FREQUENCIES = 8  # in each direction: those that a window a few per cent off still agrees in
CHUNK = 512  # pictures whose frequencies are computed at a time
FEW = 100  # from so many pictures on, it is known what they have in common
LIKELY, LIKELY_OF_FEW = 0.80, 0.90  # correlations from which a pair is a candidate
SAME = 0.97
"""Aligned fine structure of a part and of the picture that it is cut from correlates at least so."""
FINE = (1 / 80, 1 / 40)  # shares of the side: coarser than what resizing changes, finer than what all films share
COARSE = 1 / 16
TRIMMED = 0.05  # of the area may hold something else, such as a letter
LEAST_OVERLAP = 0.8
SKEWED = 0.05
EDGE = 0.15  # of height and width: where borders and letters are, which the fine structure is compared without
STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)


def pairs(thumbnails: Images) -> Pairs:
    """Rows (n, 2), the smaller one first, of which one is a part of the other: 80 to 95 % of its height and width.

    What all pictures have in common (the anatomy) is taken from their lowest frequencies before these are compared;
    few pictures are compared as they are. The candidates most alike are then aligned and compared closely.
    """
    candidates, windows = _candidates(thumbnails)

    def same(number: int) -> bool:
        whole, part = candidates[number]
        return _part_of(thumbnails[whole], thumbnails[part], WINDOWS[windows[number]]) >= SAME

    is_part = np.array(list(progress.thread_map(same, range(len(candidates)), "comparing crops")), dtype=bool)
    return np.unique(np.sort(candidates[is_part], axis=1), axis=0)


def alike(one: Thumbnail, other: Thumbnail) -> float:
    """Correlation of the fine structure in the middle of two pictures, without the twentieth that differs most."""
    middle = _middle(len(one))
    return _trimmed(_fine(one.astype(np.float32))[middle], _fine(other.astype(np.float32))[middle])


def most(pictures: int) -> int:
    """The number of pairs to compare in full, in proportion to the number of pictures."""
    return round(2000 + 0.25 * pictures)


def _candidates(thumbnails: Images) -> tuple[Pairs, NDArray[np.int64]]:
    """Ordered pairs (a picture, what may be a part of it) and the windows' numbers; the most alike, each two once."""
    limit = most(len(thumbnails))
    frequencies = _low_frequencies(thumbnails, FULL_WINDOW)
    few = len(thumbnails) < FEW
    mean = np.zeros_like(frequencies[0]) if few else frequencies.mean(axis=0)
    spread = np.ones_like(frequencies[0]) if few else np.maximum(frequencies.std(axis=0), np.float32(1e-6))
    compared = _unit((frequencies - mean) / spread)

    def likely(number: int) -> NDArray[np.float64]:
        parts = _unit((_low_frequencies(thumbnails, WINDOWS[number]) - mean) / spread)
        rows = _likely(parts, compared, LIKELY_OF_FEW if few else LIKELY, limit)
        return np.insert(rows, 2, number, axis=1)

    with threadpool_limits(1):  # the windows share the processor out already
        rows = np.concatenate(list(progress.thread_map(likely, range(len(WINDOWS)), "looking for crops")))
    best = _best(rows, limit)
    return best[:, :2].astype(np.int64), best[:, 2].astype(np.int64)


def _likely(parts: Floats, frequencies: Floats, least: float, limit: int) -> NDArray[np.float64]:
    """Rows (part, whole, correlation) of different pictures; where there are many, of the highest correlation."""
    best = np.empty((0, 3))
    for row, column, alike in tiles(parts, frequencies):
        if alike.max() >= least:
            at = np.argwhere(alike >= least)
            rows = np.column_stack([at[:, 0] + row, at[:, 1] + column, alike[at[:, 0], at[:, 1]]])
            best = np.concatenate([best, rows[rows[:, 0] != rows[:, 1]]])
        if len(best) > 4 * limit:
            best = _best(best, limit)
            least = float(best[-1, -1]) if len(best) == limit else least
    return _best(best, limit)


def _best(rows: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """The rows (one, other, ..., correlation) of highest correlation, of each two pictures one."""
    rows = rows[np.argsort(-rows[:, -1], kind="stable")]
    _, first = np.unique(np.sort(rows[:, :2], axis=1), axis=0, return_index=True)
    return rows[np.sort(first)[:limit]]


def _low_frequencies(thumbnails: Images, window: Window) -> Floats:
    """(n, FREQUENCIES ** 2 - 1): the window's DCT without the mean, weighted against its 1/f spectrum; unit length."""
    size = thumbnails.shape[1]
    down, across = _cosines(size, *window[:2]), _cosines(size, *window[2:])
    parts = [
        down @ thumbnails[start : start + CHUNK].astype(np.float32) @ across.T
        for start in range(0, len(thumbnails), CHUNK)
    ]
    order = np.arange(FREQUENCIES)
    weight = np.hypot(order[:, None], order[None]).astype(np.float32)
    return _unit((np.concatenate(parts) * weight).reshape(len(thumbnails), -1)[:, 1:])


def _cosines(size: int, first: float, last: float) -> Floats:
    """(FREQUENCIES, size): the DCT of what lies between two shares of a row of pixels, enlarged to a whole row."""
    centres = (np.arange(size) + 0.5) / size
    at = (first + (last - first) * centres) * size - 0.5
    below = np.clip(np.floor(at).astype(int), 0, size - 2)
    share = np.clip(at - below, 0, 1)
    resized = np.zeros((size, size))
    resized[np.arange(size), below], resized[np.arange(size), below + 1] = 1 - share, share
    cosines: Floats = (np.cos(np.pi * centres * np.arange(FREQUENCIES)[:, None]) @ resized).astype(np.float32)
    return cosines


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _part_of(thumbnail: Thumbnail, part: Thumbnail, window: Window) -> float:
    """Correlation of `part` with what lies under it in `thumbnail`, aligned from `window` on by ECC; -1 where it fails.

    Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation coefficient maximization", 2008.
    """
    large, small, size = thumbnail.astype(np.float32), part.astype(np.float32), len(thumbnail)
    top, bottom, left, right = window
    height, width = bottom - top, right - left
    start = [[width, 0, left * size + width / 2 - 0.5], [0, height, top * size + height / 2 - 0.5]]
    one, other = _without(small, COARSE * size), _without(large, COARSE * size)
    try:
        _, warp = cv2.findTransformECC(one, other, np.array(start, np.float32), cv2.MOTION_AFFINE, STEPS)
    except cv2.error:  # it did not converge: the two have nothing in common
        return -1.0
    if max(abs(warp[0, 1]), abs(warp[1, 0])) > SKEWED:  # a part is neither turned nor sheared: this is another film
        return -1.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    under = cv2.warpAffine(large, warp, (size, size), flags=flags)
    covered = cv2.warpAffine(np.ones_like(large), warp, (size, size), flags=flags) > 0.99
    if covered.mean() < LEAST_OVERLAP:
        return -1.0
    inner = (cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & _middle(size)
    return _trimmed(_fine(np.asarray(under, np.float32))[inner], _fine(small)[inner])


def _middle(size: int) -> NDArray[np.bool_]:
    """All of a picture but its edges."""
    inside = np.zeros((size, size), dtype=bool)
    edge = round(EDGE * size)
    inside[edge : size - edge, edge : size - edge] = True
    return inside


def _without(picture: Floats, scale: float) -> Floats:
    """The picture without what is coarser than `scale` pixels."""
    return np.asarray(picture - cv2.GaussianBlur(picture, (0, 0), scale), dtype=np.float32)


def _fine(picture: Floats) -> Floats:
    finest, coarsest = (share * len(picture) for share in FINE)
    return _without(np.asarray(cv2.GaussianBlur(picture, (0, 0), finest), dtype=np.float32), coarsest)


def _trimmed(one: Floats, other: Floats) -> float:
    """Correlation without the TRIMMED of all pixels that differ most once both are scaled alike."""
    one, other = _scaled(one.ravel()), _scaled(other.ravel())
    apart = np.abs(one - other)
    rest = apart <= np.quantile(apart, 1 - TRIMMED)
    one, other = one[rest], other[rest]
    spread = float(one.std() * other.std())
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else -1.0


def _scaled(values: Floats) -> Floats:
    """Median 0, and half of the values between -1 and 1: what a letter does not move."""
    centred = values - np.median(values)
    return centred / max(float(np.median(np.abs(centred))), 1e-6)
