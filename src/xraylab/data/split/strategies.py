"""Ways to draw the sides: each yields one series of sides, like the index, per fold; without folds, one."""

import math
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab.data.names import natural, some
from xraylab.data.split.sides import SIDES
from xraylab.errors import DataError


def by_sorted_id(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """As the `tb` study drew it.

    Within each class, ascending by id in natural order, the first `test` of the images (rounded down, counted by
    image) is the test side; of the rest, about `valid` is the validation side, by whole patients, stratified by the
    classes that a patient has.

    Errors: DataError naming every class that leaves a side empty, as for every strategy.
    """
    side = pd.Series("train", index=index.index)
    for _, rows in index.groupby("label", sort=False):
        ordered = sorted(rows["id"], key=natural)
        side[index["id"].isin(ordered[: share(test, len(ordered))])] = "test"
    _move(index, side, "valid", valid, np.random.default_rng(seed), carry=False)
    _refuse_empty_sides(index, [side], _few(test, valid), valid > 0)
    return [side]


def at_random(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """Whole patients, stratified by the classes that a patient has: `test` of the images, then `valid` of the rest."""
    side, rng = pd.Series("train", index=index.index), np.random.default_rng(seed)
    _move(index, side, "test", test, rng)
    _move(index, side, "valid", valid, rng)
    _refuse_empty_sides(index, [side], _few(test, valid), valid > 0)
    return [side]


def as_given(index: pd.DataFrame, valid: float | None, seed: int) -> list[pd.Series]:
    """The column `side`; with a fraction `valid`, validation is drawn anew from the given train and valid sides."""
    unknown = list(index["id"][index["side"] == ""])
    if unknown:
        raise DataError(
            f"split.strategy given: the data give no side for {some(unknown)}; "
            "name a folder with your own lists in split.files, or draw the sides with another strategy"
        )
    side = index["side"].copy()
    if valid is not None:
        side[side == "valid"] = "train"
        _move(index, side, "valid", valid, np.random.default_rng(seed))
    headline = (
        f"a class has no image on a side that was given (split.valid: {'null' if valid is None else valid}); "
        "add images there, draw validation with a fraction in split.valid, or take another strategy:"
    )
    _refuse_empty_sides(index, [side], headline, valid is None or valid > 0)
    return [side]


def by_hash(index: pd.DataFrame, test: float, valid: float, seed: int) -> list[pd.Series]:
    """A patient's side depends on its own id and the seed alone, so nobody moves when images are added.

    The shares are those of patients, and reached only on average.
    """
    places = groups(index).map(lambda group: int(sha256(f"{seed} {group}".encode()).hexdigest()[:16], 16) / 16**16)
    side = pd.Series("train", index=index.index)
    side[places < test + (1 - test) * valid] = "valid"
    side[places < test] = "test"
    _refuse_empty_sides(index, [side], _few(test, valid), valid > 0)
    return [side]


def by_folds(index: pd.DataFrame, folds: int, valid: float, seed: int) -> list[pd.Series]:
    """Stratified k-fold over whole patients: every image is tested in one fold, and `valid` of the rest validates."""
    tested = _test_folds(index, folds, seed)
    sides = []
    for fold in range(folds):
        side = pd.Series(np.where(tested == fold, "test", "train"), index=index.index)
        _move(index, side, "valid", valid, np.random.default_rng([seed, fold]))
        sides.append(side)
    headline = (
        f"a class has fewer images than the split needs (split.folds: {folds}, split.valid: {valid}); "
        "add images or lower split.folds:"
    )
    _refuse_empty_sides(index, sides, headline, valid > 0)
    return sides


def by_source(index: pd.DataFrame, valid: float, seed: int) -> list[pd.Series]:
    """Every source that has all classes is tested in one fold, in the order of `tested_sources`; the others train.

    Validation is `valid` of the training images, by whole patients, stratified by source and class.
    """
    sides = []
    for fold, source in enumerate(tested_sources(index)):
        side = pd.Series(np.where(index["source"] == source, "test", "train"), index=index.index)
        strata = index.assign(label=index["source"] + "|" + index["label"])
        _move(strata, side, "valid", valid, np.random.default_rng([seed, fold]))
        sides.append(side)
    headline = f"a class has fewer images than the split needs (split.valid: {valid}); add images or lower split.valid:"
    _refuse_empty_sides(index, sides, headline, valid > 0)
    return sides


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
    held = {str(name): list(rows.unique()) for name, rows in index.groupby("source")["label"]}
    classes = list(index["label"].unique())
    whole = sorted((name for name, labels in held.items() if len(labels) == len(classes)), key=natural)
    if len(whole) < 2:
        raise DataError(
            f"split.strategy {LEAVE_ONE_SOURCE_OUT}: needs two sources or more with images of every class "
            f"({', '.join(classes)}); there is",
            [f"{name}: {', '.join(held[name])}" for name in sorted(held, key=natural)],
        )
    return whole


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
    """What must stay together: the patient, or the image where the patient is unknown."""
    return table["patient"].where(table["patient"] != "", "image " + table["id"])


def _move(
    index: pd.DataFrame, side: pd.Series, to: str, fraction: float, rng: np.random.Generator, carry: bool = True
) -> None:
    """Bring about `fraction` of the training images to another side, by whole patients, drawn in each stratum.

    `carry`: what one stratum falls short of its share is owed by the next larger one, so that small strata count
    together.
    """
    rest = index[side == "train"]
    ids_of = rest.groupby(groups(rest))["id"].agg(list)
    stratum_of = rest.groupby(groups(rest))["label"].agg(lambda labels: "|".join(sorted(set(labels))))
    strata = [members for _, members in ids_of.groupby(stratum_of)]
    if carry:
        strata.sort(key=lambda members: members.map(len).sum())
    drawn, owed = [], 0.0
    for members in strata:
        owed = fraction * members.map(len).sum() + (owed if carry else 0)
        room = round(owed)
        for ids in members.iloc[rng.permutation(len(members))]:
            if len(ids) <= room:
                room, owed = room - len(ids), owed - len(ids)
                drawn += ids
    side[index["id"].isin(drawn)] = to


def _test_folds(index: pd.DataFrame, folds: int, seed: int) -> NDArray[np.int64]:
    """The number of the fold that tests each image."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - takes a second, and one strategy uses it

    group = groups(index)
    sizes = group.groupby(index["label"], sort=False).nunique()
    few = [f"{label}: {size} patients cannot fill {folds} folds" for label, size in sizes.items() if size < folds]
    if few:
        raise DataError(
            f"a class has fewer patients than split.folds; an image without a known patient counts as one "
            f"(split.folds: {folds}); add images or lower split.folds:",
            few,
        )
    tested = np.empty(len(index), np.int64)
    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(index, index["label"], group)
    for fold, (_, rows) in enumerate(drawn):
        tested[rows] = fold
    return tested


def _few(test: float, valid: float) -> str:
    return (
        f"a class has fewer images than the split needs (split.test: {test}, split.valid: {valid}); "
        "add images or change the fractions:"
    )


def _refuse_empty_sides(index: pd.DataFrame, sides: list[pd.Series], headline: str, needs_valid: bool) -> None:
    needed = [name for name in SIDES if name != "valid" or needs_valid]
    problems = []
    for fold, side in enumerate(sides):
        where = f"fold {fold}, " if len(sides) > 1 else ""
        for label, rows in index.groupby("label", sort=False):
            empty = [name for name in needed if not (side[rows.index] == name).any()]
            if empty:
                problems.append(f"{where}{label}: {len(rows)} images leave {' and '.join(empty)} without one")
    if problems:
        raise DataError(headline, problems)
