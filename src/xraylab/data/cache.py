"""Every image decoded and prepared once, uint8, in one array that is read by memory map."""

from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import progress, tables
from xraylab.data import prepare
from xraylab.data.names import natural, some
from xraylab.data.prepare import Preparation


def write(folder: Path, raw: Path, index: pd.DataFrame, size: int, fit: str, preparation: Preparation) -> None:
    """Write images.npy, uint8 (images, size, size), and rows.csv, the ids in the array's order.

    Says how many were to be cropped to the lungs and are whole.
    Errors: DataError with the path of the first image, in the order of `index`, that cannot be read.
    """
    names, whole = list(index["path"]), []

    def image(name: str) -> bytes:
        picture, without_lungs = prepare.read_with_lungs(raw / name, preparation, size, fit)
        whole.extend([name] * without_lungs)
        return picture.tobytes()

    # decoders let go of Python's lock: threads are about as fast as processes, and take nothing to start
    with (folder / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        file.writelines(progress.mapped(image, names, "decoding images"))
    tables.write(index[["id"]], folder / "rows.csv")
    if whole:
        progress.say(
            f"images.crop_lungs: no lungs were found in {len(whole)} of {len(names)} images, which are whole, without "
            f"their border: {some(sorted(whole, key=natural))}"
        )
