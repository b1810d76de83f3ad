"""Splits of images with several findings each: stratified over findings, and what each split needs of every one."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xraylab import targets
from xraylab.data.split import stratification
from xraylab.task import MULTI_LABEL

FEW = 10  # positive images of a finding in a split, below which its metrics say little
HEADLINE = (
    "a finding is in no image of a split, or in every one; leave it out of data.classes, add images, or change the "
    "section split:"
)


def has_findings(index: pd.DataFrame) -> bool:
    """Whether the images have a column per finding, instead of one class each."""
    return bool(targets.of_table(index))


def findings(index: pd.DataFrame) -> list[str]:
    return [name.removeprefix(targets.PREFIX) for name in targets.of_table(index)]


def presence(index: pd.DataFrame) -> dict[str, pd.Series]:
    """`<finding> present` and `<finding> absent` -> the images of which that is known."""
    return {
        f"{name} {word}": (index[f"{targets.PREFIX}{name}"] == value).fillna(False).astype(bool)
        for name in findings(index)
        for word, value in (("present", 1), ("absent", 0))
    }


def share_out(
    index: pd.DataFrame, groups: pd.Series, shares: Sequence[float], rng: np.random.Generator, by_source: bool = False
) -> NDArray[np.int64]:
    """The number of each image's split, by iterative stratification of whole groups over the findings.

    Uncertain and missing labels do not count. `by_source`: over every finding of every source.
    """
    labels = _evidence(index)
    if by_source:
        labels = {
            f"{source}: {name}": shown & (index["source"] == source)
            for source in sorted(index["source"].unique())
            for name, shown in (labels | {"images": pd.Series(True, index=index.index)}).items()
        }
    return stratification.iterative(groups, pd.DataFrame(labels, index=index.index), shares, rng)


def _evidence(index: pd.DataFrame) -> dict[str, pd.Series]:
    """The images that show each finding; where its label is not known of all, also those known not to show it."""
    shown = presence(index)
    complete = {name for name in findings(index) if (shown[f"{name} present"] | shown[f"{name} absent"]).all()}
    return {key: images for key, images in shown.items() if key.removesuffix(" absent") not in complete}


def empty(index: pd.DataFrame, split: pd.Series, needed: Sequence[str], where: str = "") -> Iterator[str]:
    """Findings of which one of the `needed` splits has no image that shows it, or none that does not, in sentences."""
    for name, images in presence(index).items():
        lacking = [each for each in needed if not (split[images] == each).any()]
        if lacking:
            yield f"{where}{name}: {images.sum()} images leave {' and '.join(lacking)} without one"


def complete_sources(index: pd.DataFrame) -> dict[str, list[str]]:
    """Source -> the findings that it lacks a positive or a negative image of; none of one that can be tested."""
    lacking: dict[str, list[str]] = {}
    for source, rows in index.groupby("source"):
        shown = presence(rows)
        lacking[str(source)] = [name for name, images in shown.items() if not images.any()]
    return lacking


def summarize(index: pd.DataFrame, split: pd.Series, splits: Sequence[str]) -> dict[str, Any]:
    """`splits`: split -> finding -> positive, negative, uncertain and missing; `images` and `patients` of each split.

    Patients of unknown name count as one per image; `unused`: images in no split.
    """
    people = index["patient"].where(index["patient"] != "", "image " + index["id"])
    return {
        "task": MULTI_LABEL,
        "splits": {name: _labels(index[split == name]) for name in splits},
        "images": {name: int((split == name).sum()) for name in splits},
        "patients": {name: int(people[split == name].nunique()) for name in splits},
        "unused": int((~split.isin(splits)).sum()),
    }


def _labels(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    columns = {name: rows[f"{targets.PREFIX}{name}"] for name in findings(rows)}
    return {
        name: {
            "positive": int((column == 1).sum()),
            "negative": int((column == 0).sum()),
            "uncertain": int((column == targets.UNCERTAIN).sum()),
            "missing": int(column.isna().sum()),
        }
        for name, column in columns.items()
    }


def lines(summary: dict[str, Any]) -> Iterator[str]:
    """A split's images and patients, then its labels per finding; at the end, findings too rare to measure well."""
    for split, labels in summary["splits"].items():
        yield f"{split:6} {summary['images'][split]} images of {summary['patients'][split]} patients"
        for name, counts in labels.items():
            yield f"{split:6} {name:26} " + " ".join(f"{count:7} {word}" for word, count in counts.items())
    if summary["unused"]:
        yield f"unused {summary['unused']} images"
    yield from advice(summary)


def advice(summary: dict[str, Any]) -> Iterator[str]:
    """Findings with few positive images in validation or test, whose threshold or metrics will be uncertain."""
    for split in ("valid", "test"):
        counts = {name: each["positive"] for name, each in summary["splits"][split].items()}
        few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW]
        if few:
            yield (
                f"few positive {split} images: {', '.join(few)}; expect wide intervals and an unsteady threshold, or "
                "leave the finding out of data.classes"
            )
