"""Finished shards, which outlive the stage that makes them: it goes on where it stopped, and may work in parts."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xraylab import files, progress, shards
from xraylab.errors import DataError
from xraylab.shards import Part

LIBRARIES = (
    "imagehash", "numpy", "opencv-python-headless", "pillow", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg",
    "python-gdcm", "scipy",
)  # fmt: skip
ABANDONED = 3600.0  # seconds in which a file that is being written grows


def key(code: Sequence[str], facts: Any) -> str:
    """A name for what is made of such facts by these modules of the package, with the libraries that are installed."""
    package = Path(files.__file__).parent
    made_by = [*(files.sha256(package / name) for name in code), *map(version, LIBRARIES)]
    return sha256(json.dumps([made_by, facts]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Shard:
    """What is known of a finished shard: the SHA-256 of its array, and the facts about it."""

    sha256: str
    facts: list[Any]


@dataclass(frozen=True)
class ShardStore:
    """A folder of arrays (`KEY.npy`), each with facts about it and the SHA-256 of both (`KEY.json`).

    Several processes and machines may write into one folder: each file is written whole or not at all.
    `prune`: delete the shards of other data or settings once a stage has finished.
    """

    folder: Path
    prune: bool = False

    def array(self, key: str) -> Path:
        """Where the array of a key lies."""
        return self.folder / f"{key}.npy"

    def write(self, key: str, shape: tuple[int, ...], rows: Iterable[bytes], facts: list[Any]) -> Shard:
        """Write a uint8 array row by row, and then the facts, to which `rows` may add."""
        digest = sha256()
        with files.replacing(self.array(key)) as temporary, temporary.open("wb") as file:
            for content in chain([_header(shape)], rows):
                digest.update(content)
                file.write(content)
        array = digest.hexdigest()
        record = {"array": array, "facts": facts, "sha256": _sum(array, facts)}
        files.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False), self._record(key))
        return Shard(array, facts)

    def has(self, key: str) -> bool:
        """Whether there is such a shard, which may be damaged."""
        return self._record(key).is_file() and self.array(key).is_file()

    def read(self, key: str) -> Shard | None:
        """What is known of a finished shard; None where there is none, or one that is not as it was written."""
        if not self.has(key):
            return None
        try:
            record = json.loads(self._record(key).read_text(encoding="utf-8"))
            array, facts = record["array"], record["facts"]
            if record["sha256"] == _sum(array, facts) and array == files.sha256(self.array(key)):
                return Shard(array, facts)
        except (ValueError, KeyError, TypeError):
            pass  # no record any more
        progress.say(f"{self.array(key)} is damaged, and is made anew")
        return None

    def keep(self, keys: Iterable[str]) -> None:
        """Delete all other shards, and what killed processes left half-written."""
        expected = set(keys)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            old = time.time() - path.stat().st_mtime > ABANDONED
            if old if path.name.startswith(".") else path.stem not in expected:
                path.unlink()

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"


class Work(Protocol):
    """What is done shard by shard: `what` it makes, in which `phase`, and how many bytes there are of one image."""

    what: str
    phase: str

    @property
    def size_of_one(self) -> int: ...

    def key(self, rows: range) -> str:
        """The name of a shard."""

    def write(self, store: ShardStore, key: str, rows: range, text: str) -> Shard:
        """Make it."""


def finished(work: Work, store: ShardStore, rows: list[range]) -> Iterator[tuple[str, Shard]]:
    """Each shard's key and what is known of it; what the store lacks, or holds damaged, is made.

    Errors: DataError where the disk has no room for what is not there, before any is made.
    """
    keys = [work.key(each) for each in rows]
    missing = sum(len(each) for key, each in zip(keys, rows, strict=True) if not store.has(key))
    if missing:
        store.folder.mkdir(parents=True, exist_ok=True)
        files.require_room(store.folder, missing * work.size_of_one, f"{work.what} of {missing} images")
    for number, (key, each) in enumerate(zip(keys, rows, strict=True), start=1):
        text = f"{work.phase}, shard {number} of {len(rows)}"
        yield key, store.read(key) or work.write(store, key, each, text)
    if store.prune:
        store.keep(keys)


def write_part(work: Work, store: ShardStore, images: int, part: Part) -> None:
    """Finish the shards that belong to a part. Errors: DataError as `finished`, and where there is but one."""
    if images <= shards.SHARD:
        raise DataError(f"{images} images are one shard ({shards.SHARD} at most) without parts: leave out --part")
    for _ in finished(work, store, shards.of_part(shards.ranges(images), part)):
        pass


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _sum(array: str, facts: list[Any]) -> str:
    return sha256(json.dumps([array, facts]).encode()).hexdigest()
