"""What one image file holds: its size, hashes and levels, what DICOM says of it, and a thumbnail."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xraylab import files
from xraylab.data import pixels, prepare

HASH_SIZE = 16  # squared, in bits
THUMBNAIL = 80  # height and width
PERSON = ("patient", "source", "manufacturer", "date")


@dataclass(frozen=True)
class Look:
    """Properties that tell copies of a picture: its hashes, contrast, and the share of its area that is border."""

    perceptual_hash: str
    inside_hash: str
    """The hash of what lies inside the border; '' where there is none."""
    contrast: float
    border: float

    @classmethod
    def of(cls, gray: pixels.Gray) -> "Look":
        top, bottom, left, right = prepare.border(gray)
        inside = gray[top : gray.shape[0] - bottom, left : gray.shape[1] - right]
        return cls(
            perceptual_hash(gray),
            perceptual_hash(inside) if inside.size < gray.size else "",
            round(_mean_and_std(gray)[1] / 255, 4),
            round(1 - inside.size / gray.size, 4),
        )


def read(path: Path, salt: bytes, keep_names: bool) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The facts by name (see `index.measure`), and the thumbnail. Errors: DataError with the file's path."""
    with pixels.BUDGET.lease() as reserve:
        return _measure(path, pixels.decode(path, reserve), salt, keep_names)


def _measure(
    path: Path, picture: pixels.Picture, salt: bytes, keep_names: bool
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    levels, gray = picture.levels, pixels.gray(picture.levels)
    height, width = levels.shape
    person = _person(path, salt, keep_names) if picture.format == "DICOM" else dict.fromkeys(PERSON, "")
    look = Look.of(gray)
    facts = {
        "width": width,
        "height": height,
        "mode": picture.mode,
        "format": picture.format,
        "bytes": path.stat().st_size,
        "file_hash": files.sha256(path),
        "pixel_hash": _pixel_hash(levels),
        "perceptual_hash": look.perceptual_hash,
        "inside_hash": look.inside_hash,
        "brightness": round(_mean_and_std(gray)[0] / 255, 4),
        "contrast": look.contrast,
        "border": look.border,
        **{name: picture.facts.get(name, "") for name in ("sex", "age", "view", "burned_in", "window")},
        **person,
    }
    return facts, thumbnail(gray)


def _mean_and_std(gray: pixels.Gray) -> tuple[float, float]:
    """From the histogram, which takes a twentieth of the time that numpy takes."""
    counts, values = np.array(Image.fromarray(gray).histogram()), np.arange(256)
    mean = (counts * values).sum() / gray.size
    return float(mean), float(np.sqrt((counts * (values - mean) ** 2).sum() / gray.size))


def _pixel_hash(levels: pixels.Levels) -> str:
    height, width = levels.shape
    digest = sha256(f"{width}x{height} {levels.dtype}".encode())
    digest.update(np.ascontiguousarray(levels).data)
    return digest.hexdigest()


def thumbnail(gray: pixels.Gray) -> NDArray[np.uint8]:
    """The picture squashed to (THUMBNAIL, THUMBNAIL)."""
    return np.asarray(Image.fromarray(gray).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def _person(path: Path, salt: bytes, keep_names: bool) -> dict[str, str]:
    from xraylab.data import headers  # noqa: PLC0415 - pydicom takes time to import, and most images are no DICOM

    return headers.read(path, salt, keep_names)


def perceptual_hash(gray: pixels.Gray) -> str:
    """The signs of the 256 lowest frequencies about their median (ImageHash's pHash)."""
    bits = imagehash.phash(Image.fromarray(gray), hash_size=HASH_SIZE).hash
    return np.packbits(bits.ravel()).tobytes().hex()
