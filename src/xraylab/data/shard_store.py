"""Finished shards, which outlive the stage that makes them: it goes on where it stopped, and may work in parts."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from xraylab import files, progress

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
    """

    folder: Path

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
        files.write_json({"array": array, "facts": facts, "sha256": _sum(array, facts)}, self._record(key))
        return Shard(array, facts)

    def read(self, key: str) -> Shard | None:
        """What is known of a finished shard; None where there is none, or one that is not as it was written."""
        if not self._record(key).is_file() or not self.array(key).is_file():
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
        wanted = set(keys)
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            old = time.time() - path.stat().st_mtime > ABANDONED
            if old if path.name.startswith(".") else path.stem not in wanted:
                path.unlink()

    def _record(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _sum(array: str, facts: list[Any]) -> str:
    return sha256(json.dumps([array, facts]).encode()).hexdigest()
