"""The curves of `dvc plots` as tables, which the templates in .dvc/plots draw: every experiment has a panel.

DVC adds the version (`rev`) to every row, so that `dvc plots diff` draws two versions over each other. Its page
holds the rows inside a script, unescaped: text from outside is coded.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import tables
from xraylab.report.records import Run, Summary

POINTS = 200  # of a curve, at most
CODED = str.maketrans({"<": "‹", ">": "›"})
SPLITS = {"train": "training", "valid": "validation", "test": "test"}


def write(folder: Path, evaluation: Path, summary: Summary) -> None:
    """Write loss.csv, monitor.csv, roc.csv and calibration.csv, each point with its panel and run.

    Of several classes or findings each has a panel for each experiment.
    """
    builders: dict[str, Callable[[Path, Summary], Iterator[pd.DataFrame]]] = {
        "loss": _losses,
        "monitor": _monitors,
        "roc": _roc,
        "calibration": _calibration,
    }
    for name, build in builders.items():
        parts = list(build(evaluation, summary))
        if parts:
            tables.write(pd.concat(parts, ignore_index=True), folder / f"{name}.csv")


def _losses(evaluation: Path, summary: Summary) -> Iterator[pd.DataFrame]:
    """The loss of training images, and of those that choose the epoch."""
    for run in summary.runs:
        history = tables.read(evaluation / "curves" / f"{run.name}.csv")
        for split in ("train", run.monitored_split):
            yield _epochs(run, history, f"{split}_loss", "loss", SPLITS[split], split != "train")


def _monitors(evaluation: Path, summary: Summary) -> Iterator[pd.DataFrame]:
    """The metric that chooses the epoch."""
    for run in summary.runs:
        history = tables.read(evaluation / "curves" / f"{run.name}.csv")
        yield _epochs(run, history, run.monitor, "value", SPLITS[run.monitored_split], True)


def _epochs(run: Run, history: pd.DataFrame, column: str, name: str, images: str, chosen: bool) -> pd.DataFrame:
    """A line of a run; `chosen`: its selected epoch is marked."""
    values = pd.to_numeric(history[column], errors="coerce")
    selected = np.where(chosen & (history["epoch"] == run.best_epoch), "yes", "no")
    shown = {"epoch": history["epoch"], name: values, "images": images, "selected": selected}
    return _of_run(run, run.experiment, pd.DataFrame(shown).dropna())


def _roc(evaluation: Path, summary: Summary) -> Iterator[pd.DataFrame]:
    for run, panel, path in _files(evaluation / "roc", summary):
        yield _of_run(run, panel, _thinned(tables.read(path))[["fpr", "tpr"]])


def _calibration(evaluation: Path, summary: Summary) -> Iterator[pd.DataFrame]:
    for run, panel, path in _files(evaluation / "reliability", summary):
        points = tables.read(path)[["probability", "observed", "n"]].dropna()
        yield _of_run(run, panel, points.rename(columns={"probability": "predicted"}))


def _files(folder: Path, summary: Summary) -> Iterator[tuple[Run, str, Path]]:
    """Run, panel and table of every curve: <run>/<class>.csv, or <run>.csv where all classes share one."""
    for run in summary.runs:
        if (alone := folder / f"{run.name}.csv").is_file():
            yield run, run.experiment, alone
    labels = summary.drawn_classes
    for label in labels:
        for run in summary.runs:
            if (path := folder / run.name / f"{label}.csv").is_file():
                yield run, run.experiment if len(labels) == 1 else f"{label}, {run.experiment}".translate(CODED), path


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """At most `POINTS` of an ROC curve's points, evenly along it, with both ends."""
    if len(curve) <= POINTS:
        return curve
    along = (curve["fpr"] + curve["tpr"]).to_numpy()
    rows = np.searchsorted(along, np.linspace(along[0], along[-1], POINTS - 1))
    return curve.iloc[np.unique([*rows, len(curve) - 1])]


def _of_run(run: Run, panel: str, points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(panel=panel, run=run.name, point=range(len(points)))
