"""Ways to split the images: each yields one series of splits, like the index, per fold; without folds, one."""

import math
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab.data.names import natural, some
from xraylab.data.split import multi_label
from xraylab.errors import DataError

SPLITS = ("train", "valid", "test")
UNUSED = "unused"


def by_sorted_id(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """Split as the `tb` study did.

    Within each class, ascending by id in natural order, the first `test` of the images (rounded down, counted by
    image) is the test split; of the rest, about `valid` is the validation split, by whole patients, stratified by the
    classes that a patient has. Images with several findings are no members of classes: the first patients, by the
    first of their images, are tested, as many as have no more than `test` of the images.

    Errors: DataError naming every class that leaves a split empty, as for every strategy.
    """
    split = pd.Series("train", index=index.index)
    if multi_label.has_findings(index):
        split[_first_patients(index, test)] = "test"
    else:
        for _, rows in index.groupby("label", sort=False):
            ordered = sorted(rows["id"], key=natural)
            split[index["id"].isin(ordered[: share(test, len(ordered))])] = "test"
    _move(index, split, "valid", valid, np.random.default_rng(seed), carry=False)
    _refuse_empty_splits(index, [split], _too_few(test, valid), valid > 0)
    return [split]


def at_random(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """Sample whole patients, stratified by their classes: `test` of the images, then `valid` of the rest."""
    split, rng = pd.Series("train", index=index.index), np.random.default_rng(seed)
    _move(index, split, "test", test, rng)
    _move(index, split, "valid", valid, rng)
    _refuse_empty_splits(index, [split], _too_few(test, valid), valid > 0)
    return [split]


def as_given(index: pd.DataFrame, valid: float | None, seed: int) -> list[pd.Series]:
    """Keep the column `split`; with a fraction `valid`, sample validation anew from its train and valid images."""
    unknown = list(index["id"][index["split"] == ""])
    if unknown:
        raise DataError(
            f"split.strategy given: the data give no split for {some(unknown)}; "
            "name a folder with your own lists in split.files, or take another strategy"
        )
    split = index["split"].copy()
    if valid is not None:
        split[split == "valid"] = "train"
        _move(index, split, "valid", valid, np.random.default_rng(seed))
    headline = (
        f"a class has no image in a split of the data (split.valid_pct: {'null' if valid is None else valid}); "
        "add images there, sample validation with a fraction in split.valid_pct, or take another strategy:"
    )
    _refuse_empty_splits(index, [split], headline, valid is None or valid > 0)
    return [split]


def by_hash(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """Split by a hash of the patient's id and the seed alone, so that nobody moves when images are added.

    The shares are those of patients, and reached only on average.
    """
    u = groups(index).map(lambda group: int(sha256(f"{seed} {group}".encode()).hexdigest()[:16], 16) / 16**16)
    split = pd.Series("train", index=index.index)
    split[u < test + (1 - test) * valid] = "valid"
    split[u < test] = "test"
    _refuse_empty_splits(index, [split], _too_few(test, valid), valid > 0)
    return [split]


def by_folds(index: pd.DataFrame, folds: int, valid: float, seed: int) -> list[pd.Series]:
    """Stratified k-fold over whole patients: every image is tested in one fold, and `valid` of the rest validates."""
    tested = _test_folds(index, folds, seed)
    splits = []
    for fold in range(folds):
        split = pd.Series(np.where(tested == fold, "test", "train"), index=index.index)
        _move(index, split, "valid", valid, np.random.default_rng([seed, fold]))
        splits.append(split)
    headline = (
        f"a class has fewer images than the split needs (split.folds: {folds}, split.valid_pct: {valid}); "
        "add images or lower split.folds:"
    )
    _refuse_empty_splits(index, splits, headline, valid > 0)
    return splits


def by_source(index: pd.DataFrame, valid: float, seed: int) -> list[pd.Series]:
    """Every source that has all classes is tested in one fold, in the order of `tested_sources`; the others train.

    Validation is `valid` of the training images, by whole patients, stratified by source and class.
    """
    splits = []
    for fold, source in enumerate(tested_sources(index)):
        split = pd.Series(np.where(index["source"] == source, "test", "train"), index=index.index)
        strata = index.assign(label=index["source"] + "|" + index["label"])
        _move(strata, split, "valid", valid, np.random.default_rng([seed, fold]), by_source=True)
        splits.append(split)
    headline = f"a class has fewer images than split.valid_pct: {valid} needs; add images, or lower it:"
    _refuse_empty_splits(index, splits, headline, valid > 0)
    return splits


def tested_sources(index: pd.DataFrame) -> list[str]:
    """The sources with images of every class, in natural order. Errors: DataError for fewer than two of them.

    One that lacks a class cannot be tested by AUROC, so it trains in every fold.
    """
    unknown = list(index["id"][index["source"] == ""])
    if unknown:
        raise DataError(
            f"split.strategy {LEAVE_ONE_SOURCE_OUT}: {len(unknown)} of {len(index)} images have no source, such as "
            f"{some(unknown)}: write data.source as a list, or give their source in a table"
        )
    if multi_label.has_findings(index):
        return _sources_of_all_findings(index)
    labels_of = {str(name): list(rows.unique()) for name, rows in index.groupby("source")["label"]}
    classes = list(index["label"].unique())
    complete = sorted((name for name, labels in labels_of.items() if len(labels) == len(classes)), key=natural)
    if len(complete) < 2:
        raise DataError(
            f"split.strategy {LEAVE_ONE_SOURCE_OUT}: needs two sources or more with images of every class "
            f"({', '.join(classes)}); there is",
            [f"{name}: {', '.join(labels_of[name])}" for name in sorted(labels_of, key=natural)],
        )
    return complete


def _sources_of_all_findings(index: pd.DataFrame) -> list[str]:
    lacking = multi_label.complete_sources(index)
    complete = sorted((name for name, lacks in lacking.items() if not lacks), key=natural)
    if len(complete) < 2:
        raise DataError(
            f"split.strategy {LEAVE_ONE_SOURCE_OUT}: needs two sources or more with images that show each finding and "
            "images that do not; leave rare findings out of data.classes. There is:",
            [
                f"{name}: {'all' if not lacking[name] else 'none with ' + ', '.join(lacking[name])}"
                for name in sorted(lacking, key=natural)
            ],
        )
    return complete


LEAVE_ONE_SOURCE_OUT = "leave-one-source-out"
FOLDED = ("folds", LEAVE_ONE_SOURCE_OUT)
"""Strategies of which a repeat is one of several folds."""
STRATEGIES: dict[str, Callable[..., list[pd.Series]]] = {
    "sorted-id": by_sorted_id,
    "random": at_random,
    "given": as_given,
    "hash": by_hash,
    "folds": by_folds,
    LEAVE_ONE_SOURCE_OUT: by_source,
}


def share(fraction: float, count: int) -> int:
    """`fraction` of `count`, rounded down in decimal arithmetic: 0.29 of 100 is 29."""
    return math.floor(Decimal(str(fraction)) * count)


def groups(table: pd.DataFrame) -> pd.Series:
    """Name the group that stays together: the patient, or the image where the patient is unknown."""
    return table["patient"].where(table["patient"] != "", "image " + table["id"])


def _first_patients(index: pd.DataFrame, fraction: float) -> pd.Series:
    """The first patients in natural order of their first images, with at most `fraction` of the images: bool."""
    ordered = index.iloc[sorted(range(len(index)), key=lambda row: natural(index["id"].iloc[row]))]
    sizes = groups(ordered).groupby(groups(ordered), sort=False).size()
    return groups(index).isin(sizes.index[sizes.cumsum() <= share(fraction, len(index))])


def _move(
    index: pd.DataFrame,
    split: pd.Series,
    to: str,
    fraction: float,
    rng: np.random.Generator,
    carry: bool = True,
    by_source: bool = False,
) -> None:
    """Move about `fraction` of the training images to another split, by whole patients sampled in each stratum.

    `carry`: what one stratum falls short of its share is owed by the next larger one, so that small strata count
    together. Images with several findings are in no stratum, but stratified iteratively, `by_source` or not.
    """
    rest = index[split == "train"]
    if multi_label.has_findings(index):
        moved = multi_label.share_out(rest, groups(rest), (1 - fraction, fraction), rng, by_source)
        split[rest.index[moved == 1]] = to
        return
    ids_of = rest.groupby(groups(rest))["id"].agg(list)
    stratum_of = rest.groupby(groups(rest))["label"].agg(lambda labels: "|".join(sorted(set(labels))))
    strata = [members for _, members in ids_of.groupby(stratum_of)]
    if carry:
        strata.sort(key=lambda members: members.map(len).sum())
    sampled, owed = [], 0.0
    for members in strata:
        owed = fraction * members.map(len).sum() + (owed if carry else 0)
        room = round(owed)
        for ids in members.iloc[rng.permutation(len(members))]:
            if len(ids) <= room:
                room, owed = room - len(ids), owed - len(ids)
                sampled += ids
    split[index["id"].isin(sampled)] = to


def _test_folds(index: pd.DataFrame, folds: int, seed: int) -> NDArray[np.int64]:
    """The number of the fold that tests each image."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - takes a second, and one strategy uses it

    group = groups(index)
    if multi_label.has_findings(index):
        return multi_label.share_out(index, group, [1 / folds] * folds, np.random.default_rng(seed))
    sizes = group.groupby(index["label"], sort=False).nunique()
    few = [f"{label}: {size} patients cannot fill {folds} folds" for label, size in sizes.items() if size < folds]
    if few:
        raise DataError(
            f"a class has fewer patients than split.folds; an image without a known patient counts as one "
            f"(split.folds: {folds}); add images or lower split.folds:",
            few,
        )
    tested = np.empty(len(index), np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, rows) in enumerate(splitter.split(index, index["label"], group)):
        tested[rows] = fold
    return tested


def _too_few(test: float, valid: float) -> str:
    return (
        f"a class has fewer images than the split needs (split.test_pct: {test}, split.valid_pct: {valid}); "
        "add images or change the fractions:"
    )


def _refuse_empty_splits(index: pd.DataFrame, splits: list[pd.Series], headline: str, needs_valid: bool) -> None:
    needed = [name for name in SPLITS if name != "valid" or needs_valid]
    headline = multi_label.HEADLINE if multi_label.has_findings(index) else headline
    problems = list[str]()
    for fold, split in enumerate(splits):
        where = f"fold {fold}, " if len(splits) > 1 else ""
        if multi_label.has_findings(index):
            problems += multi_label.empty(index, split, needed, where)
            continue
        for label, rows in index.groupby("label", sort=False):
            empty = [name for name in needed if not (split[rows.index] == name).any()]
            if empty:
                problems.append(f"{where}{label}: {len(rows)} images leave {' and '.join(empty)} without one")
    if problems:
        raise DataError(headline, problems)


def limit_training(index: pd.DataFrame, split: pd.Series, per_class: int | str, seed: int) -> pd.Series:
    """`split` with at most `per_class` training images of each class, sampled at random; the others are unused.

    `all` leaves every image where it is, `smallest` counts those of the smallest class.
    """
    if per_class == "all":
        return split
    training = index[split == "train"]
    sizes = training["label"].value_counts()
    most = int(sizes.min()) if per_class == "smallest" else int(per_class)
    rng = np.random.default_rng(seed)
    limited = split.copy()
    for label in sorted(sizes.index):
        ids = np.sort(training["id"][training["label"] == label].to_numpy(str))
        limited[index["id"].isin(rng.permutation(ids)[most:])] = UNUSED
    return limited


def summarize(index: pd.DataFrame, split: pd.Series) -> dict[str, Any]:
    """`splits`: split -> class -> number of images, first and last name; `unused`: class -> number of images."""
    if multi_label.has_findings(index):
        return multi_label.summarize(index, split, SPLITS)
    classes = list(index["label"].unique())
    splits = {
        name: {label: _range(index["id"][(split == name) & (index["label"] == label)]) for label in classes}
        for name in SPLITS
    }
    unused = {label: int(((split == UNUSED) & (index["label"] == label)).sum()) for label in classes}
    return {"splits": splits, "unused": unused}


def _range(ids: pd.Series) -> dict[str, Any]:
    names = [name.split("/", 1)[-1] for name in sorted(ids, key=natural)]
    return {"images": len(names), "first": names[0] if names else None, "last": names[-1] if names else None}
