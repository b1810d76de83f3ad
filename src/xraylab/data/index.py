"""Index the images: one row each, with what the file holds."""

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from xraylab import files, progress
from xraylab.data import pixels, prepare
from xraylab.data.layouts import multi_source
from xraylab.errors import DataError

SALT_BYTES = 32
HASH_SIZE = 16  # squared, in bits
THUMBNAIL = 80  # height and width
HEADER = ("sex", "age", "view", "patient", "source")
PERSON = ("patient", "source", "manufacturer", "date")
MEASURED = (
    "width", "height", "mode", "format", "bytes", "file_hash", "pixel_hash", "perceptual_hash", "inside_hash",
    "brightness", "contrast", "border", "burned_in", "window", "manufacturer", "site", "study_order",
)  # fmt: skip

READ = (*(name for name in MEASURED if name not in ("site", "study_order")), "date")


class Measured(NamedTuple):
    """The result of `measure`."""

    table: pd.DataFrame
    unreadable: list[str]
    """Why each of the other images cannot be read."""
    thumbnails: NDArray[np.uint8]
    """(n, THUMBNAIL, THUMBNAIL): a row per row of the table."""


def measure(
    raw: Path, images: pd.DataFrame, salt: bytes | None = None, keep_names: bool = False, several_sources: bool = False
) -> Measured:
    """Read every image of `images` once: its rows with what the files hold, and why each of the others cannot be read.

    Adds width and height (pixels), mode and format (how the file stores it), bytes, file_hash (SHA-256), pixel_hash
    (SHA-256 of the upright gray levels), perceptual_hash (256 bits, hex), inside_hash (that of what lies inside uniform
    edges; '' without such edges), brightness and contrast (mean and standard deviation of the gray levels, 0 to 1),
    border (share of the area in uniform edges), burned_in and window (DICOM).
    Sex, age, view, patient and source (the site) come from a DICOM header where the table does not know them; so do
    manufacturer, site and study_order (the rank of the study's date), which no table tells. Patients and sites are
    hashes with `salt` (None: one that nobody knows) unless `keep_names`. `several_sources`: patients of two
    sources are two people.
    """
    salt = salt or secrets.token_bytes(SALT_BYTES)

    def read(name: str) -> dict[str, Any] | DataError:
        try:
            return _row(raw / name, salt, keep_names)
        except DataError as error:
            return error

    rows = list(progress.mapped(read, list(images["path"]), "reading images"))
    thumbnails = _take_thumbnails(rows)
    good = [not isinstance(row, DataError) for row in rows]
    table = images[good].reset_index(drop=True)
    measured = pd.DataFrame([row for row in rows if not isinstance(row, DataError)], columns=[*READ, *HEADER])
    measured["study_order"] = _order(measured.pop("date"))
    measured["site"] = measured["source"]
    if several_sources:
        measured["patient"] = multi_source.prefix_patients(table["source"], measured["patient"])
    for column in HEADER:
        table[column] = table[column].where(table[column] != "", measured[column])
    unreadable = [str(row) for row in rows if isinstance(row, DataError)]
    return Measured(pd.concat([table, measured[list(MEASURED)]], axis=1), unreadable, thumbnails)


def _take_thumbnails(rows: list[dict[str, Any] | DataError]) -> NDArray[np.uint8]:
    """The thumbnails of the readable rows, taken out of them one by one, so that they are not in memory twice."""
    readable = [row for row in rows if not isinstance(row, DataError)]
    thumbnails = np.empty((len(readable), THUMBNAIL, THUMBNAIL), np.uint8)
    for number, row in enumerate(readable):
        thumbnails[number] = row.pop("thumbnail")
    return thumbnails


def _row(path: Path, salt: bytes, keep_names: bool) -> dict[str, Any]:
    picture = pixels.decode(path)
    levels, gray = picture.levels, pixels.gray(picture.levels)
    height, width = levels.shape
    person = _person(path, salt, keep_names) if picture.format == "DICOM" else dict.fromkeys(PERSON, "")
    top, bottom, left, right = prepare.border(gray)
    inside = gray[top : height - bottom, left : width - right]
    return {
        "width": width,
        "height": height,
        "mode": picture.mode,
        "format": picture.format,
        "bytes": path.stat().st_size,
        "file_hash": files.sha256(path),
        "pixel_hash": sha256(f"{width}x{height} {levels.dtype}".encode() + levels.tobytes()).hexdigest(),
        "perceptual_hash": _perceptual_hash(gray),
        "inside_hash": _perceptual_hash(inside) if inside.size < gray.size else "",
        "brightness": round(float(gray.mean()) / 255, 4),
        "contrast": round(float(gray.std()) / 255, 4),
        "border": round(1 - inside.size / gray.size, 4),
        **{name: picture.facts.get(name, "") for name in ("sex", "age", "view", "burned_in", "window")},
        **person,
        "thumbnail": np.asarray(Image.fromarray(gray).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)),
    }


def _person(path: Path, salt: bytes, keep_names: bool) -> dict[str, str]:
    from xraylab.data import headers  # noqa: PLC0415 - pydicom takes time to import, and most images are no DICOM

    return headers.read(path, salt, keep_names)


def _perceptual_hash(gray: pixels.Gray) -> str:
    """The signs of the 256 lowest frequencies about their median (ImageHash's pHash)."""
    bits = imagehash.phash(Image.fromarray(gray), hash_size=HASH_SIZE).hash
    return np.packbits(bits.ravel()).tobytes().hex()


def _order(dates: pd.Series) -> pd.Series:
    """The rank of each date among all, 1 for the earliest, and '' where it is unknown."""
    ranks = {date: str(rank) for rank, date in enumerate(sorted(set(dates) - {""}), start=1)}
    return dates.map(lambda date: ranks.get(date, ""))
