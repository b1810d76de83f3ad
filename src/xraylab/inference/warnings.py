"""Warnings about an image: that a classifier was not made for it, or has seen it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from xraylab.data.image_facts import Look
from xraylab.data.pixels import Gray, Picture, gray

NO_RADIOGRAPH, LATERAL, OTHER_BODY_PART, INVERTED = "no_radiograph", "lateral", "other_body_part", "inverted"
FAR_FROM_TRAINING, COPY_OF_TRAINING = "far_from_training", "copy_of_training"
CODES = (NO_RADIOGRAPH, LATERAL, OTHER_BODY_PART, INVERTED, FAR_FROM_TRAINING, COPY_OF_TRAINING)
"""In the order in which an image's warnings are listed."""

NOT_RADIOGRAPHS = ("CT", "MR", "US", "NM", "PT", "ES", "XC", "GM", "SM", "OP")
"""Modalities whose images are no radiographs (DICOM PS3.3, C.7.3.1.1.1)."""
OWN_BODY_PART = {"MG": "the breast", "IO": "teeth", "PX": "the jaw"}
"""Modalities of one body part."""
LATERAL_VIEWS = ("LL", "RL", "LAT", "LATERAL")
CHEST = ("CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "RIB")
COLOURED = 0.05  # the share of coloured pixels: of 1,124 films in covid3 none has more than 0.007
NOISE = 0.4  # correlation of neighbouring places of a thumbnail: of 7,000 real films none is below 0.6
THUMBNAIL = 64
FLAT = 0.00005 * 255  # gray levels: `Look.contrast`, which is rounded, is 0 below


@dataclass(frozen=True)
class ImageWarning:
    """`code` is one of CODES; `text` is a sentence for people, which says `looks` where pixels alone tell it."""

    code: str
    text: str


@dataclass(frozen=True)
class ImageFacts:
    """Facts of a decoded image that warnings need besides its prepared form."""

    dicom: dict[str, str]
    """`Picture.facts`: empty but for DICOM."""
    flat: bool
    """One gray level everywhere."""
    colour: float
    """The share of the pixels that have a colour."""
    look: Look | None
    """Of the image as it was decoded, so that it can be compared with data/index.csv; None where it is no copy."""

    @classmethod
    def of(cls, picture: Picture, may_be_copy: Callable[[Gray], bool] = lambda gray: True) -> "ImageFacts":
        """`may_be_copy`: such as `Reference.may_be_copy`, for which images the look, which takes time, is needed."""
        levels = gray(picture.levels)
        flat = cv2.meanStdDev(levels)[1].item() < FLAT
        return cls(picture.facts, flat, picture.colour, Look.of(levels) if may_be_copy(levels) else None)


@dataclass(frozen=True)
class Expected:
    """Facts of the training images; where none is known, a study of chest films expects frontal ones."""

    modalities: tuple[str, ...]
    views: tuple[str, ...]
    body_parts: tuple[str, ...]
    chest: bool


def of_dicom(facts: dict[str, str], expected: Expected) -> Iterator[ImageWarning]:
    """Warnings for DICOM tags of an image that no training image has: certain, if the file is right."""
    modality, view, part = (facts.get(name, "") for name in ("modality", "view", "body_part"))
    known = expected.chest or bool(expected.body_parts)
    if modality in NOT_RADIOGRAPHS and modality not in expected.modalities:
        yield ImageWarning(NO_RADIOGRAPH, f"DICOM says modality {modality}: no radiograph")
    if view in LATERAL_VIEWS and not set(LATERAL_VIEWS) & set(expected.views) and (expected.chest or expected.views):
        yield ImageWarning(LATERAL, f"DICOM says view {view}: a lateral image, and the training images are frontal")
    if modality in OWN_BODY_PART and modality not in expected.modalities and (known or expected.modalities):
        yield ImageWarning(OTHER_BODY_PART, f"DICOM says modality {modality}: an image of {OWN_BODY_PART[modality]}")
    elif part and known and part not in (expected.body_parts or CHEST):
        others = ", ".join(expected.body_parts) or "CHEST"
        yield ImageWarning(OTHER_BODY_PART, f"DICOM says body part {part}, and the training images show {others}")


def of_pixels(image: Gray, facts: ImageFacts) -> Iterator[ImageWarning]:
    """Warnings for pixels that no radiograph has, whatever the study; `image` is prepared."""
    if facts.flat:
        yield ImageWarning(NO_RADIOGRAPH, "is one gray level everywhere: no radiograph")
    elif facts.colour >= COLOURED:
        share = f"{100 * facts.colour:.0f} % of its pixels are coloured"
        yield ImageWarning(NO_RADIOGRAPH, f"looks like no radiograph: {share}")
    elif _smoothness(image) < NOISE:
        yield ImageWarning(NO_RADIOGRAPH, "looks like no radiograph: neighbouring pixels differ as in noise")


def in_order(warnings: Iterable[ImageWarning]) -> list[ImageWarning]:
    """The first warning of each code, in the order of CODES."""
    first = {each.code: each for each in reversed(list(warnings))}
    return [first[code] for code in CODES if code in first]


def _smoothness(image: Gray) -> float:
    """The correlation of neighbours, the smaller of across and down; 1 for an image without contrast."""
    size = min(THUMBNAIL, *image.shape)
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64)
    pairs = ((small[:, :-1], small[:, 1:]), (small[:-1], small[1:]))
    lowest = float(np.min([_correlation(one, other) for one, other in pairs]))
    return 1.0 if np.isnan(lowest) else lowest


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """That of Pearson; NaN where one of them has no contrast."""
    first, second = ((part - part.mean()).ravel() for part in (one, other))
    squares = float(first @ first) * float(second @ second)
    return float(first @ second) / float(np.sqrt(squares)) if squares else float("nan")
