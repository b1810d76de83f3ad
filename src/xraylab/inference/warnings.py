"""Warnings about an image: that a classifier was not made for it, or knows it from its training."""

from dataclasses import dataclass

from xraylab.data.image_facts import Look
from xraylab.data.pixels import Picture, gray

NO_RADIOGRAPH, LATERAL, OTHER_BODY_PART = "no_radiograph", "lateral", "other_body_part"
FAR_FROM_TRAINING, COPY_OF_TRAINING = "far_from_training", "copy_of_training"
CODES = (NO_RADIOGRAPH, LATERAL, OTHER_BODY_PART, FAR_FROM_TRAINING, COPY_OF_TRAINING)
"""In the order in which an image's warnings are listed."""


@dataclass(frozen=True)
class ImageWarning:
    """`code` is one of CODES; `text` is a sentence for people, which says `looks like` where pixels alone tell it."""

    code: str
    text: str


@dataclass(frozen=True)
class ImageFacts:
    """What warnings need of a decoded image besides its prepared form."""

    dicom: dict[str, str]
    """`Picture.facts`: empty but for DICOM."""
    look: Look
    """Of the image as it was decoded, so that it can be compared with data/index.csv."""
    colour: float
    """The share of the pixels that have a colour."""

    @classmethod
    def of(cls, picture: Picture) -> "ImageFacts":
        return cls(picture.facts, Look.of(gray(picture.levels)), picture.colour)
