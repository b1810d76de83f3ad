"""The sides of a split, what they hold, and training images left out."""

from typing import Any

import numpy as np
import pandas as pd

from xraylab.data.names import natural

SIDES = ("train", "valid", "test")
UNUSED = "unused"


def limited(index: pd.DataFrame, side: pd.Series, per_class: int | str, seed: int) -> pd.Series:
    """`side` with at most `per_class` training images of each class, drawn at random; the others are unused.

    `all` leaves every image where it is, `smallest` counts those of the smallest class.
    """
    if per_class == "all":
        return side
    training = index[side == "train"]
    sizes = training["label"].value_counts()
    most = int(sizes.min()) if per_class == "smallest" else int(per_class)
    rng = np.random.default_rng(seed)
    limited = side.copy()
    for label in sorted(sizes.index):
        ids = np.sort(training["id"][training["label"] == label].to_numpy(str))
        limited[index["id"].isin(rng.permutation(ids)[most:])] = UNUSED
    return limited


def held(index: pd.DataFrame, side: pd.Series) -> dict[str, Any]:
    """`sides`: side -> class -> number of images, first and last name; `unused`: class -> number of images."""
    classes = list(index["label"].unique())
    sides = {
        name: {label: _range(index["id"][(side == name) & (index["label"] == label)]) for label in classes}
        for name in SIDES
    }
    unused = {label: int(((side == UNUSED) & (index["label"] == label)).sum()) for label in classes}
    return {"sides": sides, "unused": unused}


def _range(ids: pd.Series) -> dict[str, Any]:
    names = [name.split("/", 1)[-1] for name in sorted(ids, key=natural)]
    return {"images": len(names), "first": names[0] if names else None, "last": names[-1] if names else None}
