"""Every image decoded once, uint8, in one array that is read by memory map."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import progress, tables
from xraylab.data import pixels


def write(folder: Path, raw: Path, index: pd.DataFrame, size: int, fit: str) -> None:
    """Write images.npy, uint8 (images, size, size), and rows.csv, the ids in the array's order."""
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(len(index), size, size))

    def decode(row: int) -> None:
        gray, _ = pixels.read(raw / index["path"].iloc[row])
        images[row] = pixels.fit(gray, size, fit)

    with ThreadPoolExecutor() as pool:
        for _ in progress.bar(pool.map(decode, range(len(index))), len(index), "decoding images"):
            pass
    images.flush()
    tables.write(index[["id"]], folder / "rows.csv")
