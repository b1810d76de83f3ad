"""Where the findings are, for data that say so: as the demo does, `masks/<file name>` beside findings.csv."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from xraylab import tables
from xraylab.data import pixels, prepare
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError

LIST = "findings.csv"
INSIDE = 128  # of 255: where at least half of a fitted pixel's area belongs to a finding


@dataclass(frozen=True)
class Mask:
    """A file that is not 0 where a finding is, the image that it belongs to, and how that image was prepared."""

    file: Path
    image: Path
    preparation: Preparation
    fit: str


def known(raw: Path, index: pd.DataFrame, preparation: Preparation, fit: str) -> dict[str, Mask]:
    """Image id -> its mask, for the images that findings.csv lists; none where there is no such file.

    Errors: DataError where a mask of a listed image is not there.
    """
    if not (raw / LIST).is_file():
        return {}
    listed = set(tables.read(raw / LIST, ("image",))["image"])
    found = {
        name: Mask(raw / "masks" / Path(name).name, raw / path, preparation, fit)
        for name, path in zip(index["id"], index["path"], strict=True)
        if name in listed
    }
    for name, mask in found.items():
        if not mask.file.is_file():
            raise DataError(
                f"{LIST} lists a finding in {name}, but {mask.file} does not exist: add it, or drop the row"
            )
    return found


def read(mask: Mask, size: int) -> npt.NDArray[np.bool_]:
    """Where the findings are after the image was cropped and fitted to (size, size).

    Errors: DataError where the mask and its image differ in size.
    """
    with Image.open(mask.file) as opened:
        inside = np.where(np.asarray(opened) > 0, 255, 0).astype(np.uint8)
    levels = pixels.decode(mask.image).levels
    if levels.shape != inside.shape:
        sizes = [f"{width} x {height}" for height, width in (inside.shape, levels.shape)]
        raise DataError(f"{mask.file} has {sizes[0]} pixels, its image {sizes[1]}: they must be of one size")
    return pixels.fit(prepare.find_crop(levels, mask.preparation).of(inside), size, mask.fit) >= INSIDE
