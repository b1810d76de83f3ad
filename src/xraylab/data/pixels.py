"""Decode image files to gray levels, for the index, the cache and prediction alike."""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xraylab.errors import DataError

Gray = NDArray[np.uint8]
Level = TypeVar("Level", bound=np.generic)
Reserve = Callable[[int], None]
Levels = NDArray[np.uint8] | NDArray[np.uint16]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
DICOM_SUFFIXES = (".dcm", ".dicom")
DICOM_PREAMBLE = 128
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
GRAY_MODES = ("1", "L", "LA", "La")
COLOURED = 60  # levels of 255 between a pixel's red, green and blue
FULL_SCALE = 65535
GRAY = ((np.arange(FULL_SCALE + 1, dtype=np.uint32) + 128) // 257).astype(np.uint8)  # of each level of 16 bits
BLOCK = 1 << 18  # pixels that are converted at a time
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
MOST_PAGES = 100  # that are counted: millions fit into a small file
LARGEST_ASPECT_RATIO = 30  # of the longer side to the shorter one; that of a whole spine is 4
LONG_MODES, LONGER = ("I", "F"), 8  # of 32 bits, which take so many times the memory to spread
LEAST_IN_FLIGHT, A_CORE = 100_000_000, 16_000_000  # pixels at a time: about 1 GB of memory, and a large film a core


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


class PixelBudget:
    """Pixels that threads decode and work on at a time, so that large pictures take turns, and small ones need not."""

    def __init__(self, most: int) -> None:
        self.most, self.used, self.changed = most, 0, threading.Condition()

    @contextmanager
    def lease(self) -> Iterator[Reserve]:
        """Yield a function that waits until so many pixels are free, which they are again when the context ends.

        A picture that is alone need not wait, however large it is.
        """
        taken = list[int]()

        def reserve(count: int) -> None:
            with self.changed:
                self.changed.wait_for(lambda: self.used == 0 or self.used + count <= self.most)
                self.used += count
                taken.append(count)

        try:
            yield reserve
        finally:
            with self.changed:
                self.used -= sum(taken)
                self.changed.notify_all()


BUDGET = PixelBudget(max(LEAST_IN_FLIGHT, A_CORE * (os.cpu_count() or 1)))
"""Of this process."""


def unbounded(count: int) -> None:
    """Reserve nothing: for one picture at a time."""


def decode(path: Path, reserve: Reserve = unbounded) -> Picture:
    """Read one image: uint8 levels as they are stored, all deeper ones as uint16.

    16-bit levels are kept at full scale, 32-bit ones and those of DICOM are spread from their own minimum to
    maximum (padding apart, which is black), colours become luma (ITU-R BT.601). `reserve` is called with the number of
    pixels before they are decoded. Errors: DataError with the file's path.
    """
    try:
        with path.open("rb") as file:
            return _decode(file, path, reserve)
    except Exception as error:  # decoders raise whatever they like at a damaged file
        raise DataError(f"{path}: {reason(error)}") from None


def decode_stream(file: BinaryIO, name: str, reserve: Reserve = unbounded) -> Picture:
    """`decode` of an open file, which can seek; `name` tells errors and the suffix. Errors: DataError with the name."""
    try:
        return _decode(file, Path(name), reserve)
    except Exception as error:
        raise DataError(f"{name}: {reason(error)}") from None


def _decode(file: BinaryIO, path: Path, reserve: Reserve) -> Picture:
    return _decode_dicom(file, reserve) if _is_dicom(file, path) else _decode_picture(file, reserve)


def read(path: Path) -> tuple[Gray, str]:
    """The gray levels of `decode` in 8 bits, and its mode."""
    picture = decode(path)
    return gray(picture.levels), picture.mode


def gray(levels: Levels) -> Gray:
    """Levels in 8 bits: deeper ones are rounded to the nearest."""
    if levels.dtype == np.uint8:
        return levels.astype(np.uint8, copy=False)
    return look_up(levels, GRAY)


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


def _decode_dicom(file: BinaryIO, reserve: Reserve) -> Picture:
    from xraylab.data import dicom  # noqa: PLC0415 - pydicom takes time to import, and most images are no DICOM

    radiograph = dicom.read(file, Image.MAX_IMAGE_PIXELS, reserve)
    return Picture(radiograph.levels, radiograph.mode, "DICOM", radiograph.facts, radiograph.padding)


def _decode_picture(file: BinaryIO, reserve: Reserve) -> Picture:
    with Image.open(file, formats=FORMATS) as image:
        _refuse(image, file)
        reserve(image.width * image.height)
        # Transparency is left out: the levels are what the pixels say, also where a viewer would show its background.
        # Exported X-rays are opaque; laying them over black or white would darken or bleach one whose alpha is wrong.
        image.info.pop("transparency", None)
        colour = _colour(image)
        stored = "JPEG" if image.format == "MPO" else str(image.format)  # MPO: a JPEG with previews beside the picture
        picture = Picture(_levels(image), image.mode, stored, colour=colour)
    if stored == "PNG":
        _check_sums(file)
    return picture


def _check_sums(file: BinaryIO) -> None:
    """Look at all checksums of a PNG: loading looks at some only."""
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        image.verify()


def _refuse(image: Image.Image, file: BinaryIO) -> None:
    long = image.mode in LONG_MODES
    refuse_size(*image.size, Image.MAX_IMAGE_PIXELS and Image.MAX_IMAGE_PIXELS // (LONGER if long else 1))
    count = _frames(image, file)
    if count > 1 and image.format != "MPO":
        parts, more = "pages" if image.format == "TIFF" else "frames", "more than " if count > MOST_PAGES else ""
        raise ValueError(f"holds {more}{min(count, MOST_PAGES)} {parts}; save the one to use as a file of its own")


def refuse_size(width: int, height: int, most_pixels: int | None) -> None:
    """Refuse a picture of too many pixels, and one that is so thin that no film is. Errors: ValueError."""
    if most_pixels is not None and width * height > most_pixels:
        raise ValueError(f"Image size ({width * height} pixels) exceeds limit of {most_pixels} pixels")
    if max(width, height) > LARGEST_ASPECT_RATIO * min(width, height):
        raise ValueError(f"is {width} x {height} pixels: no X-ray is {LARGEST_ASPECT_RATIO} times as long as wide")


def _frames(image: Image.Image, file: BinaryIO) -> int:
    """The number of pages or frames; of a TIFF, whose pages have to be looked for, up to one more than MOST_PAGES."""
    return _pages(file) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))


