"""Who trains, who chooses the epoch, and who is only tested."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from xraylab.data.layout import natural
from xraylab.errors import DataError

SIDES = ("train", "valid", "test")


def by_sorted_id(index: pd.DataFrame, test: float, valid: float, seed: int) -> pd.Series:
    """Each image's side, as the `tb` study drew it.

    Within each class, ascending by id in natural order, the first `test` of the images (rounded down, counted by
    image) is the test side; of the rest, about `valid` is the validation side, by whole patients, stratified by the
    classes that a patient has.

    Errors: DataError naming every class that leaves a side empty.
    """
    side = pd.Series("train", index=index.index)
    for _, rows in index.groupby("label", sort=False):
        ordered = sorted(rows["id"], key=natural)
        side[index["id"].isin(ordered[: share(test, len(ordered))])] = "test"
    side[index["id"].isin(_validation(index[side == "train"], valid, seed))] = "valid"
    _refuse_empty_sides(index, side, test, valid)
    return side


def share(fraction: float, count: int) -> int:
    """`fraction` of `count`, rounded down in decimal arithmetic: 0.29 of 100 is 29."""
    return math.floor(Decimal(str(fraction)) * count)


def groups(table: pd.DataFrame) -> pd.Series:
    """What must stay together: the patient, or the image where the patient is unknown."""
    return table["patient"].where(table["patient"] != "", "image " + table["id"])


def summary(index: pd.DataFrame, side: pd.Series) -> dict[str, dict[str, dict[str, Any]]]:
    """Side -> class -> number of images and the first and last name in natural order."""
    classes = index["label"].unique()
    return {
        name: {label: _range(index["id"][(side == name) & (index["label"] == label)]) for label in classes}
        for name in SIDES
    }


def shared_patients(index: pd.DataFrame, side: pd.Series) -> list[dict[str, Any]]:
    """The patients who have images on more than one side."""
    known = index[index["patient"] != ""].assign(side=side)
    return [
        {"patient": patient, "sides": [name for name in SIDES if name in set(rows["side"])], "images": len(rows)}
        for patient, rows in known.groupby("patient")
        if rows["side"].nunique() > 1
    ]


def shared_duplicates(index: pd.DataFrame, side: pd.Series) -> list[list[str]]:
    """The groups of pixel-identical images that lie on more than one side."""
    return [
        list(rows["id"])
        for _, rows in index.assign(side=side).groupby("pixel_hash", sort=False)
        if rows["side"].nunique() > 1
    ]


def _validation(rest: pd.DataFrame, valid: float, seed: int) -> list[str]:
    """Ids of whole patients, drawn at random until each stratum's share is full."""
    rng = np.random.default_rng(seed)
    ids_of = rest.groupby(groups(rest))["id"].agg(list)
    stratum_of = rest.groupby(groups(rest))["label"].agg(lambda labels: "|".join(sorted(set(labels))))
    drawn = []
    for _, members in ids_of.groupby(stratum_of):
        room = round(valid * members.map(len).sum())
        for ids in members.iloc[rng.permutation(len(members))]:
            if len(ids) <= room:
                room -= len(ids)
                drawn += ids
    return drawn


def _range(ids: pd.Series) -> dict[str, Any]:
    names = [name.split("/", 1)[1] for name in sorted(ids, key=natural)]
    return {"images": len(names), "first": names[0] if names else None, "last": names[-1] if names else None}


def _refuse_empty_sides(index: pd.DataFrame, side: pd.Series, test: float, valid: float) -> None:
    needed = [name for name in SIDES if name != "valid" or valid > 0]
    problems = []
    for label, rows in index.groupby("label", sort=False):
        empty = [name for name in needed if not (side[rows.index] == name).any()]
        if empty:
            problems.append(f"{label}: {len(rows)} images leave {' and '.join(empty)} without one")
    if problems:
        raise DataError(
            f"a class has fewer images than the split needs (split.test: {test}, split.valid: {valid}); "
            "add images or change the fractions:",
            problems,
        )
