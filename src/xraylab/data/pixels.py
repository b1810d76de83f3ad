"""Decode image files to gray levels, for the index, the cache and prediction alike."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xraylab.errors import DataError

Gray = NDArray[np.uint8]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
DICOM_SUFFIXES = (".dcm", ".dicom")
DICOM_PREAMBLE = 128
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
GRAY_MODES = ("1", "L", "LA", "La")
COLOURED = 60  # levels of 255 between a pixel's red, green and blue
FULL_SCALE = 65535
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class Picture:
    """An upright image: gray `levels` (height, width), and what the file says of itself."""

    levels: Levels
    mode: str
    """Storage mode: Pillow's mode (`L`, `RGBA`, `I;16`), or such as `MONOCHROME1 10 bit`."""
    format: str
    """Format of the content, whatever the suffix: PNG, JPEG, WEBP, TIFF, BMP or DICOM."""
    facts: dict[str, str] = field(default_factory=dict)
    """From DICOM only, those that are known of sex, age, view, modality, body_part, burned_in and window."""
    padding: NDArray[np.bool_] | None = None
    """From DICOM only: (height, width), true where the file says that there is no image; `levels` are 0 there."""
    colour: float = 0.0
    """The share of the pixels whose colour is plainly no gray; of DICOM 0."""


def decode(path: Path) -> Picture:
    """Read one image: uint8 levels as they are stored, all deeper ones as uint16.

    16-bit levels are kept at full scale, 32-bit ones and those of DICOM are spread from their own minimum to
    maximum (padding apart, which is black), colours become luma (ITU-R BT.601). Errors: DataError with the file's path.
    """
    try:
        with path.open("rb") as file:
            return _decode(file, path)
    except Exception as error:  # decoders raise whatever they like at a damaged file
        raise DataError(f"{path}: {reason(error)}") from None


def decode_stream(file: BinaryIO, name: str) -> Picture:
    """`decode` of an open file, which can seek; `name` tells errors and the suffix. Errors: DataError with the name."""
    try:
        return _decode(file, Path(name))
    except Exception as error:
        raise DataError(f"{name}: {reason(error)}") from None


def _decode(file: BinaryIO, path: Path) -> Picture:
    return _decode_dicom(file, path) if _is_dicom(file, path) else _decode_picture(file)


def read(path: Path) -> tuple[Gray, str]:
    """The gray levels of `decode` in 8 bits, and its mode."""
    picture = decode(path)
    return gray(picture.levels), picture.mode


def gray(levels: Levels) -> Gray:
    """Levels in 8 bits: deeper ones are rounded to the nearest."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def fit(gray: Gray, pixels: int, how: str) -> Gray:
    """Bring (height, width) to (pixels, pixels): `squash` distorts, `crop` cuts the longer side, `pad` adds black."""
    image, size = Image.fromarray(gray), (pixels, pixels)
    match how:
        case "squash":
            fitted = image.resize(size, Image.Resampling.BILINEAR)
        case "crop":
            fitted = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        case _:
            fitted = ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    return np.asarray(fitted, dtype=np.uint8)


def _is_dicom(file: BinaryIO, path: Path) -> bool:
    start = file.read(DICOM_PREAMBLE + 4)
    file.seek(0)
    return start[DICOM_PREAMBLE:] == b"DICM" or path.suffix.lower() in DICOM_SUFFIXES


def _decode_dicom(file: BinaryIO, path: Path) -> Picture:
    from xraylab.data import dicom  # noqa: PLC0415 - pydicom takes time to import, and most images are no DICOM

    radiograph = dicom.read(file, Image.MAX_IMAGE_PIXELS)
    return Picture(_spread(radiograph.levels), radiograph.mode, "DICOM", radiograph.facts, radiograph.padding)


def _decode_picture(file: BinaryIO) -> Picture:
    with Image.open(file, formats=FORMATS) as image:
        _refuse(image)
        stored = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with previews beside the picture
        picture = Picture(_levels(image), image.mode, stored, colour=_colour(image))
    if stored == "PNG":
        _check_sums(file)
    return picture


def _check_sums(file: BinaryIO) -> None:
    """Look at all checksums of a PNG: loading looks at some only."""
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        image.verify()


def _refuse(image: Image.Image) -> None:
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"Image size ({width * height} pixels) exceeds limit of {Image.MAX_IMAGE_PIXELS} pixels")
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format != "MPO":
        parts = "pages" if image.format == "TIFF" else "frames"
        raise ValueError(f"holds {count} {parts}; save the one to use as a file of its own")


def _levels(image: Image.Image) -> Levels:
    # Transparency is left out: the levels are what the pixels say, also where a viewer would show its own background.
    # Exported X-rays are opaque; laying them over black or white would darken or bleach a picture whose alpha is wrong.
    image.info.pop("transparency", None)
    tags = getattr(image, "tag_v2", {})
    bits, white_is_zero = tags.get(TIFF_BITS, (16,))[0], tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
    upright = ImageOps.exif_transpose(image)
    if image.mode not in DEEP_MODES:
        return np.asarray(upright.convert("L"), dtype=np.uint8)
    levels = np.asarray(upright)
    deep = _from_bits(levels, bits) if image.mode.startswith("I;16") else _spread(levels)
    # Pillow turns bilevel and 8-bit images of this kind itself
    return np.invert(deep) if white_is_zero else deep


def _colour(image: Image.Image) -> float:
    """The share of 64 x 64 pixels, evenly spread, whose red, green and blue differ by more than a tinted film's."""
    if image.mode in (*GRAY_MODES, *DEEP_MODES):
        return 0.0
    few = np.asarray(image.resize((64, 64), Image.Resampling.NEAREST).convert("RGB"), np.int16)
    return float((np.ptp(few, axis=2) > COLOURED).mean())


def _from_bits(levels: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """16 bits as they are; the 12 bits of some TIFF files raised to full scale."""
    full = (1 << bits) - 1
    if full == FULL_SCALE:
        return levels.astype(np.uint16)
    return np.round(levels * (FULL_SCALE / full)).astype(np.uint16)


def _spread(levels: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Any numbers as uint16, from their minimum to their maximum."""
    numbers = levels.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("holds values that are not numbers")
    return np.round((numbers - low) / (high - low or 1.0) * FULL_SCALE).astype(np.uint16)


def reason(error: Exception) -> str:
    """Why a file cannot be decoded, of whatever its decoder raised."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (OSError, SyntaxError, ValueError, Image.DecompressionBombError)) and str(error):
        return " ".join(str(error).split())
    return f"is damaged ({type(error).__name__})"
