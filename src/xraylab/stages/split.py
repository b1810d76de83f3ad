"""split: who is on which side, in each fold where there are folds; stops on leakage that was not accepted by name."""

from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files, params, tables
from xraylab.data.audit import findings
from xraylab.data.audit.findings import Finding
from xraylab.data.split import listed, sides
from xraylab.data.split.strategies import STRATEGIES
from xraylab.errors import DataError
from xraylab.params import Params
from xraylab.paths import Paths

COLUMNS = ["id", "path", "label", "patient"]
NAMED = 10  # examples of each kind of leakage in the error


def run(given: Params, paths: Paths) -> None:
    index = _index(given.split, paths)
    drawn = _drawn(index, given.split)
    parts = [sides.held(index, side) for side in drawn]
    folds = given.split.folds
    leaks = _leaks(index, tables.read(paths.near_duplicates), drawn, given.split)
    _refuse(leaks)
    with files.replacing_folder(paths.split) as folder:
        for number, side in enumerate(drawn):
            _write(index, side, folder if folds is None else folder / f"fold-{number}")
        # what stands at the top is the first fold's
        summary = {"strategy": given.split.strategy, "folds": folds, **parts[0], "each_fold": parts if folds else []}
        files.write_json(summary, folder / "summary.json")
        files.write_json(leaks, folder / "audit.json")
    for leak in leaks:
        print(f"accepted: {_said(leak)}")
    for number, part in enumerate(parts):
        if folds:
            print(f"fold {number}")
        _print(part)


def _index(given: params.Split, paths: Paths) -> pd.DataFrame:
    """The index, its sides taken from the lists of split.files where there are any."""
    index = tables.read(paths.index)
    if given.files is None:
        return index
    column, rows = listed.noted(paths.sides, paths.from_home(given.files).name)
    return index.assign(side=listed.sides(column, rows, list(index["id"]), list(index["path"]), sides.UNUSED))


def _drawn(index: pd.DataFrame, given: params.Split) -> list[pd.Series]:
    """Each image's side, one series per fold."""
    own = {name: value for name, value in (("test", given.test), ("folds", given.folds)) if value is not None}
    drawn = STRATEGIES[given.strategy](index, valid=given.valid, seed=given.seed, **own)
    return [sides.limited(index, side, given.train_per_class, given.seed) for side in drawn]


def _leaks(index: pd.DataFrame, near: pd.DataFrame, drawn: list[pd.Series], given: params.Split) -> list[Finding]:
    """What crosses sides, fold by fold."""
    return [
        found | {"fold": None if given.folds is None else number}
        for number, side in enumerate(drawn)
        for found in findings.across_sides(index, near, side, given.accept)
    ]


def _refuse(leaks: list[Finding]) -> None:
    stopping = [leak for leak in leaks if leak["severity"] == "stop"]
    if stopping:
        kinds = dict.fromkeys(leak["kind"].removesuffix("_across_sides") for leak in stopping)
        raise DataError(
            "the sides leak into one another, so the test would not be independent. Mend the data or take another "
            f"split.strategy; or go on with split.accept: [{', '.join(kinds)}], which the report will say:",
            [_said(leak) for leak in stopping],
        )


def _said(leak: Finding) -> str:
    fold = "" if leak["fold"] is None else f"fold {leak['fold']}: "
    more = max(leak["count"] - NAMED, 0)
    examples = ", ".join(leak["examples"][:NAMED]) + (f" and {more} more" if more else "")
    return f"{fold}{leak['count']} {leak['says']}: {examples}"


def _write(index: pd.DataFrame, side: pd.Series, folder: Path) -> None:
    for name in sides.SIDES:
        tables.write(index.loc[side == name, COLUMNS], folder / f"{name}_data.csv")


def _print(part: dict[str, Any]) -> None:
    for side, classes in part["sides"].items():
        for label, held in classes.items():
            names = f"{held['first']} to {held['last']}" if held["images"] else ""
            print(f"{side:6} {label:16} {held['images']:6}  {names}")
    for label, count in part["unused"].items():
        if count:
            print(f"unused {label:16} {count:6}")
