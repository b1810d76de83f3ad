"""How far an image is from the training images, by limits that validation images fix."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import ceil, inf

import cv2
import numpy as np
from numpy.typing import NDArray

from xraylab.data import lungs
from xraylab.data.pixels import Gray
from xraylab.inference.distances import Gaussian
from xraylab.inference.warnings import FAR_FROM_TRAINING, INVERTED, ImageWarning
from xraylab.shards import Images

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FALSE_ALARMS = 0.01
"""The share of images like those of validation that may be far by any of the distances, and that may look inverted."""
MIN_VALID = 50
"""With fewer validation images no limit is fixed: there would be more than 6 % of false alarms."""
LAYOUT_SIZE = 16
FLAT = 8.0  # gray levels: added to the contrast that a layout is divided by, so that a flat image's noise stays small
CHEST_SHARE = 0.9  # of the validation images in which lungs are found, in a study of chest films
DOUBTFUL = 0.1  # the share of validation images that look so little like lungs that their negatives are looked at
NAMES = {
    "features": "the network's features of it",
    "layout": "where it is light and dark",
    "lungs": "how little it looks like two lungs",
}


@dataclass(frozen=True)
class Measurements:
    """Values that distances are computed from, a row per image."""

    features: Floats
    """(n, width), each of length 1 (Mueller and Hein 2025)."""
    layouts: Floats
    """(n, LAYOUT_SIZE squared): the image shrunk, without its brightness and contrast."""
    lungs: Doubles
    """(n,): `lungs.plausibility`; empty where lungs are not looked for."""

    @classmethod
    def of(cls, images: Gray, features: Floats, search_lungs: bool, enough: float = inf) -> "Measurements":
        """Of prepared images (n, size, size) and a classifier's features of them; `enough`: of `lungs`."""
        lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        layouts = np.stack([_layout(image) for image in images])
        return cls(features / lengths, layouts, _plausibility(images, enough) if search_lungs else np.empty(0))

    @classmethod
    def join(cls, parts: list["Measurements"]) -> "Measurements":
        return cls(
            *(np.concatenate(each) for each in zip(*((p.features, p.layouts, p.lungs) for p in parts), strict=True))
        )


@dataclass(frozen=True)
class LungLimits:
    """Limits for studies of chest films."""

    doubtful: float
    """An image that looks less like lungs than this is compared with its negative."""
    inverted: float
    """How much more the negative must look like lungs for the image to look inverted."""


@dataclass(frozen=True)
class Appearance:
    """Distances from the training images, and their limits."""

    features: Gaussian
    layout: Gaussian
    limits: dict[str, float]
    """Of each distance in NAMES that is looked at."""
    n_valid: int
    lungs: LungLimits | None

    @classmethod
    def fit(cls, train: Measurements, valid: Measurements, negatives: Doubles) -> "Appearance | None":
        """From training images, and validation images with lungs; None where there are fewer than MIN_VALID.

        `negatives`: `excess_of_negatives` of the validation images.
        """
        if len(valid.layouts) < MIN_VALID or len(train.layouts) < 2:
            return None
        features, layout = Gaussian.fit(train.features), Gaussian.fit(train.layouts)
        chest = float((valid.lungs >= lungs.PLAUSIBLE).mean()) >= CHEST_SHARE
        distances = _distances(features, layout, valid, chest)
        limits = {name: upper_limit(each, FALSE_ALARMS / len(distances)) for name, each in distances.items()}
        inverted = max(upper_limit(negatives, FALSE_ALARMS), 0.0)
        of_lungs = LungLimits(doubtful(valid.lungs), inverted) if chest else None
        return cls(features, layout, limits, len(valid.layouts), of_lungs)

    def check(self, images: Gray, features: Floats) -> list[list[ImageWarning]]:
        """`far_from_training` and `inverted` of prepared images (n, size, size) with their features (n, width)."""
        enough = max(self.lungs.doubtful, -self.limits["lungs"]) if self.lungs else inf
        measured = Measurements.of(images, features, self.lungs is not None, enough)
        distances = _distances(self.features, self.layout, measured, self.lungs is not None)
        warned: list[list[ImageWarning]] = [[] for _ in images]
        for name, each in distances.items():
            within = rank(self.n_valid, FALSE_ALARMS / len(distances))
            for number in np.flatnonzero(each > self.limits[name]):
                text = f"looks unlike the training images: {NAMES[name]} is beyond that of {within} of {self.n_valid}"
                warned[number].append(ImageWarning(FAR_FROM_TRAINING, f"{text} validation images"))
        if self.lungs is not None:
            excess = excess_of_negatives(images, measured.lungs, self.lungs.doubtful)
            for number in np.flatnonzero(excess > self.lungs.inverted):
                text = "looks inverted: its negative looks more like two lungs than the image does"
                warned[number].append(ImageWarning(INVERTED, text))
        return warned


def rank(n: int, share: float) -> int:
    """How many of n validation images are within a limit that another image like them is beyond with `share`.

    Where n is less than 1 / `share` - 1 all are, and that probability is 1 / (n + 1) (Vovk et al. 2005).
    """
    return min(ceil((n + 1) * (1 - share) - 1e-9), n)


def upper_limit(values: Doubles, share: float) -> float:
    """The largest of the `rank` smallest values."""
    return float(np.sort(values)[rank(len(values), share) - 1])


def doubtful(plausibility: Doubles) -> float:
    """`LungLimits.doubtful`, from validation images."""
    return float(np.quantile(plausibility, DOUBTFUL))


def excess_of_negatives(images: Images, plausibility: Doubles, below: float) -> Doubles:
    """How much more like lungs the negative of each image looks than the image; -1 where that looks like lungs itself.

    Or where the negative does not either; `below` is what neither reaches.
    """
    excess = np.full(len(images), -1.0)
    rows = np.flatnonzero(plausibility < below)
    if len(rows):
        negatives = _plausibility(255 - images[rows])
        excess[rows] = np.where(negatives >= below, negatives - plausibility[rows], -1.0)
    return excess


def _distances(features: Gaussian, layout: Gaussian, measured: Measurements, chest: bool) -> dict[str, Doubles]:
    distances = {"features": features.distance(measured.features), "layout": layout.distance(measured.layouts)}
    return distances | ({"lungs": -measured.lungs} if chest else {})


def _layout(image: Gray) -> Floats:
    small = cv2.resize(image, (LAYOUT_SIZE, LAYOUT_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    return np.asarray((small - small.mean()) / (small.std() + FLAT), np.float32)


def _plausibility(images: Gray, enough: float = inf) -> Doubles:
    with ThreadPoolExecutor() as pool:  # OpenCV lets go of Python's lock
        return np.array(list(pool.map(partial(lungs.plausibility, enough=enough), images)))
