"""Images with their saliency, and sheets of feature maps, as small PNG files."""

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

from xraylab import files

LARGEST = 160  # pixels a side
COLOURS = 64  # in a file with an overlay: a quarter of the bytes, and no difference that an eye sees
STRONGEST = 0.65  # how much of the picture the highest saliency hides
OUTLINE = (86, 180, 233)  # light blue, which the heat's colours have not
GAP = 2  # pixels between feature maps

Gray = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Colour = npt.NDArray[np.uint8]


def overlay(gray: Gray, saliency: Floats, mask: npt.NDArray[np.bool_] | None) -> Colour:
    """The image under its positive saliency, from nothing to the map's own maximum; a mask's outline in light blue.

    All are (height, width); the result is (height, width, 3).
    """
    positive = saliency.clip(min=0)
    strength = positive / (positive.max() or 1.0)
    heat = mpl.colormaps["inferno"](strength)[..., :3] * 255
    alpha = STRONGEST * strength[..., None]
    mixed: Colour = np.round((1 - alpha) * gray[..., None] + alpha * heat).astype(np.uint8)
    if mask is not None:
        mixed[mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)] = OUTLINE
    return mixed


def sheet(maps: Floats) -> Gray:
    """Feature maps (n, height, width) in a square of squares, each from its own minimum (black) to maximum (white)."""
    columns = int(np.ceil(np.sqrt(len(maps))))
    side = LARGEST // columns - GAP
    result = np.full((-(-len(maps) // columns) * (side + GAP), columns * (side + GAP)), 255, np.uint8)
    for number, each in enumerate(maps):
        low, high = float(each.min()), float(each.max())
        scaled = np.round((each - low) / (high - low or 1.0) * 255).astype(np.uint8)
        top, left = number // columns * (side + GAP), number % columns * (side + GAP)
        result[top : top + side, left : left + side] = cv2.resize(scaled, (side, side), interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(result[:-GAP, :-GAP])


def write(pixels: Gray | Colour, path: Path) -> None:
    """A PNG, made smaller where it is larger than a page needs."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    if image.mode == "RGB":
        image = image.quantize(COLOURS, dither=Image.Dither.NONE)
    with files.replacing(path) as temporary:
        image.save(temporary, format="PNG", optimize=True)
