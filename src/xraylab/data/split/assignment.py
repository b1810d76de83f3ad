"""Split the images of an index: by a strategy, without leakage, in each fold where there are folds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files, tables, targets
from xraylab.data.audit import findings
from xraylab.data.audit.findings import Finding
from xraylab.data.split import leakage, multi_label, strategies
from xraylab.data.split.strategies import FOLDED, LEAVE_ONE_SOURCE_OUT, SPLITS, STRATEGIES
from xraylab.errors import DataError
from xraylab.params.split import Split

COLUMNS = ["id", "path", "label", "patient", "source"]
MAX_EXAMPLES = 10  # of each kind of leakage


@dataclass(frozen=True)
class Assignment:
    """Each image's split, a series per fold (one where the strategy has no folds), and what was left out."""

    cfg: Split
    index: pd.DataFrame
    splits: list[pd.Series]
    removed: pd.DataFrame
    """The images that left so that nothing leaks."""
    test_sources: list[str]
    """The source that each fold tests, where the strategy leaves one out."""

    @property
    def has_folds(self) -> bool:
        return self.cfg.strategy in FOLDED


def read_index(path: Path) -> pd.DataFrame:
    """data/index.csv. Errors: MissingError, and DataError where it is not as the stage index writes it."""
    index = tables.read(path)
    tables.require(index, path, [*COLUMNS, "split", "pixel_hash"])
    return index


def assign(index: pd.DataFrame, near: pd.DataFrame, cfg: Split) -> Assignment:
    """Split the images, `near` being the pairs of near duplicates.

    Patients and copies of a picture are sampled as one unit. Folds of whole units leak nothing; sources may share some.
    """
    fractions = {name: value for name, value in (("test", cfg.test_pct), ("folds", cfg.folds)) if value is not None}
    unit = leakage.units(index, near)
    splits = STRATEGIES[cfg.strategy](index.assign(patient=unit), valid=cfg.valid_pct, seed=cfg.seed, **fractions)
    removed = leakage.NONE
    if cfg.on_leakage == "resolve" and cfg.strategy != "folds":
        resolved = [leakage.resolve(index, near, split, unit, cfg.max_resolved) for split in splits]
        splits = [split for split, _ in resolved]
        rows = [rows.assign(fold=fold) for fold, (_, rows) in enumerate(resolved)]
        removed = pd.concat(rows, ignore_index=True) if cfg.strategy in FOLDED else resolved[0][1]
    splits = [strategies.limit_training(index, split, cfg.max_train_per_class, cfg.seed) for split in splits]
    sources = strategies.tested_sources(index) if cfg.strategy == LEAVE_ONE_SOURCE_OUT else []
    return Assignment(cfg, index, splits, removed, sources)


def find_leaks(assignment: Assignment, near: pd.DataFrame) -> list[tuple[int | None, Finding]]:
    """Find leakage across splits, each with its fold. Errors: DataError where split.on_leakage does not allow it."""
    accepted = assignment.cfg.on_leakage == "accept"
    leaks = [
        (fold if assignment.has_folds else None, leak)
        for fold, split in enumerate(assignment.splits)
        for leak in findings.across_splits(assignment.index, near, split, accepted)
    ]
    if leaks and not accepted:
        raise DataError(
            "the splits leak into one another, so the test would not be independent. Take out what is named here; or "
            "set split.on_leakage to resolve, which leaves copies out of training and validation, or to accept, which "
            "the report will say:",
            [_describe(*leak) for leak in leaks],
        )
    return leaks


def write(assignment: Assignment, leaks: list[tuple[int | None, Finding]], folder: Path) -> None:
    """Write the tables of each fold, summary.json (at its top, the first fold's), audit.json and removed.csv."""
    columns = [*COLUMNS, *targets.of_table(assignment.index)]
    for fold, split in enumerate(assignment.splits):
        target = folder / f"fold-{fold}" if assignment.has_folds else folder
        for name in SPLITS:
            tables.write(assignment.index.loc[split == name, columns], target / f"{name}_data.csv")
    summaries = _summaries(assignment)
    summary = {
        "strategy": assignment.cfg.strategy,
        "folds": len(assignment.splits) if assignment.has_folds else None,
        **summaries[0],
        "each_fold": summaries if assignment.has_folds else [],
        "test_sources": assignment.test_sources,
        "removed": list(_removed_sentences(assignment)),
    }
    files.write_json(summary, folder / "summary.json")
    files.write_json([asdict(leak) | {"fold": fold} for fold, leak in leaks], folder / "audit.json")
    tables.write(assignment.removed, folder / "removed.csv")


def lines(assignment: Assignment, leaks: list[tuple[int | None, Finding]]) -> Iterator[str]:
    """Describe leakage, images left out, and the images of each split for a log."""
    yield from (f"accepted: {_describe(*leak)}" for leak in leaks)
    removed, sources = assignment.removed, assignment.test_sources
    yield from (f"left out: {sentence}" for sentence in _removed_sentences(assignment))
    examples = removed.head(MAX_EXAMPLES).itertuples()
    yield from (f"    {row.id} ({row.split}, {row.reason} of {row.copy_of})" for row in examples)
    if len(removed) > MAX_EXAMPLES:
        yield f"    and {len(removed) - MAX_EXAMPLES} more in data/split/removed.csv"
    for fold, summary in enumerate(_summaries(assignment)):
        if assignment.has_folds:
            yield f"fold {fold}" + (f", which tests {sources[fold]}" if sources else "")
        yield from multi_label.lines(summary) if "task" in summary else _table_lines(summary)


def _summaries(assignment: Assignment) -> list[dict[str, Any]]:
    return [strategies.summarize(assignment.index, split) for split in assignment.splits]


def _describe(fold: int | None, leak: Finding) -> str:
    more = max(leak.count - MAX_EXAMPLES, 0)
    examples = ", ".join(leak.examples[:MAX_EXAMPLES]) + (f" and {more} more" if more else "")
    return f"{'' if fold is None else f'fold {fold}: '}{leak.count} {leak.says}: {examples}"


def _removed_sentences(assignment: Assignment) -> Iterator[str]:
    """Summarize how many images left, and why; per fold where each fold tests a source."""
    removed = assignment.removed
    if not assignment.test_sources:
        yield from leakage.sentences(removed)
    for fold, source in enumerate(assignment.test_sources):
        rows = removed[removed["fold"] == fold] if len(removed) else removed
        yield from (f"{sentence} (fold {fold}, which tests {source})" for sentence in leakage.sentences(rows))


def _table_lines(summary: dict[str, Any]) -> Iterator[str]:
    for split, classes in summary["splits"].items():
        for label, images in classes.items():
            names = f"{images['first']} to {images['last']}" if images["images"] else ""
            yield f"{split:6} {label:16} {images['images']:6}  {names}"
    yield from (f"unused {label:16} {count:6}" for label, count in summary["unused"].items() if count)
