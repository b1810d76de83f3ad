"""Patients and copies of one picture across splits: what stays together, and what leaves so that nothing leaks."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xraylab.data.split import multi_label
from xraylab.data.split.strategies import UNUSED, groups
from xraylab.errors import DataError

PRIORITY = ("test", "valid", "train")
"""Splits by priority: the first keeps all its images, the last gives way."""
COLUMNS = ["id", "label", "split", "reason", "copy_of"]
NONE = pd.DataFrame(columns=COLUMNS)
SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
REASONS = {
    "patient": ("image shows a patient", "images show patients"),
    "duplicate": ("image is pixel for pixel the same as one", "images are pixel for pixel the same as some"),
    "near-duplicate": ("image is a near duplicate", "images are near duplicates"),
    "linked": ("image is linked through other copies to one", "images are linked through other copies to some"),
}


def units(index: pd.DataFrame, near: pd.DataFrame) -> pd.Series:
    """The name of what each image must stay together with: its patient, and every copy of its picture.

    Images of one patient, pixel-identical images and pairs of near duplicates are linked; a unit is a connected
    component of these links. It is called by the first of its patients' names, so an image without copies is called by
    its patient, or, where that is unknown, is a unit of its own. `near` has the columns id and other.
    """
    patients = groups(index)
    row_of = pd.Series(np.arange(len(index)), index=index["id"])
    pairs = near[near["id"].isin(row_of.index) & near["other"].isin(row_of.index)]
    links = [_to_first(patients), _to_first(index["pixel_hash"])]
    links.append(np.stack([row_of[pairs["id"]], row_of[pairs["other"]]]))
    start, end = np.concatenate(links, axis=1).astype(np.int64)
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(index), len(index)))
    _, component = connected_components(graph, directed=False)
    return patients.groupby(component).transform("min")


def _to_first(values: pd.Series) -> NDArray[np.int64]:
    """(2, n): each row, and the first row with the same value."""
    rows = pd.Series(np.arange(len(values)), index=values.index)
    return np.stack([rows, rows.groupby(values).transform("min")])


def find_leaving(split: pd.Series, unit: pd.Series) -> pd.Series:
    """Find the images to remove so that no unit has images in two splits: (n,) bool.

    The test split loses none. Of units with a test image, all training and validation images leave; of those with a
    validation image, the training images.
    """
    rank = _rank(split)
    return rank > rank.groupby(unit).transform("min")


def resolve(
    index: pd.DataFrame, near: pd.DataFrame, split: pd.Series, unit: pd.Series, most: float
) -> tuple[pd.Series, pd.DataFrame]:
    """`split` without the images that leave, which are unused; and those, as `explain` has them.

    Errors: DataError where more than the share `most` of training and validation would leave, or a class would be left
    without a training or a validation image.
    """
    leaves = find_leaving(split, unit)
    share = leaves.sum() / max(split.isin(["train", "valid"]).sum(), 1)
    if share > most:
        raise DataError(
            f"split.max_resolved: {leaves.sum()} images, {100 * share:.1f} % of training and validation, repeat a "
            f"picture or a patient of another split, and more than {100 * most:g} % may not leave. Take "
            "split.strategy: random, which keeps copies and patients together from the start; or set "
            "split.max_resolved higher, or split.on_leakage to accept, which the report will say"
        )
    remaining = split.mask(leaves, UNUSED)
    _refuse_emptied(index, split, remaining)
    return remaining, explain(index, near, split, unit, leaves)


def _refuse_emptied(index: pd.DataFrame, old_split: pd.Series, new_split: pd.Series) -> None:
    """Classes, or findings present or absent, that had an image in a split, and lost all of them."""
    labels = {name: index["label"] == name for name in sorted(index["label"].unique())}
    kinds = multi_label.presence(index) if multi_label.has_findings(index) else labels
    lost = [
        f"{name}: all {SPLIT_NAMES[split]} images ({(old_split[images] == split).sum()})"
        for split in ("train", "valid")
        for name, images in kinds.items()
        if (old_split[images] == split).any() and not (new_split[images] == split).any()
    ]
    if lost:
        raise DataError(
            "split.on_leakage: resolve would leave a class without images, since they repeat a picture or a patient of "
            "another split; take split.strategy: random, or set split.on_leakage to accept:",
            lost,
        )


def explain(
    index: pd.DataFrame, near: pd.DataFrame, split: pd.Series, unit: pd.Series, leaves: pd.Series
) -> pd.DataFrame:
    """One row per image that leaves: id, label, split, reason, and `copy_of`: the image of another split."""
    stays = split.isin(PRIORITY) & ~leaves & unit.isin(unit[leaves])
    staying = dict(iter(index[stays].groupby(unit[stays])))
    alike = _alike(near)
    columns = (index["id"], index["label"], index["patient"], index["pixel_hash"], split, unit)
    rows = []
    for name, label, patient, pixels, name_of_split, group in zip(*(column[leaves] for column in columns), strict=True):
        same_group = staying[group]
        ways = {
            "patient": (same_group["patient"] == patient) & (patient != ""),
            "duplicate": same_group["pixel_hash"] == pixels,
            "near-duplicate": same_group["id"].isin(alike.get(name, set())),
            "linked": same_group["id"] != "",
        }
        reason, applies = next((reason, applies) for reason, applies in ways.items() if applies.any())
        rows.append((name, label, name_of_split, reason, same_group["id"][applies].iloc[0]))
    return pd.DataFrame(rows, columns=COLUMNS)


def sentences(removed: pd.DataFrame) -> Iterator[str]:
    """Summarize how many images left each split, and why, without names."""
    counts = removed.groupby(["split", "reason"], sort=False).size()
    for (split, reason), count in zip(counts.index, counts, strict=True):
        one, more = REASONS[str(reason)]
        yield f"{count} {SPLIT_NAMES[str(split)]} {one if count == 1 else more} of another split"


def _rank(split: pd.Series) -> pd.Series:
    """0 for test, 1 for validation, 2 for training; NaN for an image that is not used."""
    return split.map({name: number for number, name in enumerate(PRIORITY)}).astype(float)


def _alike(near: pd.DataFrame) -> dict[str, set[str]]:
    """id -> its near duplicates."""
    alike: dict[str, set[str]] = {}
    for one, other in zip(near["id"], near["other"], strict=True):
        alike.setdefault(one, set()).add(other)
        alike.setdefault(other, set()).add(one)
    return alike
