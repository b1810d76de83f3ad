"""Images on disk in shards: several arrays that are read as one, row by row, so that they need not fit in memory."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xraylab import files, tables
from xraylab.errors import DataError

SHARD = 4096
"""Images of a shard: minutes of work, so that little is lost with one, and a few hundred files for a million images."""
WHOLE, MANIFEST, ROWS = "images.npy", "shards.csv", "rows.csv"

Part = tuple[int, int]
"""Which of how many parts of a work, the first is 1."""


class Shards:
    """Arrays of one type, alike but for their length, as one. Rows are copied when they are indexed, as numpy does it.

    `rows` are those of all that it has; None: every one.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64] | None = None) -> None:
        self.parts = [np.asarray(part) for part in parts]  # a plain view of a memory map is indexed faster
        self.starts = np.array([0, *accumulate(map(len, parts))])
        self.rows = np.arange(self.starts[-1]) if rows is None else rows
        self._starts = self.starts.tolist()  # a list is searched faster for a single row
        self.shape, self.dtype = (len(self.rows), *self.parts[0].shape[1:]), self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, on disk or in memory."""
        return len(self.rows) * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """One row, or an array of those of a slice, of a mask, or of numbers. Errors: IndexError."""
        rows = self.rows[key]
        if rows.ndim == 0:
            return self._row(int(rows))
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        part = np.searchsorted(self.starts, rows, "right") - 1
        inside = rows - self.starts[part]
        for place, (number, row) in enumerate(zip(part.tolist(), inside.tolist(), strict=True)):
            taken[place] = self.parts[number][row]
        return taken

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return map(self._row, self.rows.tolist())

    def take(self, key: NDArray[np.bool_] | NDArray[np.int64]) -> "Shards":
        """Some of the rows, of which none is copied."""
        return Shards(self.parts, self.rows[key])

    def _row(self, row: int) -> NDArray[np.uint8]:
        part = bisect_right(self._starts, row) - 1
        one: NDArray[np.uint8] = self.parts[part][row - self._starts[part]]
        return one


Images = NDArray[np.uint8] | Shards


def take(images: Images, key: NDArray[np.bool_] | NDArray[np.int64]) -> Shards:
    """Some of the rows, of which none is copied."""
    return (images if isinstance(images, Shards) else Shards([images])).take(key)


def load(folder: Path) -> tuple[Images, dict[str, int]]:
    """What the stage `cache` wrote: the images, memory-mapped and read-only, and each id's row in them.

    Errors: MissingError where it wrote none, DataError where some of it is gone or cut off.
    """
    ids = tables.read(folder / ROWS)["id"]
    names = files_of(folder)
    try:
        parts = [np.load(folder / name, mmap_mode="r") for name in names]
    except (OSError, ValueError, EOFError) as error:
        raise _incomplete(folder, str(error)) from None
    images: Images = parts[0] if len(parts) == 1 else Shards(parts)
    if len(images) != len(ids):
        raise _incomplete(folder, f"{len(images)} images for {len(ids)} ids")
    return images, {name: row for row, name in enumerate(ids)}


def files_of(folder: Path) -> list[str]:
    """The names of the files that hold the images: one, or those that the manifest lists."""
    manifest = folder / MANIFEST
    return list(tables.read(manifest)["file"]) if manifest.is_file() else [WHOLE]


def hashes(folder: Path) -> list[str]:
    """SHA-256 of what the images are; of shards their manifest's, which has theirs: they may be a terabyte."""
    manifest = folder / MANIFEST
    listed = [manifest, folder / ROWS] if manifest.is_file() else folder.iterdir()
    return [files.sha256(path) for path in sorted(listed)]


def ranges(count: int) -> list[range]:
    """The rows of each shard of so many images."""
    return [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]


def parse_part(text: str) -> Part:
    """`2/8`, the second of eight parts. Errors: DataError."""
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise DataError(f"--part {text!r} is no part: write which of how many, such as 2/8, from 1/8 to 8/8")
    return int(number), int(parts)


def of_part(shards: Sequence[range], part: Part | None) -> list[range]:
    """Every so manieth shard, so that a stopped work has done some of everything; None: all."""
    number, parts = part or (1, 1)
    return list(shards[number - 1 :: parts])


def _incomplete(folder: Path, why: str) -> DataError:
    return DataError(f"{folder} is incomplete ({why}): run `dvc checkout data/cache`, or `dvc repro --force cache`")
