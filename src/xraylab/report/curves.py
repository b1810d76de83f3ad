"""The charts of the report, from the tables of the evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from xraylab import tables
from xraylab.report import charts
from xraylab.report.artefacts import Artefacts
from xraylab.report.charts import Chart
from xraylab.report.records import MACRO, Metric, Run, Summary, Tree, where
from xraylab.report.text import title

MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "f1": "F1"}
MEASURES_OF_FINDINGS = {"loss": "Loss", "auroc": "Mean AUROC over findings", "f1": "Mean F1 over findings"}
FOREST = ("auroc", "accuracy", "f1")
CORNER = 0.2  # of the ROC axes, shown larger


@dataclass(frozen=True)
class LearningCurve:
    """An experiment's charts by their titles, and what its epochs tell, repeat by repeat."""

    experiment: str
    charts: dict[str, Markup]
    best: str
    gaps: list[Metric]
    to_highest: str


@dataclass(frozen=True)
class KeyLine:
    """An experiment in the key of the charts."""

    experiment: str
    style: tuple[str, str]
    auroc: float | None
    mark: str


def learning(data: Artefacts) -> Tree:
    """Per experiment its learning curves, all of one measure with the same limits."""
    folder = data.paths.evaluation / "curves"
    histories = {run.name: tables.read(folder / f"{run.name}.csv") for run in data.summary.runs}
    measures = MEASURES_OF_FINDINGS if data.summary.multi else MEASURES
    limits = {measure: charts.limits(histories.values(), measure) for measure in measures}
    gaps = where(data.metrics, metric="train_test_gap", checkpoint="best", kind="repeat")
    to_highest = where(data.epochs, metric="epochs_to_highest_accuracy")
    return {
        "curves": [
            LearningCurve(
                experiment=experiment,
                charts=_learning_charts(experiment, runs, histories, measures, limits),
                best=_best_epochs(runs),
                gaps=where(gaps, experiment=experiment),
                to_highest=", ".join(f"{row.value:g}" for row in where(to_highest, experiment=experiment)),
            )
            for experiment, runs in data.summary.experiments.items()
        ]
    }


def _learning_charts(
    experiment: str,
    runs: list[Run],
    histories: dict[str, pd.DataFrame],
    measures: dict[str, str],
    limits: dict[str, tuple[float, float]],
) -> dict[str, Markup]:
    lines = [(histories[run.name], run.best_epoch) for run in runs]
    return {
        title: charts.learning_curve(
            lines,
            measure,
            runs[0].monitored_split,
            limits[measure],
            f"{experiment}: {title} per epoch; best epoch {_best_epochs(runs)}",
        )
        for measure, title in measures.items()
    }


def _best_epochs(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.best_epoch) for run in runs)


def roc(data: Artefacts) -> Tree:
    """ROC and precision-recall curves of each class that has any, and the decision curves."""
    return {
        "rocs": _rocs(data.paths.evaluation, data.summary, data.test_shares),
        "net_benefit": _net_benefit(data.paths.evaluation, data.summary),
        "key": [
            KeyLine(
                experiment,
                charts.line_style(number),
                data.summary.test_mean(experiment).auroc,
                data.summary.mark(experiment),
            )
            for number, experiment in enumerate(data.summary.experiments)
        ],
    }


def _rocs(folder: Path, summary: Summary, shares: dict[str, float]) -> dict[str, list[Chart]]:
    """Class -> ROC, its upper left corner, precision and recall."""
    panels = {}
    for label in summary.drawn_classes:
        curves, precision = (of_runs(folder / kind, summary, f"{label}.csv") for kind in ("roc", "pr"))
        if any(curves.values()):
            alt = f"ROC curves of {label} against the rest on the test images"
            panels[label] = [
                charts.roc(curves, 1, alt),
                charts.roc(curves, CORNER, f"{alt}, upper-left corner"),
                charts.precision_recall(
                    precision, shares[label], f"Precision-recall curves of {label} on the test images"
                ),
            ]
    return panels


def of_runs(folder: Path, summary: Summary, name: str = "") -> dict[int, list[pd.DataFrame]]:
    """Number of the experiment -> its runs' tables, of those that exist: <run>.csv, or <run>/<name>."""
    return {
        number: [
            tables.read(path)
            for run in runs
            if (path := folder / run.name / name if name else folder / f"{run.name}.csv").is_file()
        ]
        for number, runs in enumerate(summary.experiments.values())
    }


def calibration(folder: Path, summary: Summary, experiment: str) -> Markup:
    """The reliability diagram of the best epochs, before and after the temperature."""
    number = list(summary.experiments).index(experiment)
    before, after, smooth = (
        [table for table in of_runs(folder / kind, summary)[number] if len(table)]
        for kind in ("reliability", "reliability_scaled", "calibration_curve")
    )
    alt = f"{experiment}: observed share over predicted probability on the test images"
    return charts.reliability(before, after, smooth, alt)


def _net_benefit(folder: Path, summary: Summary) -> Markup | None:
    """The decision curves of the best epochs; None with more than two classes, or where the test images have one."""
    runs = of_runs(folder / "net_benefit", summary)
    curves = {number: [table for table in tables_of_runs if len(table)] for number, tables_of_runs in runs.items()}
    if not any(curves.values()):
        return None
    return charts.net_benefit(curves, f"Net benefit of acting on {summary.positive} over the threshold probability")


def forest(summary: Summary, metrics: list[Metric]) -> dict[str, Chart]:
    """Metric -> every experiment's differences from the baseline; empty where there is no other experiment.

    The primary metric first; last, where there are several repeats, each experiment's as points.
    """
    every = where(summary.comparisons, kind="baseline")
    against = where(every, class_=MACRO) if summary.multi else every
    if not against:
        return {}
    figures: dict[str, Chart] = {}
    for metric in dict.fromkeys([summary.primary, *FOREST]):
        rows = where(against, metric=metric)
        if summary.multi and not rows:
            continue
        name = title(metric) + ("" if metric == summary.primary else ", exploratory")
        figures[name] = charts.differences(rows, summary.confidence, " ".join(row.sentence for row in rows))
    class_, metric = summary.key(summary.primary)
    keys = {"kind": "repeat", "checkpoint": "best", "split": "test", "class_": class_, "metric": metric}
    several = {name: [row.value for row in where(metrics, experiment=name, **keys)] for name in summary.experiments}
    if any(len(values) > 1 for values in several.values()):
        name = title(metric)
        figures[f"{name} of each {'fold' if summary.folds else 'repeat'}"] = charts.repeats(several, name)
    return figures


def images(index: pd.DataFrame, classes: list[str], split: Tree) -> dict[str, Any]:
    """How many images of each class, of which sizes, and the colour of each class in these charts."""
    several = len(index[["width", "height"]].drop_duplicates()) > 1
    counts = {
        title: {label: split["splits"][name][label]["images"] for label in classes}
        for name, title in {"train": "training", "valid": "validation", "test": "test"}.items()
    }
    return {
        "balance": charts.balance(counts, "Number of images per split and class"),
        "sizes": charts.sizes(index, classes, "Width and height of the images of each class") if several else None,
        "size": index[["width", "height"]].iloc[0].tolist(),
        "class_colours": {label: charts.line_style(number)[0] for number, label in enumerate(classes)},
    }
