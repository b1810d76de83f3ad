"""What every image file holds, and which files hold the same picture."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files, progress
from xraylab.data import pixels
from xraylab.errors import DataError


def measure(raw: Path, names: list[str]) -> pd.DataFrame:
    """Read every image once: width, height, mode, file_hash, pixel_hash, one row per name.

    Errors: one DataError that names every file that cannot be read.
    """

    def look(name: str) -> dict[str, Any] | DataError:
        try:
            return _row(raw / name)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        rows = list(progress.bar(pool.map(look, names), len(names), "reading images"))
    unreadable = [str(row) for row in rows if isinstance(row, DataError)]
    if unreadable:
        raise DataError(
            f"{len(unreadable)} of {len(rows)} images cannot be read; mend or remove them in the source:", unreadable
        )
    return pd.DataFrame(rows)


def duplicates(index: pd.DataFrame) -> list[list[str]]:
    """The ids of images with identical pixels, group by group."""
    groups = index.groupby("pixel_hash", sort=False)["id"].agg(list)
    return [group for group in groups if len(group) > 1]


def _row(path: Path) -> dict[str, Any]:
    gray, mode = pixels.read(path)
    height, width = gray.shape
    return {
        "width": width,
        "height": height,
        "mode": mode,
        "file_hash": files.sha256(path),
        "pixel_hash": sha256(f"{width}x{height}".encode() + gray.tobytes()).hexdigest(),
    }
