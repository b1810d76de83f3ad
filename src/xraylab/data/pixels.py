"""From an image file to gray levels: the one way for the index, the cache and prediction."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from xraylab.errors import DataError

Gray = NDArray[np.uint8]
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
FULL_SCALE_16_BIT = 65535


def read(path: Path) -> tuple[Gray, str]:
    """The upright image as uint8 gray levels (height, width), and the mode in which the file stores it.

    16-bit images are scaled, not clipped; 32-bit ones from their own minimum to maximum. Errors: DataError with
    the file's path, also for decompression bombs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                mode = image.mode
                upright = ImageOps.exif_transpose(image)
                return _gray(upright), mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {_reason(error, path)}") from None


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


def _gray(image: Image.Image) -> Gray:
    if image.mode in DEEP_MODES:
        return _scaled(np.asarray(image).astype(np.float64), sixteen_bit=image.mode.startswith("I;16"))
    return np.asarray(image.convert("L"), dtype=np.uint8)


def _scaled(levels: NDArray[np.float64], sixteen_bit: bool) -> Gray:
    low, high = (0.0, float(FULL_SCALE_16_BIT)) if sixteen_bit else (float(levels.min()), float(levels.max()))
    if not np.isfinite([low, high]).all():
        raise ValueError("holds values that are not numbers")
    span = high - low or 1.0
    return np.round((levels - low) / span * 255).astype(np.uint8)


def _reason(error: BaseException, path: Path) -> str:
    text = str(error).replace(f" {str(path)!r}", "").strip()
    return text or type(error).__name__
