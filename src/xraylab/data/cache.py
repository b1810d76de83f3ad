"""Every image decoded once, uint8, in one array that is read by memory map."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import files, progress
from xraylab.data import pixels

IMAGES = "images.npy"
ROWS = "rows.csv"


def write(folder: Path, raw: Path, index: pd.DataFrame, size: int, fit: str) -> None:
    """Write images.npy, uint8 (images, size, size), and rows.csv, the ids in the array's order."""
    images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(len(index), size, size))

    def decode(row: int) -> None:
        gray, _ = pixels.read(raw / index["path"].iloc[row])
        images[row] = pixels.fit(gray, size, fit)

    with ThreadPoolExecutor() as pool:
        for _ in progress.bar(pool.map(decode, range(len(index))), len(index), "decoding images"):
            pass
    images.flush()
    files.write_table(index[["id"]], folder / ROWS)


def load(folder: Path) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """The array, memory-mapped and read-only, and each id's row in it."""
    ids = files.read_table(folder / ROWS)["id"]
    return np.load(folder / IMAGES, mmap_mode="r"), {name: row for row, name in enumerate(ids)}
