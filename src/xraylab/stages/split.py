"""split: assign images to train, validation and test, in each fold where there are folds; resolve what leaks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files, tables
from xraylab.data.audit import findings
from xraylab.data.audit.findings import Finding
from xraylab.data.split import leakage, listed, sides
from xraylab.data.split.strategies import FOLDED, LEAVE_ONE_SOURCE_OUT, STRATEGIES, tested_sources
from xraylab.errors import DataError
from xraylab.params.config import Params
from xraylab.params.split import Split
from xraylab.paths import Paths

COLUMNS = ["id", "path", "label", "patient", "source"]
NAMED = 10  # examples of each kind of leakage


def run(given: Params, paths: Paths) -> None:
    cfg, index, near = given.split, _index(given.split, paths), tables.read(paths.near_duplicates)
    drawn, removed = _drawn(index, near, cfg)
    folds = len(drawn) if cfg.strategy in FOLDED else None
    sources = tested_sources(index) if cfg.strategy == LEAVE_ONE_SOURCE_OUT else []
    parts = [sides.held(index, side) for side in drawn]
    leaks = _leaks(index, near, drawn, cfg)
    _refuse(leaks)
    with files.replacing_folder(paths.split) as folder:
        for number, side in enumerate(drawn):
            _write(index, side, folder / f"fold-{number}" if folds else folder)
        # what stands at the top is the first fold's
        summary = {"strategy": cfg.strategy, "folds": folds, **parts[0], "each_fold": parts if folds else []}
        summary |= {"test_sources": sources, "removed": list(_sentences(removed, sources))}
        files.write_json(summary, folder / "summary.json")
        files.write_json(leaks, folder / "audit.json")
        tables.write(removed, folder / "removed.csv")
    for line in [*(f"accepted: {_said(leak)}" for leak in leaks), *_told(removed, sources)]:
        print(line)
    for number, part in enumerate(parts):
        if folds:
            print(f"fold {number}" + (f", which tests {sources[number]}" if sources else ""))
        _print(part)


def _index(given: Split, paths: Paths) -> pd.DataFrame:
    """The index, its sides taken from the lists of split.files where there are any."""
    index = tables.read(paths.index)
    if given.files is None:
        return index
    column, rows = listed.noted(paths.sides, paths.from_home(given.files).name)
    return index.assign(side=listed.sides(column, rows, list(index["id"]), list(index["path"]), sides.UNUSED))


def _drawn(index: pd.DataFrame, near: pd.DataFrame, cfg: Split) -> tuple[list[pd.Series], pd.DataFrame]:
    """Each image's split, one series per fold; and the images that left so that nothing leaks.

    Patients and copies of a picture are drawn as one unit. Folds of whole units leak nothing; sources may share some.
    """
    own = {name: value for name, value in (("test", cfg.test), ("folds", cfg.folds)) if value is not None}
    unit = leakage.units(index, near)
    drawn = STRATEGIES[cfg.strategy](index.assign(patient=unit), valid=cfg.valid, seed=cfg.seed, **own)
    removed = leakage.NONE
    if cfg.on_leakage == "resolve" and cfg.strategy != "folds":
        resolved = [leakage.resolve(index, near, side, unit, cfg.max_resolved) for side in drawn]
        drawn = [kept for kept, _ in resolved]
        left = [rows.assign(fold=fold) for fold, (_, rows) in enumerate(resolved)]
        removed = pd.concat(left, ignore_index=True) if cfg.strategy in FOLDED else resolved[0][1]
    return [sides.limited(index, side, cfg.train_per_class, cfg.seed) for side in drawn], removed


def _leaks(index: pd.DataFrame, near: pd.DataFrame, drawn: list[pd.Series], given: Split) -> list[Finding]:
    """What crosses sides, fold by fold."""
    return [
        found | {"fold": number if given.strategy in FOLDED else None}
        for number, side in enumerate(drawn)
        for found in findings.across_splits(index, near, side, given.on_leakage == "accept")
    ]


def _refuse(leaks: list[Finding]) -> None:
    stopping = [leak for leak in leaks if leak["severity"] == "stop"]
    if stopping:
        raise DataError(
            "the splits leak into one another, so the test would not be independent. Take out what is named here; or "
            "set split.on_leakage to resolve, which leaves copies out of training and validation, or to accept, which "
            "the report will say:",
            [_said(leak) for leak in stopping],
        )


def _said(leak: Finding) -> str:
    fold = "" if leak["fold"] is None else f"fold {leak['fold']}: "
    more = max(leak["count"] - NAMED, 0)
    examples = ", ".join(leak["examples"][:NAMED]) + (f" and {more} more" if more else "")
    return f"{fold}{leak['count']} {leak['says']}: {examples}"


def _sentences(removed: pd.DataFrame, sources: list[str]) -> Iterator[str]:
    """How many images left, and why; of each fold where each tests a source."""
    if not sources:
        yield from leakage.said(removed)
    for fold, source in enumerate(sources):
        rows = removed[removed["fold"] == fold] if len(removed) else removed
        yield from (f"{sentence} (fold {fold}, which tests {source})" for sentence in leakage.said(rows))


def _told(removed: pd.DataFrame, sources: list[str]) -> Iterator[str]:
    """The same, and which; all names are in data/split/removed.csv."""
    yield from (f"left out: {sentence}" for sentence in _sentences(removed, sources))
    yield from (f"    {row.id} ({row.split}, {row.reason} of {row.of})" for row in removed.head(NAMED).itertuples())
    if len(removed) > NAMED:
        yield f"    and {len(removed) - NAMED} more in data/split/removed.csv"


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
