"""What a study published, beside what was measured."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from xraylab import targets
from xraylab.report.records import Spread
from xraylab.studies.presets import Preset, Tree, leaves

MetricKey = tuple[str, str, str, str]  # experiment, checkpoint, class or overall, metric
MeanMetrics = dict[MetricKey, float]  # means over repeats, on the test split
Counts = dict[str, int]  # class -> images

ROW_NAME = "row"  # in a preset's places: the class, or the experiment, that its row begins with
PLACE = 4  # parts of a MetricKey; a place with one less is of the row's experiment


def mean_metrics(spread: Iterable[Spread]) -> MeanMetrics:
    """The rows of reports/evaluation/spread.csv by what they measure; of pooled folds rather than of each.

    A metric that is not defined, whose mean is None, is left out.
    """
    rows = [row for row in spread if row.split == "test"]
    return {
        (row.experiment, row.checkpoint, row.class_, row.metric): row.mean
        for kind in ("repeat", "round")
        for row in rows
        if row.kind == kind and row.mean is not None
    }


def image_counts(table: pd.DataFrame, findings: Sequence[str]) -> Counts:
    """Images of each class; in a multi-label study those with each of its findings."""
    if targets.of_table(table):
        positive = (targets.values(table, findings) == 1).sum(axis=0)
        return dict(zip(findings, map(int, positive), strict=True))
    return {str(label): int(count) for label, count in table["label"].value_counts().items()}


def published(preset: Preset, images: Counts, means: MeanMetrics, tree: Tree) -> dict[str, Any]:
    """The preset's table; `images` of the split that the preset names tell whether the data are the published ones.

    `tree` is params.yaml as it is now. Each row has the measured metrics in the places that the preset names for its
    columns, None where there is none, or no metrics at all where these are other data.
    """
    published_images = preset.data["images"]
    images = {label: images.get(label, 0) for label in published_images or {}}
    return {
        "name": preset.name,
        "summary": preset.summary,
        "counts": _counts(published_images, images, preset.data),
        "heading": preset.results["heading"],
        "columns": preset.results["columns"],
        "rows": [
            {
                "cells": row,
                "here": []
                if published_images and images != published_images
                else _measured_metrics(preset.results, str(row[0]), means),
            }
            for row in preset.results["rows"]
        ],
        "tests": published_tests(preset.results),
        "pivot": _pivot(preset.pivot, means) if preset.pivot else None,
        "deviations": preset.deviations,
        "changed": _changed(preset, tree),
    }


def published_tests(results: dict[str, Any], level: float = 0.05) -> list[str]:
    """Could the first row's experiment differ from the others in accuracy? One sentence each, from confusion matrices.

    Empty where the table has no column "confusion", whose cells hold one row of counts per class, parted by " / ".
    """
    if "confusion" not in results["columns"]:
        return []
    column = results["columns"].index("confusion")
    matrices = {row[0]: [list(map(int, line.split())) for line in row[column].split(" / ")] for row in results["rows"]}
    (baseline, first), *others = matrices.items()
    images = sum(map(sum, first))
    sentences = []
    for experiment, second in others:
        p = smallest_p(first, second)
        verdict = "not shown to differ" if p >= level else "may differ, which only the single images can tell"
        sentences.append(
            f"{experiment} against {baseline}: {_right(second)} against {_right(first)} of {images:,} images right, "
            f"p at least {p:.2g}: {verdict}."
        )
    return sentences


def smallest_p(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]) -> float:
    """The smallest p of an exact McNemar test (Psychometrika 12 (1947) 153) that two confusion matrices allow.

    Both are (classes, classes) counts of the same images, rows the actual class. Which images both got right is not
    known, but in each class one of the two got at least so many more right than the other; any further image that only
    one got right needs a partner that only the other did, which raises p.
    """
    gains = [
        mine[label] - second_row[label] for label, (second_row, mine) in enumerate(zip(first, second, strict=True))
    ]
    more, fewer = sum(gain for gain in gains if gain > 0), -sum(gain for gain in gains if gain < 0)
    return float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


def _right(matrix: Sequence[Sequence[int]]) -> str:
    return f"{sum(row[label] for label, row in enumerate(matrix)):,}"


def _changed(preset: Preset, tree: Tree) -> list[tuple[str, Any, Any]]:
    """Dotted key, value and value now of what params.yaml sets otherwise than both modes of the preset."""
    modes = [dict(leaves(preset.values(published))) for published in (False, True)]
    now = dict(leaves(tree))
    return [
        (key, value, now.get(key, "nothing"))
        for key, value in modes[0].items()
        if now.get(key, "nothing") not in (value, modes[1].get(key, value))
    ]


def _counts(published: Counts | None, measured: Counts, data: Tree) -> str:
    if published is None:
        return "The number of images per class is not published, so whether these are the same data is unknown."
    where = f" in the {data['split']} split" if data.get("split") else ""
    if published == measured:
        comparable = data.get("comparable", "so the published results can be compared with these")
        return f"The number of images per class{where} matches the publication, {comparable}."
    return (
        f"The study used {_image_counts(published)}{where}; here there are {_image_counts(measured)}. "
        "These are different data, so the published results cannot be compared with those above."
    )


def _image_counts(images: Counts) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in images.items())


def _measured_metrics(results: dict[str, Any], row: str, means: MeanMetrics) -> list[float | None]:
    """The measured metric for every column but the first; nothing where there is none at all."""
    experiment = results.get("experiment", row)
    metrics = [column and means.get(_key(column, row, experiment)) for column in results.get("metrics", [])]
    return metrics if any(metric is not None for metric in metrics) else []


def _key(place: Sequence[str], row: str, experiment: str) -> MetricKey:
    """What a preset's place for a column names; `experiment` where it names none itself."""
    named = [row if part == ROW_NAME else part for part in place]
    experiment, checkpoint, class_, metric = named if len(named) == PLACE else [experiment, *named]
    return experiment, checkpoint, class_, metric


def _pivot(pivot: dict[str, Any], means: MeanMetrics) -> dict[str, Any]:
    """The measured accuracies where the preset places its experiments."""
    rows = {
        name: [means.get((experiment, "best", "overall", "accuracy")) for experiment in experiments]
        for name, experiments in pivot["rows"].items()
    }
    return {"heading": pivot["heading"], "columns": pivot["columns"], "rows": rows}
