"""Body coordinates, and drawing in them.

Every shape is given in fractions of an upright film: u runs from -0.5 to 0.5 with the spine at 0 and the patient's LEFT
side positive (it is on the right of the image), v from 0 at the top to 1 at the bottom.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.floating[Any]]
Points = NDArray[np.float64]
Stroke = tuple[Points, float, float]
"""A polyline (n, 2) in body coordinates, its width, and its value in 0..1."""

CANVAS = 512  # Strokes are drawn on at least this many pixels and averaged down, so that thin ones stay smooth.


@dataclass(frozen=True)
class Frame:
    """The patient's position on a film of `pixels` by `pixels`."""

    pixels: int
    angle: float  # radians, clockwise
    zoom: float
    shift: tuple[float, float]

    def grid(self) -> tuple[Floats, Floats]:
        """u and v at the centre of every pixel, each (pixels, pixels)."""
        axis = (np.arange(self.pixels, dtype=np.float32) + 0.5) / self.pixels - 0.5
        x, y = (axis - self.shift[0]) / self.zoom, (axis - self.shift[1])[:, None] / self.zoom
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (cos * x + sin * y).astype(np.float32), (cos * y - sin * x + 0.5).astype(np.float32)

    def to_film(self, points: Points) -> Points:
        """Body coordinates (n, 2) as fractions (x, y) of the film."""
        u, v = points[:, 0], points[:, 1] - 0.5
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = cos * u - sin * v, sin * u + cos * v
        return np.stack([x * self.zoom + self.shift[0] + 0.5, y * self.zoom + self.shift[1] + 0.5], axis=1)


def strokes(frame: Frame, lines: Sequence[Stroke]) -> Floats:
    """Draw polylines one over another, later ones on top: (pixels, pixels) in 0..1."""
    if not lines:
        return np.zeros((frame.pixels, frame.pixels), np.float32)
    factor, image = _canvas(frame)
    draw = ImageDraw.Draw(image)
    for (_, width, value), points in zip(lines, _on_canvas(frame, [line[0] for line in lines]), strict=True):
        thick = width * frame.zoom * image.width
        joint = "curve" if thick > 4 else None
        draw.line(points, fill=round(255 * value * min(1, thick)), width=max(1, round(thick)), joint=joint)
    return _reduced(image, factor)


def polygons(frame: Frame, shapes: Sequence[tuple[Points, float]]) -> Floats:
    """Fill polygons one over another, later ones on top: (pixels, pixels) in 0..1."""
    factor, image = _canvas(frame)
    draw = ImageDraw.Draw(image)
    for (_, value), points in zip(shapes, _on_canvas(frame, [shape[0] for shape in shapes]), strict=True):
        draw.polygon(points, fill=round(255 * value))
    return _reduced(image, factor)


def ribbons(curves: Points, width: ArrayLike) -> Points:
    """The outlines of bands along polylines (..., n, 2), whose width may vary from point to point: (..., 2n, 2)."""
    steps = np.diff(curves, axis=-2)
    along = np.concatenate([steps[..., :1, :], steps[..., 1:, :] + steps[..., :-1, :], steps[..., -1:, :]], axis=-2)
    half = np.asarray(width)[..., None] / 2 / np.sqrt((along**2).sum(axis=-1, keepdims=True))
    aside = half * along[..., ::-1] * np.array([-1, 1])
    return np.concatenate([curves + aside, (curves - aside)[..., ::-1, :]], axis=-2)


def smooth_step(x: Floats) -> Floats:
    """0 below 0, 1 above 1, and a cubic between."""
    x = x.clip(0, 1)
    cubic = -2 * x
    cubic += 3
    cubic *= x
    cubic *= x
    return cubic


def dome(squared: Floats) -> Floats:
    """The path through an ellipsoid at a squared relative radius: 1 in the middle, 0 from the rim outwards."""
    return np.sqrt(np.maximum(1 - squared, 0))


def ellipse(u: Floats, v: Floats, centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0) -> Floats:
    """The squared relative radius in an ellipse turned clockwise by `tilt` radians: 1 on its rim."""
    x, y = u - centre[0], v - centre[1]
    cos, sin = math.cos(tilt), math.sin(tilt)
    return ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2


def clouds(rng: np.random.Generator, pixels: int, cells: int) -> Floats:
    """Smooth noise with about `cells` lumps along each side: (pixels, pixels), standard deviation near 0.7."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((pixels, pixels), Image.Resampling.BICUBIC))


def _canvas(frame: Frame) -> tuple[int, Image.Image]:
    factor = max(2, math.ceil(CANVAS / frame.pixels))
    return factor, Image.new("L", (frame.pixels * factor, frame.pixels * factor))


def _on_canvas(frame: Frame, curves: Sequence[Points]) -> list[list[float]]:
    """Each curve as x0, y0, x1, y1, ... on the canvas; all of them in one go, which is much faster."""
    factor, _ = _canvas(frame)
    flat = (frame.to_film(np.concatenate(curves)) * frame.pixels * factor).ravel().tolist()
    ends = np.cumsum([2 * len(curve) for curve in curves]).tolist()
    return [flat[start:end] for start, end in itertools.pairwise([0, *ends])]


def _reduced(image: Image.Image, factor: int) -> Floats:
    return np.asarray(image.reduce(factor), dtype=np.float32) / 255
