"""The charts of the report, from the tables of the evaluation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import tables
from xraylab.report import answer, charts, diagrams, estimates
from xraylab.report.comparison import place
from xraylab.report.records import Record, chosen

MEASURES = {"loss": "Loss", "accuracy": "Accuracy", "f1": "F1"}
FOREST = ("auroc", "accuracy", "f1")
CORNER = 0.2  # of the ROC axes, shown larger
Run = dict[str, Any]


def by_experiment(summary: dict[str, Any]) -> dict[str, list[Run]]:
    """experiment -> its runs, one per repeat."""
    runs: dict[str, list[Run]] = {}
    for run in summary["runs"]:
        runs.setdefault(run["experiment"], []).append(run)
    return runs


def name(run: Run) -> str:
    """What the run's files are called."""
    return f"{run['experiment']}-{run['repeat']}"


def learning(
    folder: Path, summary: dict[str, Any], figures: list[Record], epochs: list[Record]
) -> list[dict[str, Any]]:
    """Per experiment: its charts, all of one measure with the same limits; what the epochs tell, repeat by repeat."""
    histories = {name(run): tables.read(folder / f"curves/{name(run)}.csv") for run in summary["runs"]}
    limits = {measure: charts.limits(histories.values(), measure) for measure in MEASURES}
    gaps = chosen(figures, figure="train_test_gap", checkpoint="best", kind="repeat")
    found = []
    for experiment, runs in by_experiment(summary).items():
        lines = [(histories[name(run)], run["best_epoch"]) for run in runs]
        best = ", ".join(str(run["best_epoch"]) for run in runs)
        drawn = {
            title: charts.learning_curve(
                lines,
                measure,
                runs[0]["select_on"],
                limits[measure],
                f"{experiment}: {title} per epoch; best epoch {best}",
            )
            for measure, title in MEASURES.items()
        }
        own = chosen(epochs, experiment=experiment, figure="epochs_to_highest_accuracy")
        told = {
            "gaps": chosen(gaps, experiment=experiment),
            "to_highest": ", ".join(f"{row['value']:g}" for row in own),
        }
        found.append({"experiment": experiment, "charts": drawn, "best": best, **told})
    return found


def rocs(folder: Path, summary: dict[str, Any], shares: dict[str, float]) -> list[dict[str, Any]]:
    """Per class that has a curve: ROC, its upper left corner, precision and recall. `shares`: of the test images."""
    shown = []
    for label in [summary["positive"]] if summary["positive"] else summary["classes"]:
        curves, precision = (_of_class(folder / kind, summary, label) for kind in ("roc", "pr"))
        if any(curves.values()):
            alt = f"ROC curves of {label} against the rest on the test images"
            drawn = [
                charts.roc(curves, 1, alt),
                charts.roc(curves, CORNER, f"{alt}, upper left corner"),
                diagrams.precision_recall(
                    precision, shares[label], f"Precision-recall curves of {label} on the test images"
                ),
            ]
            shown.append({"label": label, "charts": drawn})
    return shown


def _of_class(folder: Path, summary: dict[str, Any], label: str) -> dict[int, list[pd.DataFrame]]:
    found: dict[int, list[pd.DataFrame]] = {}
    for number, runs in enumerate(by_experiment(summary).values()):
        paths = [folder / name(run) / f"{label}.csv" for run in runs]
        found[number] = _read(paths)
    return found


def _read(paths: Iterable[Path]) -> list[pd.DataFrame]:
    """The tables that exist."""
    return [tables.read(path) for path in paths if path.is_file()]


def key(summary: dict[str, Any], means: answer.Means) -> list[dict[str, Any]]:
    """The key of the ROC charts."""
    return [
        {
            "experiment": experiment,
            "style": charts.line_style(number),
            "auroc": means[experiment, "best", "test"]["auroc"],
            "mark": answer.mark(summary, experiment),
        }
        for number, experiment in enumerate(by_experiment(summary))
    ]


def calibration(folder: Path, summary: dict[str, Any], experiment: str) -> Any:
    """The reliability diagram of the best epochs, before and after the temperature."""
    names = [name(run) for run in by_experiment(summary)[experiment]]
    found = {
        kind: [table for table in _read(folder / kind / f"{each}.csv" for each in names) if len(table)]
        for kind in ("reliability", "reliability_scaled", "calibration_curve")
    }
    alt = f"{experiment}: observed share over predicted probability on the test images"
    return diagrams.reliability(found["reliability"], found["reliability_scaled"], found["calibration_curve"], alt)


def net_benefit(folder: Path, summary: dict[str, Any]) -> Any:
    """The decision curves of the best epochs; None with more than two classes, or where the test images have one."""
    paths = {
        number: [folder / f"net_benefit/{name(run)}.csv" for run in runs]
        for number, runs in enumerate(by_experiment(summary).values())
    }
    curves = {number: [table for table in _read(own) if len(table)] for number, own in paths.items()}
    if not any(curves.values()):
        return None
    return diagrams.net_benefit(
        curves, f"Net benefit of acting on {summary['positive']} over the threshold probability"
    )


def forest(summary: dict[str, Any], figures: list[Record]) -> dict[str, Any]:
    """Figure -> every experiment's differences from the baseline; empty where there is no other experiment.

    The primary figure first; last, where there are several repeats, each experiment's as points.
    """
    against = chosen(summary["comparisons"], kind="baseline")
    found = {}
    for figure in dict.fromkeys([summary["primary"], *FOREST]) if against else ():
        rows = chosen(against, figure=figure)
        alt = " ".join(row["sentence"] for row in rows)
        name = estimates.title(figure) + ("" if figure == summary["primary"] else ", exploratory")
        found[name] = diagrams.differences(rows, summary["intervals"]["confidence"], alt)
    several = {name: [row["value"] for row in own] for name, own in _repeats(summary, figures).items()}
    if against and any(len(values) > 1 for values in several.values()):
        name = estimates.title(summary["primary"])
        found[f"{name} of each {'fold' if summary['folds'] else 'repeat'}"] = diagrams.repeats(several, name)
    return found


def _repeats(summary: dict[str, Any], figures: list[Record]) -> dict[str, list[Record]]:
    """The primary figure of every repeat's best epoch on the test images."""
    whose, figure = place(summary, summary["primary"])
    known = {"kind": "repeat", "checkpoint": "best", "side": "test", "of": whose, "figure": figure}
    return {name: chosen(figures, experiment=name, **known) for name in by_experiment(summary)}


def data(index: pd.DataFrame, classes: list[str], split: dict[str, Any]) -> dict[str, Any]:
    """How many images of each class, of which sizes, and the colour of each class in these charts."""
    counts = {
        title: {label: split["sides"][side][label]["images"] for label in classes}
        for side, title in {"train": "training", "valid": "validation", "test": "test"}.items()
    }
    several = len(index[["width", "height"]].drop_duplicates()) > 1
    return {
        "balance": charts.balance(counts, "Number of images per side and class"),
        "sizes": charts.sizes(index, classes, "Width and height of the images of each class") if several else None,
        "size": index[["width", "height"]].iloc[0].tolist(),
        "class_colours": {label: charts.line_style(number)[0] for number, label in enumerate(classes)},
    }
