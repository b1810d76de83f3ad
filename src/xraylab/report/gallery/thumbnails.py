"""Small pictures for the gallery: radiographs, and saliency maps as transparent layers to lay over them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

from xraylab import tables
from xraylab.report.artefacts import TEXT
from xraylab.report.pictures import Radiographs

SIDES = (256, 192, 160, 128, 96, 64, 48)  # pixels, the largest that the budget allows
SAMPLED = 32  # pictures that tell how many bytes one has
QUALITY, EFFORT = 75, 0  # of WebP: the least effort is a third larger than the most, and four times as fast
STRONGEST = 0.65  # how much of the picture the highest saliency hides

Gray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Overlays:
    """Saliency maps of one experiment, uint8 (n, side, side), with the images and the classes that they explain."""

    ids: list[str]
    evidence: list[str]
    maps: Gray

    @classmethod
    def read(cls, folder: Path, name: str) -> "Overlays":
        """What the stage `explain` wrote below reports/explain under this name."""
        table = tables.read(folder / f"{name}.csv", (*TEXT, "evidence"))
        return cls(list(table["id"]), list(table["evidence"]), np.load(folder / f"{name}.npy"))

    def layers(self) -> Iterator[bytes]:
        """Each map as a picture that hides nothing where there is no saliency."""
        yield from map(layer, self.maps)


def encoded(radiographs: Radiographs, ids: list[str], side: int) -> Iterator[bytes]:
    """Each image as WebP, at most `side` pixels wide and high."""
    for name in ids:
        image = Image.fromarray(radiographs.pixels[radiographs.row_of[name]])
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        yield _webp(image)


def fitting(radiographs: Radiographs, ids: list[str], budget: int) -> list[bytes]:
    """All images at the largest of `SIDES` at which they have at most `budget` bytes together, or at the smallest.

    Some of them tell which size that may be, so that few are encoded twice.
    """
    step = -(-len(ids) // SAMPLED)
    sample = ids[::step]
    for side in SIDES[:-1]:
        expected = sum(map(len, encoded(radiographs, sample, side))) / len(sample) * len(ids)
        if expected <= budget:
            pictures = list(encoded(radiographs, ids, side))
            if sum(map(len, pictures)) <= budget:
                return pictures
    return list(encoded(radiographs, ids, SIDES[-1]))


def layer(saliency: Gray) -> bytes:
    """A map (height, width) from 0 to 255 as WebP with an alpha channel: the colours of the report's overlays."""
    strength = saliency / 255
    colours = mpl.colormaps["inferno"](strength)
    colours[..., 3] = STRONGEST * strength
    return _webp(Image.fromarray(np.round(255 * colours).astype(np.uint8)))


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=QUALITY, method=EFFORT)
    return buffer.getvalue()
