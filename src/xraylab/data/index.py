"""What every image file holds."""

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from xraylab import files, progress
from xraylab.data import pixels, prepare
from xraylab.data.layouts import several as layouts_several
from xraylab.errors import DataError

SALT_BYTES = 32
HASH_SIZE = 16  # squared, in bits
HEADER = ("sex", "age", "view", "patient", "source")
PERSON = ("patient", "source", "manufacturer", "date")
MEASURED = (
    "width", "height", "mode", "format", "bytes", "file_hash", "pixel_hash", "perceptual_hash",
    "brightness", "contrast", "border", "burned_in", "window", "manufacturer", "site", "study_order",
)  # fmt: skip

READ = (*(name for name in MEASURED if name not in ("site", "study_order")), "date")


def measure(
    raw: Path, found: pd.DataFrame, salt: bytes | None = None, keep_names: bool = False, several: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Read every image of `found` once: its rows with what the files hold, and why each of the others cannot be read.

    Adds width and height (pixels), mode and format (how the file stores it), bytes, file_hash (SHA-256), pixel_hash
    (SHA-256 of the upright gray levels), perceptual_hash (256 bits, hex), brightness and contrast (mean and standard
    deviation of the gray levels, 0 to 1), border (share of the area in uniform edges), burned_in and window (DICOM).
    Sex, age, view, patient and source (the site) come from a DICOM header where the table does not know them; so do
    manufacturer, site and study_order (the rank of the study's date), which no table tells. Patients and sites are
    hashes with `salt` (None: one that nobody knows) unless `keep_names`. `several`: patients of two sources are two
    people.
    """
    salt = salt or secrets.token_bytes(SALT_BYTES)

    def look(name: str) -> dict[str, Any] | DataError:
        try:
            return _row(raw / name, salt, keep_names)
        except DataError as error:
            return error

    rows = list(progress.mapped(look, list(found["path"]), "reading images"))
    good = [not isinstance(row, DataError) for row in rows]
    table = found[good].reset_index(drop=True)
    measured = pd.DataFrame([row for row in rows if not isinstance(row, DataError)], columns=[*READ, *HEADER])
    measured["study_order"] = _order(measured.pop("date"))
    measured["site"] = measured["source"]
    if several:
        measured["patient"] = layouts_several.apart(table["source"], measured["patient"])
    for column in HEADER:
        table[column] = table[column].where(table[column] != "", measured[column])
    return pd.concat([table, measured[list(MEASURED)]], axis=1), [
        str(row) for row in rows if isinstance(row, DataError)
    ]


def _row(path: Path, salt: bytes, keep_names: bool) -> dict[str, Any]:
    picture = pixels.decode(path)
    levels, gray = picture.levels, pixels.gray(picture.levels)
    height, width = levels.shape
    person = _person(path, salt, keep_names) if picture.format == "DICOM" else dict.fromkeys(PERSON, "")
    top, bottom, left, right = prepare.border(gray)
    inside = (height - top - bottom) * (width - left - right)
    return {
        "width": width,
        "height": height,
        "mode": picture.mode,
        "format": picture.format,
        "bytes": path.stat().st_size,
        "file_hash": files.sha256(path),
        "pixel_hash": sha256(f"{width}x{height} {levels.dtype}".encode() + levels.tobytes()).hexdigest(),
        "perceptual_hash": _perceptual_hash(gray),
        "brightness": round(float(gray.mean()) / 255, 4),
        "contrast": round(float(gray.std()) / 255, 4),
        "border": round(1 - inside / (height * width), 4),
        **{name: picture.facts.get(name, "") for name in ("sex", "age", "view", "burned_in", "window")},
        **person,
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