def _pages(file: BinaryIO) -> int:
    """Follow a TIFF's directories from one to the next, without reading them as Pillow does."""
    file.seek(0)
    head = file.read(16)
    order, big = "<" if head.startswith(b"II") else ">", head[2:4] in {b"+\0", b"\0+"}
    count, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    (at,) = struct.unpack_from(order + offset, head, 8 if big else 4)
    seen = set[int]()
    while at and at not in seen and len(seen) <= MOST_PAGES:
        seen.add(at)
        with suppress(struct.error, OSError, OverflowError):  # a page that is cut off
            file.seek(at)
            (entries,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            file.seek(at + struct.calcsize(count) + entry * entries)
            (at,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
    return len(seen)


def _levels(image: Image.Image) -> Levels:
    tags = getattr(image, "tag_v2", {})
    bits, white_is_zero = tags.get(TIFF_BITS, (16,))[0], tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode not in DEEP_MODES:
        return np.asarray(image.convert("L"), dtype=np.uint8)
    levels = np.asarray(image)
    deep = _from_bits(levels, bits) if image.mode.startswith("I;16") else spread(levels)
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


def spread(levels: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Any numbers as uint16, from their minimum to their maximum."""
    low, high = float(levels.min()), float(levels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("holds values that are not numbers")
    result = np.empty(levels.shape, np.uint16)
    for part, into in zip(row_blocks(levels), row_blocks(result), strict=True):
        into[:] = np.round((part.astype(np.float64) - low) / (high - low or 1.0) * FULL_SCALE)
    return result


def look_up(numbers: NDArray[np.unsignedinteger], table: NDArray[Level]) -> NDArray[Level]:
    """The table's entry for each number."""
    result = np.empty(numbers.shape, table.dtype)
    for part, into in zip(row_blocks(numbers), row_blocks(result), strict=True):
        np.take(table, part, out=into, mode="clip")  # numbers lie in the table; without a check it is faster
    return result


def row_blocks(array: NDArray[Level]) -> Iterator[NDArray[Level]]:
    """Views of some rows at a time: what is computed of them takes little memory, however large the picture."""
    size = max(BLOCK // max(array.size // max(len(array), 1), 1), 1)
    return (array[start : start + size] for start in range(0, len(array), size))


def reason(error: Exception) -> str:
    """Why a file cannot be decoded, of whatever its decoder raised."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (OSError, SyntaxError, ValueError, Image.DecompressionBombError)) and str(error):
        return " ".join(str(error).split())
    return f"is damaged ({type(error).__name__})"
