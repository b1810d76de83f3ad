"""External test of a trained run: without images of its training, at its own thresholds and temperature."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.data import index, layouts
from xraylab.data.audit import duplicates
from xraylab.data.audit.audit import describe_patients
from xraylab.data.layouts.labels import describe_counts, nearest, same_spelling
from xraylab.data.names import some
from xraylab.errors import DataError
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.confusion import Floats, confusion_matrix
from xraylab.evaluate.intervals import metrics_with_intervals
from xraylab.evaluate.metrics import log_loss
from xraylab.evaluate.operating_points import apply_threshold
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.tables import threshold_row, to_row
from xraylab.evaluate.temperature import scale
from xraylab.inference.thresholds import OperatingPoint, Thresholds
from xraylab.params.config import Params, read_config
from xraylab.paths import Paths
from xraylab.predict import checkpoints, external_findings, thresholds
from xraylab.predict.checkpoints import TrainedModel
from xraylab.predict.external_findings import Mapping
from xraylab.registry import datasets
from xraylab.registry import weights as registry
from xraylab.task import is_multi

USED_SPLITS = ("train", "valid")
"""Splits whose images a run has seen: validation chose its epoch, threshold and temperature."""
EXAMPLES = 20
SUMMARY_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auroc", "log_loss")

Record = dict[str, Any]


@dataclass(frozen=True)
class ExternalData:
    """The images of another data set that can be read, as in data/index.csv, and what was not used."""

    table: pd.DataFrame
    overlap: pd.DataFrame
    """The images that were left out: id, split and copy_of (an id of the study)."""
    dataset: layouts.Dataset
    unreadable: list[str]


def run(
    cfg: Params, paths: Paths, name: str, folder: Path, layout: str, labels: list[str], target: Path | None
) -> Iterator[str]:
    """Score a run on the images in `folder`, write a JSON, and tell of it line by line.

    `name` is experiment or experiment/repeat; `labels` are `CLASS=LABEL`, what the folder calls a class. Errors:
    DataError for a name, label or folder that does not fit, MissingError where the run was not trained.
    """
    model = checkpoints.find_run(paths, name)
    experiment, repeat, classes = model.record["experiment"], model.record["repeat"], model.classes
    if classes != cfg.data.classes:
        raise DataError(f"{name} knows {', '.join(classes)}, not data.classes: `dvc repro` trains it anew")
    dataset, mapping = _dataset(model, labels, folder, layout)
    external = _without_copies(paths, repeat, folder, dataset)
    (p,), (how,) = checkpoints.predict_files([model], external.table, folder, cfg.predict.tta)
    record: Record = {"predictions": _predictions(paths.prediction(experiment, repeat)), "computed": how}
    fixed, evaluation = thresholds.read(paths.evaluation, experiment, repeat), EvalConfig.from_params(cfg)
    if mapping and is_multi(model.record["task"]):
        record |= _facts(model, folder, external, external_findings.count(external.table, mapping))
        record |= external_findings.record(classes, mapping, external.table, p, fixed, evaluation)
    else:
        counts = {label: int((external.table["label"] == label).sum()) for label in classes}
        record |= _facts(model, folder, external, counts)
        record |= _metrics(external, p, fixed, evaluation)
        record |= {"mapping": mapping.to_json()} if mapping else {}
    record["seen"] = _warn_of_pretraining(paths.config(experiment), experiment, folder, external)
    where = target or paths.external / f"{experiment}-{repeat}-{folder.resolve().name}.json"
    files.write_json(record, where)
    yield from summary(record)
    yield f"written to {where}"


def _predictions(path: Path) -> str | None:
    """The hash of what the run predicts of the study's own images: by it the report knows the run as it was tested."""
    return files.sha256(path) if path.exists() else None


def _warn_of_pretraining(config: Path, experiment: str, folder: Path, external: ExternalData) -> list[str]:
    """Why pretrained weights may have seen these images, or that nobody knows."""
    entry = registry.find(read_config(config).model.pretrained) if config.is_file() else None
    if entry is None:
        return []
    matches = datasets.recognise([external.dataset.layout], [str(folder.resolve())], list(external.table["path"]))
    warnings = (datasets.seen_warning(entry, [experiment], matches), datasets.unknown_warning(entry))
    return [text for text in warnings if text]


