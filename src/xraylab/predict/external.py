"""A trained run on another data set: images that it has seen removed, thresholds and temperature kept from the run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab import files, tables
from xraylab.data import index, layouts
from xraylab.data.audit import duplicates
from xraylab.errors import DataError
from xraylab.evaluate import calibration, counts, figures
from xraylab.evaluate.counts import Floats, Ints
from xraylab.params import Params
from xraylab.paths import Paths
from xraylab.predict import elsewhere, fixed
from xraylab.predict.elsewhere import Trained
from xraylab.predict.fixed import Fixed, Point

LEARNT_FROM = ("train", "valid")
"""Sides whose images a run has seen: validation chose its epoch, threshold and temperature."""
EXAMPLES = 20

Record = dict[str, Any]


@dataclass(frozen=True)
class Outside:
    """The images of another data set that can be read, as in data/index.csv, and what was not used."""

    table: pd.DataFrame
    overlap: pd.DataFrame
    """The images that were left out: id, side and seen, the study's image that each is a copy of."""
    found: layouts.Found
    unreadable: list[str]


def run(
    given: Params, paths: Paths, name: str, folder: Path, layout: str, labels: list[str], target: Path | None
) -> Iterator[str]:
    """Score a run on the images in `folder`, write a JSON, and tell of it line by line.

    `name` is experiment or experiment/repeat; `labels` are `CLASS=LABEL`, what the folder calls a class. Errors:
    DataError for a name, label or folder that does not fit, MissingError where the run was not trained.
    """
    scored = elsewhere.run(paths, name)
    experiment, repeat, classes = (scored.model[key] for key in ("experiment", "repeat", "classes"))
    outside = _outside(paths, repeat, folder, layout, classes, _labels(labels, classes))
    (p,) = elsewhere.probabilities(given, [scored], outside.table, folder)
    record = _record(scored, folder, outside, p, fixed.read(paths.evaluation, experiment, repeat))
    where = target or paths.external / f"{experiment}-{repeat}-{folder.resolve().name}.json"
    files.write_json(record, where)
    yield from told(record)
    yield f"written to {where}"


def told(record: Record) -> Iterator[str]:
    """The record as people read it."""
    overlap = record["overlap"]
    run = f"{record['experiment']}/{record['repeat']}, epoch {record['epoch']}"
    yield f"{run}, on {record['folder']} ({record['layout']})"
    for side in LEARNT_FROM:
        yield f"removed {overlap[side]:6}  copies of {side} images, by perceptual hash"
    if record["unreadable"]:
        yield f"removed {len(record['unreadable']):6}  files that cannot be read"
    yield f"scored  {record['images']:6}  " + ", ".join(f"{name} {n}" for name, n in record["classes"].items())
    for name in ("accuracy", "precision", "recall", "f1", "auroc", "log_loss", "log_loss_calibrated"):
        yield f"{name:24} {_number(record[name])}"
    if not record["operating_points"]:
        yield f"{'operating points':24} not available"
    for point in record["operating_points"]:
        rates = f"sensitivity {_number(point['sensitivity'])}  specificity {_number(point['specificity'])}"
        yield f"{point['of']}, {point['point']}, from {point['threshold']:.4f} on: {rates}"


def _number(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"


def _labels(given: list[str], classes: list[str]) -> dict[str, list[str]]:
    """class -> what the other data set calls it."""
    named: dict[str, list[str]] = {}
    for text in given:
        label, equals, other = text.partition("=")
        if not (equals and other) or label not in classes:
            raise DataError(f"--label {text!r}: write CLASS=LABEL, CLASS being one of {', '.join(classes)}")
        named.setdefault(label, []).append(other)
    return {label: named.get(label, [label]) for label in classes}


def _outside(
    paths: Paths, repeat: int, folder: Path, layout: str, classes: list[str], labels: dict[str, list[str]]
) -> Outside:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the folder that holds the images")
    found = layouts.read(folder, layout, classes, labels, None)
    measured, unreadable = index.measure(folder, found.table)
    ours = tables.read(paths.index)
    split = paths.split_of(repeat)
    side_of = {name: side for side in LEARNT_FROM for name in tables.read(split / f"{side}_data.csv")["id"]}
    seen = duplicates.seen(measured, ours[ours["id"].isin(list(side_of))])
    copies = measured[["id"]].assign(seen=seen, side=seen.map(side_of))[seen != ""]
    rest = measured[seen == ""].reset_index(drop=True)
    if rest.empty:
        raise DataError(f"{folder}: no image is left that can be read and is no copy of one that the run has seen")
    return Outside(rest, copies, found, unreadable)


def _record(scored: Trained, folder: Path, outside: Outside, p: Floats, known: Fixed) -> Record:
    model, labels = scored.model, outside.table["label"]
    classes = model["classes"]
    actual = labels.map(classes.index).to_numpy(np.int64)
    positive = classes.index(model["positive"]) if model["positive"] else None
    sides = outside.overlap["side"]
    return {
        "experiment": model["experiment"],
        "repeat": model["repeat"],
        "epoch": scored.epoch,
        "folder": str(folder),
        "layout": outside.found.layout,
        "patients": outside.found.patients,
        "images": len(labels),
        "classes": {label: int((labels == label).sum()) for label in classes},
        "left_out": outside.found.left_out,
        "unreadable": outside.unreadable[:EXAMPLES],
        "overlap": {
            **{side: int((sides == side).sum()) for side in LEARNT_FROM},
            "examples": outside.overlap.head(EXAMPLES).to_dict("records"),
        },
        **_figures(actual, p, positive),
        "temperature": known.temperature,
        "log_loss_calibrated": _calibrated(actual, p, known.temperature),
        "operating_points": [_applied(point, p[:, classes.index(point.of)], labels) for point in known.points],
    }


def _figures(actual: Ints, p: Floats, positive: int | None) -> Record:
    confusion = counts.confusion(actual, p.argmax(axis=1), p.shape[1])
    return {
        "accuracy": counts.accuracy(confusion),
        "precision": counts.precision(confusion, positive),
        "recall": counts.recall(confusion, positive),
        "f1": counts.f1(confusion, positive),
        "auroc": figures.auroc(actual, p, positive),
        "log_loss": figures.log_loss(actual, p),
        "confusion": confusion.tolist(),
    }


def _calibrated(actual: Ints, p: Floats, temperature: float | None) -> float | None:
    return None if temperature is None else figures.log_loss(actual, calibration.scaled(p, temperature))


def _applied(point: Point, p: Floats, labels: pd.Series) -> Record:
    """Sensitivity and specificity at a threshold, None where there is no image to have it of."""
    called, own = p >= point.threshold, (labels == point.of).to_numpy()
    rates = {"sensitivity": _share(called[own]), "specificity": _share(~called[~own])}
    return {"of": point.of, "point": point.name, "threshold": point.threshold, **rates}


def _share(right: npt.NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
