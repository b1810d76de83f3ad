"""Index the images: one row each, with what the file holds."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import progress, shards
from xraylab.data import image_facts, shard_store
from xraylab.data.image_facts import THUMBNAIL
from xraylab.data.layouts import multi_source
from xraylab.data.shard_store import Shard, ShardStore
from xraylab.errors import DataError
from xraylab.shards import Images, Shards

SALT_BYTES = 32
HEADER = ("sex", "age", "view", "patient", "source")
MEASURED = (
    "width", "height", "mode", "format", "bytes", "file_hash", "pixel_hash", "perceptual_hash", "inside_hash",
    "brightness", "contrast", "border", "burned_in", "window", "manufacturer", "site", "study_order",
)  # fmt: skip

CODE = (
    "data/codestreams.py",
    "data/dicom.py",
    "data/dicom_display.py",
    "data/headers.py",
    "data/image_facts.py",
    "data/index.py",
    "data/lungs.py",
    "data/pixels.py",
    "data/prepare.py",
)
FACTS_BYTES = 2000  # about so many are written of an image

READ = (*(name for name in MEASURED if name not in ("site", "study_order")), "date")


class Measured(NamedTuple):
    """The result of `measure`."""

    table: pd.DataFrame
    unreadable: list[str]
    """Reasons for which the other images cannot be read."""
    thumbnails: Images
    """(n, THUMBNAIL, THUMBNAIL): a row per row of the table."""


@dataclass(frozen=True)
class Reading:
    """The images whose paths below `raw` are given, each read once: facts (or why it cannot be read) and thumbnails."""

    raw: Path
    names: list[str]
    salt: bytes
    keep_names: bool

    what = "the index"
    phase = "reading images"
    size_of_one = THUMBNAIL**2 + FACTS_BYTES

    def read(self, rows: range, text: str) -> tuple[list[dict[str, Any] | str], NDArray[np.uint8]]:
        """The facts about these rows, and the thumbnails of those that can be read."""

        def one(name: str) -> tuple[dict[str, Any] | str, NDArray[np.uint8] | None]:
            try:
                return image_facts.read(self.raw / name, self.salt, self.keep_names)
            except DataError as error:
                return str(error), None

        thumbnails, facts = np.empty((len(rows), THUMBNAIL, THUMBNAIL), np.uint8), list[dict[str, Any] | str]()
        count = 0
        for each, thumbnail in progress.thread_map(one, self.names[rows.start : rows.stop], text):
            facts.append(each)
            if thumbnail is not None:
                thumbnails[count] = thumbnail
                count += 1
        return facts, thumbnails[:count]

    def key(self, rows: range) -> str:
        """A name for the facts: the same files, by size and time, and the same code and libraries give it again."""
        stamps = [_stamp(self.raw / name) for name in self.names[rows.start : rows.stop]]
        names = self.names[rows.start : rows.stop]
        return shard_store.key(CODE, [names, stamps, sha256(self.salt).hexdigest(), self.keep_names])

    def write(self, store: ShardStore, key: str, rows: range, text: str) -> Shard:
        """Read the rows into the store."""
        facts, thumbnails = self.read(rows, text)
        return store.write(key, thumbnails.shape, (each.tobytes() for each in thumbnails), facts)


def measure(
    raw: Path,
    images: pd.DataFrame,
    salt: bytes | None = None,
    keep_names: bool = False,
    several_sources: bool = False,
    store: ShardStore | None = None,
) -> Measured:
    """Read every image of `images` once: its rows with what the files hold, and why each of the others cannot be read.

    Adds width and height (pixels), mode and format (how the file stores it), bytes, file_hash (SHA-256), pixel_hash
    (SHA-256 of the upright gray levels), perceptual_hash (256 bits, hex), inside_hash (that of what lies inside uniform
    edges; '' without such edges), brightness and contrast (mean and standard deviation of the gray levels, 0 to 1),
    border (share of the area in uniform edges), burned_in and window (DICOM).
    Sex, age, view, patient and source (the site) come from a DICOM header where the table does not know them; so do
    manufacturer, site and study_order (the rank of the study's date), which no table tells. Patients and sites are
    hashes with `salt` (None: one that nobody knows) unless `keep_names`. `several_sources`: patients of two
    sources are two people. Of many images, `store` holds what was read shard by shard, and the thumbnails stay in it.
    """
    reading = Reading(raw, list(images["path"]), salt or secrets.token_bytes(SALT_BYTES), keep_names)
    parts, thumbnails = list[pd.DataFrame](), list[NDArray[np.uint8]]()
    good, unreadable = list[bool](), list[str]()
    for facts, small in _by_shard(reading, store):
        readable = [each for each in facts if not isinstance(each, str)]
        parts += [pd.DataFrame(readable, columns=[*READ, *HEADER])] if readable or not parts else []
        good += [not isinstance(each, str) for each in facts]
        unreadable += [each for each in facts if isinstance(each, str)]
        thumbnails.append(small)
    measured = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    table = images[good].reset_index(drop=True)
    measured["study_order"] = _order(measured.pop("date"))
    measured["site"] = measured["source"]
    if several_sources:
        measured["patient"] = multi_source.prefix_patients(table["source"], measured["patient"])
    for column in HEADER:
        table[column] = table[column].where(table[column] != "", measured[column])
    every = thumbnails[0] if len(thumbnails) == 1 else Shards(thumbnails)
    return Measured(pd.concat([table, measured[list(MEASURED)]], axis=1), unreadable, every)


def _by_shard(
    reading: Reading, store: ShardStore | None
) -> Iterator[tuple[list[dict[str, Any] | str], NDArray[np.uint8]]]:
    """The facts and thumbnails of all images, in one piece, or, of many, shard by shard."""
    if store is None or len(reading.names) <= shards.SHARD:
        yield reading.read(range(len(reading.names)), reading.phase)
        return
    for key, shard in shard_store.finished(reading, store, shards.ranges(len(reading.names))):
        yield shard.facts, np.load(store.array(key), mmap_mode="r")


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file; None where it cannot be read, which `read` will say."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _order(dates: pd.Series) -> pd.Series:
    """The rank of each date among all, 1 for the earliest, and '' where it is unknown."""
    ranks = {date: str(rank) for rank, date in enumerate(sorted(set(dates) - {""}), start=1)}
    return dates.map(lambda date: ranks.get(date, ""))
