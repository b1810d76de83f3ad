"""Whether a map points at the finding: the pointing game, the saliency inside, and what chance would reach."""

from typing import Any

import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.floating[Any]]  # (n, height, width)
Masks = npt.NDArray[np.bool_]  # (n, height, width)
Matrix = npt.NDArray[np.float64]


def figures(maps: Maps, masks: Masks) -> dict[str, Any]:
    """What the maps (n, height, width) say of the masks of the same images, each with one pixel or more inside.

    `hit_rate`: how often a map's highest point lies inside (Zhang et al., "Top-down neural attention by excitation
    backprop", ECCV 2016, without their 15 pixels of tolerance; a tie counts by its share). `inside`: the mean share of
    the positive saliency that is inside; a map without any counts as even. `chance`: both, of a point or map that
    knows nothing, which is the mean share of the area. `..._elsewhere`: both against the masks of the other images,
    which is what a network gains by looking where findings usually are; None for a single image.
    """
    hits, shares = _overlap(_peaks(maps), masks), _overlap(_positive(maps), masks)
    return {
        "images": len(maps),
        "hit_rate": float(np.diag(hits).mean()),
        "inside": float(np.diag(shares).mean()),
        "chance": float(masks.mean()),
        "hit_rate_elsewhere": _elsewhere(hits),
        "inside_elsewhere": _elsewhere(shares),
    }


def _overlap(weights: Matrix, masks: Masks) -> Matrix:
    """How much of the weight of map i lies inside the mask of image j, at [i, j]."""
    return np.asarray(weights @ masks.reshape(len(masks), -1).T.astype(float))


def _peaks(maps: Maps) -> Matrix:
    """All weight on the highest point, shared by equals: (n, height * width), each row's sum 1."""
    flat = maps.reshape(len(maps), -1)
    highest = (flat == flat.max(axis=1, keepdims=True)).astype(float)
    return np.asarray(highest / highest.sum(axis=1, keepdims=True))


def _positive(maps: Maps) -> Matrix:
    """What is positive, as shares of the whole; even where nothing is."""
    flat = maps.reshape(len(maps), -1).clip(min=0)
    whole = flat.sum(axis=1, keepdims=True)
    return np.where(whole > 0, flat / np.where(whole > 0, whole, 1), 1 / flat.shape[1])


def _elsewhere(overlap: Matrix) -> float | None:
    n = len(overlap)
    return float((overlap.sum() - np.trace(overlap)) / (n * (n - 1))) if n > 1 else None