def summary(record: Record) -> Iterator[str]:
    """Lines of the record for a terminal."""
    overlap = record["overlap"]
    run = f"{record['experiment']}/{record['repeat']}, epoch {record['epoch']}"
    yield f"{run}, on {record['folder']} ({record['layout']})"
    for split in USED_SPLITS:
        yield f"removed {overlap[split]:6}  copies of {split} images, by perceptual hash"
    if record["unreadable"]:
        yield f"removed {len(record['unreadable']):6}  files that cannot be read"
    yield from (f"warning: {text}" for text in record["seen"])
    if "task" in record:
        yield f"scored  {record['images']:6}  images"
        yield from external_findings.summary(record)
        yield f"{100 * record['confidence']:g} % intervals: {record['intervals']}"
        yield f"computed: {record['computed']}"
        return
    yield f"scored  {record['images']:6}  " + ", ".join(f"{name} {n}" for name, n in record["classes"].items())
    if "mapping" in record:
        ((name, labels),) = record["mapping"]["labels"].items()
        without = "an image without it counts as the other class, whatever else it has"
        yield f"{name} is {' or '.join(labels)} in the data; {without}"
    rows = [row for row in record["metrics"] if row["metric"] in SUMMARY_METRICS]
    width = max(len(row["class"]) for row in rows)
    for row in rows:
        interval = _estimate(row["value"], row["ci_low"], row["ci_high"])
        yield f"{row['class']:{width}}  {row['metric']:20} {interval}{_why(row)}"
    yield f"{100 * record['confidence']:g} % intervals: {record['intervals']}"
    yield f"computed: {record['computed']}"
    yield f"log loss at the run's own temperature: {_number(record['log_loss_calibrated'])}"
    if not record["operating_points"]:
        yield "operating points: not available"
    for point in record["operating_points"]:
        yield f"{point['class']}, {point['point']}, from {point['threshold']:.4f} on:"
        for name in ("sensitivity", "specificity"):
            yield f"  {name:20} {_estimate(point[name], point[f'{name}_ci_low'], point[f'{name}_ci_high'])}"


def _estimate(value: float | None, low: float | None, high: float | None) -> str:
    return _number(value) + ("" if low is None else f"  ({low:.4f} to {high:.4f})")


def _why(row: dict[str, Any]) -> str:
    return f"  (no interval: {row['why']})" if row["why"] else ""


