"""SampledAugmentation films for the benches: smooth fields with the fine grain that makes real ones slow to decode."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def film(number: int, pixels: int) -> NDArray[np.uint8]:
    """The film of that number; no two are alike."""
    rng = np.random.default_rng(number)
    coarse = rng.normal(128, 40, (12, 12)).astype(np.float32)
    field = cv2.resize(coarse, (pixels, pixels), interpolation=cv2.INTER_CUBIC)
    return np.clip(field + rng.normal(0, 4, field.shape), 0, 255).astype(np.uint8)


def write(paths: list[Path], pixels: int) -> None:
    """One film as each of `paths`, by number."""
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: cv2.imwrite(str(each[1]), film(each[0], pixels)), enumerate(paths)))
