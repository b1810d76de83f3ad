"""Every image decoded and prepared once, uint8, in one array or in shards that are read by memory map."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import files, progress, shards, tables
from xraylab.data import prepare, shard_store
from xraylab.data.names import natural, some
from xraylab.data.prepare import Preparation
from xraylab.data.shard_store import Shard, ShardStore

CODE = (
    "data/cache.py",
    "data/codestreams.py",
    "data/dicom.py",
    "data/dicom_display.py",
    "data/lungs.py",
    "data/pixels.py",
    "data/prepare.py",
)


@dataclass(frozen=True)
class Decoding:
    """The images of `index` (path below `raw`), as `prepare.read` makes them (size, size)."""

    raw: Path
    index: pd.DataFrame
    size: int
    fit: str
    preparation: Preparation

    what = "the cache"
    phase = "decoding images"

    @property
    def size_of_one(self) -> int:
        return self.size**2

    def images(self, rows: range, uncropped: list[str], text: str) -> Iterator[bytes]:
        """The images of these rows; the names of those in which no lungs were found join `uncropped`."""

        def image(name: str) -> bytes:
            picture, without_lungs = prepare.read_with_lungs(self.raw / name, self.preparation, self.size, self.fit)
            uncropped.extend([name] * without_lungs)
            return picture.tobytes()

        yield from progress.thread_map(image, list(self.index["path"].iloc[rows.start : rows.stop]), text)

    def key(self, rows: range) -> str:
        """A name for these images as they are prepared: the same files, choices, code and libraries give it again."""
        hashes = list(self.index["file_hash"].iloc[rows.start : rows.stop])
        return shard_store.key(CODE, [hashes, self.size, self.fit, asdict(self.preparation)])

    def write(self, store: ShardStore, key: str, rows: range, text: str) -> Shard:
        """Decode the rows into the store."""
        uncropped: list[str] = []
        return store.write(key, (len(rows), self.size, self.size), self.images(rows, uncropped, text), uncropped)


def write(folder: Path, decoding: Decoding) -> None:
    """Write images.npy, uint8 (images, size, size), and rows.csv, the ids in the array's order.

    Says how many were to be cropped to the lungs and are whole.
    Errors: DataError with the path of the first image, in the order of `index`, that cannot be read.
    """
    index, uncropped = decoding.index, list[str]()
    # decoders let go of Python's lock: threads are about as fast as processes, and take nothing to start
    with (folder / shards.WHOLE).open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(index), decoding.size, decoding.size)}
        np.lib.format.write_array_header_1_0(file, header)
        file.writelines(decoding.images(range(len(index)), uncropped, decoding.phase))
    tables.write(index[["id"]], folder / shards.ROWS)
    _say_uncropped(uncropped, len(index))


def write_shards(folder: Path, decoding: Decoding, store: ShardStore) -> None:
    """Write images-00000.npy and so on, shards.csv, which lists them with their SHA-256, and rows.csv.

    What lies finished in the store is linked from there, all else made there first.
    Says how many were to be cropped and are whole. Errors: DataError as `write`, and where the disk has no room.
    """
    rows = shards.ranges(len(decoding.index))
    finished = list(shard_store.finished(decoding, store, rows))
    names = [f"images-{number:05}.npy" for number in range(len(rows))]
    for name, (key, _) in zip(names, finished, strict=True):
        files.link(store.array(key), folder / name)
    listed = {"file": names, "images": map(len, rows), "sha256": [shard.sha256 for _, shard in finished]}
    tables.write(pd.DataFrame(listed), folder / shards.MANIFEST)
    tables.write(decoding.index[["id"]], folder / shards.ROWS)
    _say_uncropped([name for _, shard in finished for name in shard.facts], len(decoding.index))


def _say_uncropped(uncropped: list[str], images: int) -> None:
    if uncropped:
        progress.say(
            f"images.crop_lungs: no lungs were found in {len(uncropped)} of {images} images, which are whole, without "
            f"their border: {some(sorted(uncropped, key=natural))}"
        )