def _number(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"


def _labels(named: dict[str, list[str]], classes: list[str], folder: Path, layout: str) -> dict[str, list[str]]:
    """class -> what the other data set calls it: as `named`, else the same but for case, space, `_` and `-`.

    Errors: DataError with every class for which there is nothing, and the option to type; no image is read before.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the folder that holds the images")
    if len(named) == len(classes):
        return named
    counts = layouts.count_labels(folder, layouts.read(folder, layout, None, None, None))
    assigned = {label for several in named.values() for label in several}
    free = [label for label in counts if label not in assigned]
    labels = {name: named.get(name) or same_spelling(name, free) for name in classes}
    absent = [name for name in classes if not labels[name]]
    if absent:
        free = [label for label in free if counts[label] and not any(label in several for several in labels.values())]
        only = free if len(free) == len(absent) == 1 else ["LABEL"]
        raise DataError(
            f"{folder} has {describe_counts(counts)}, and nothing called {some(absent)}; say what it is called:",
            [f"--label '{name}={(nearest(name, free) or only)[0]}'" for name in absent],
        )
    return labels


def _parsed(options: list[str], classes: list[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for text in options:
        label, equals, other = text.partition("=")
        if not (equals and other) or label not in classes:
            raise DataError(f"--label {text!r}: write CLASS=LABEL, CLASS being one of {', '.join(classes)}")
        named.setdefault(label, []).append(other)
    return named


def _dataset(
    model: TrainedModel, options: list[str], folder: Path, layout: str
) -> tuple[layouts.Dataset, Mapping | None]:
    """The images with labels that the model knows; and what its findings are called, where an image may have several.

    A model of two classes is also tested on images of several findings, where the one that it looks for is labelled.
    """
    classes, positive = model.classes, model.record["positive"]
    named = _parsed(options, classes)
    if is_multi(model.record["task"]):
        dataset = external_findings.read(folder, layout)
        mapping = external_findings.match(classes, named, dataset, folder)
        return external_findings.as_findings(dataset, mapping), mapping
    try:
        labels = _labels(named, classes, folder, layout)
        return layouts.read(folder, layout, classes, labels, None), None
    except DataError:
        if not positive or not folder.is_dir():
            raise
        dataset = external_findings.read(folder, layout)
        one = external_findings.match_positive(positive, named, dataset, folder)
        if not one:
            raise
    (negative,) = set(classes) - {positive}
    dataset = external_findings.as_findings(dataset, one)
    return external_findings.as_classes(dataset, positive, negative), one


def _without_copies(paths: Paths, repeat: int, folder: Path, dataset: layouts.Dataset) -> ExternalData:
    measured, unreadable, _ = index.measure(folder, dataset.table)
    study_images = tables.read(paths.index)
    lists = paths.split_of(repeat)
    split_of = {name: split for split in USED_SPLITS for name in tables.read(lists / f"{split}_data.csv")["id"]}
    copy_of = duplicates.find_copies(measured, study_images[study_images["id"].isin(list(split_of))])
    copies = measured[["id"]].assign(copy_of=copy_of, split=copy_of.map(split_of))[copy_of != ""]
    rest = measured[copy_of == ""].reset_index(drop=True)
    if rest.empty:
        raise DataError(f"{folder}: no image is left that can be read and is no copy of one that the run has seen")
    return ExternalData(rest, copies, dataset, unreadable)


def _facts(model: TrainedModel, folder: Path, external: ExternalData, classes: dict[str, int]) -> Record:
    """What was tested on what; `classes`: the images of each."""
    splits = external.overlap["split"]
    return {
        "experiment": model.record["experiment"],
        "repeat": model.record["repeat"],
        "epoch": model.epoch(),
        "folder": str(folder),
        "layout": external.dataset.layout,
        "patients": describe_patients(external.dataset, external.table),
        "images": len(external.table),
        "classes": classes,
        "left_out": external.dataset.left_out,
        "unreadable": external.unreadable[:EXAMPLES],
        "overlap": {
            **{split: int((splits == split).sum()) for split in USED_SPLITS},
            "examples": external.overlap.head(EXAMPLES).to_dict("records"),
        },
    }


def _metrics(external: ExternalData, p: Floats, run_thresholds: Thresholds, cfg: EvalConfig) -> Record:
    labels, classes = external.table["label"], cfg.classes
    sample = Sample(labels.map(classes.index).to_numpy(np.int64), p, external.table["patient"].to_numpy(str))
    return {
        "confidence": cfg.confidence,
        "intervals": sample.units.description,
        "metrics": [to_row(metric) for metric in metrics_with_intervals(sample, cfg)],
        "confusion": confusion_matrix(sample.actual, sample.predicted, len(classes)).tolist(),
        "temperature": run_thresholds.temperature,
        "log_loss_calibrated": _calibrated(sample, run_thresholds.temperature),
        "operating_points": [_applied(point, sample, cfg) for point in run_thresholds.points],
    }


def _calibrated(sample: Sample, temperature: float | None) -> float | None:
    if temperature is None:
        return None
    return log_loss(sample.actual, scale(sample.probabilities, temperature))


def _applied(point: OperatingPoint, sample: Sample, cfg: EvalConfig) -> Record:
    """tn, fp, fn, tp and metrics at a threshold, None where there is no image to have them of."""
    facts = {"class": point.class_, "point": point.point, "threshold": point.threshold}
    label = cfg.classes.index(point.class_)
    return facts | threshold_row(apply_threshold(sample, label, point.threshold, cfg.confidence))
