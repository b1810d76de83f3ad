"""External tests where an image may have several findings: what the other data set calls each, and metrics of each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import targets
from xraylab.data import layouts
from xraylab.data.layouts import Dataset
from xraylab.data.layouts.labels import nearest
from xraylab.data.names import some
from xraylab.errors import DataError
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.confusion import Floats, confusion_matrix
from xraylab.evaluate.metrics import log_loss
from xraylab.evaluate.multi_label.metrics import compute_metrics, of_finding, why_undefined
from xraylab.evaluate.multi_label.samples import DEFAULT_THRESHOLD, Findings
from xraylab.evaluate.operating_points import all_rules, apply_threshold
from xraylab.evaluate.tables import threshold_row, to_row
from xraylab.evaluate.temperature import scale
from xraylab.inference.thresholds import Thresholds
from xraylab.registry import findings as registry
from xraylab.task import MULTI_LABEL

YOUDEN = next(iter(all_rules([], [])))
SHOWN = ("auroc", "auprc", "sensitivity", "specificity")

Labels = dict[str, list[str]]


@dataclass(frozen=True)
class Mapping:
    """What the other data set calls the findings of a model, and what only one of the two has."""

    labels: Labels
    only_model: list[str]
    """Findings that the other data set does not label, or that no image there has."""
    only_data: dict[str, int]
    """Labels of the other data set that the model does not know -> images."""
    remarks: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The table for a terminal."""
        width = max(len(name) for name in [*self.labels, "finding"])
        rows = [f"{name:{width}}  {', '.join(labels)}" for name, labels in self.labels.items()]
        only_data = [f"{name} ({count})" for name, count in self.only_data.items()]
        unused = {"findings not tested": self.only_model, "labels not used": only_data}
        return [
            f"{'finding':{width}}  label in the data",
            *rows,
            *(f"{what}: {some(names, 20)}" for what, names in unused.items() if names),
            *(f"not the same: {remark}" for remark in self.remarks),
        ]


def read(folder: Path, layout: str) -> Dataset:
    """The data set with every label as a finding."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the folder that holds the images")
    return layouts.read(folder, layout, None, None, None, task=MULTI_LABEL)


def match(findings: list[str], named: Labels, dataset: Dataset, folder: Path) -> Mapping:
    """The common findings: as `named` (finding -> labels), else by the names that public data sets have for them.

    Errors: DataError where nothing is common, or where a named label is not there.
    """
    counts = _count(dataset)
    for name, spelled in named.items():
        if absent := [label for label in spelled if not counts.get(label)]:
            raise DataError(f"--label {name}={absent[0]}: no image in {folder} has it; there is {_describe(counts)}")
    assigned = {label for spelled in named.values() for label in spelled}
    free = [label for label, count in counts.items() if count and label not in assigned]
    rest = [name for name in findings if name not in named]
    by_name = {name: [label] for name, label in registry.common(rest, free)}
    labels = {name: named.get(name) or by_name[name] for name in findings if name in named or name in by_name}
    if not labels:
        raise DataError(
            f"{folder} has {_describe(counts)}, and none of the model's findings ({', '.join(findings)}); "
            "say what one is called:",
            [f"--label '{name}={(nearest(name, free) or ['LABEL'])[0]}'" for name in findings],
        )
    used = {label for each in labels.values() for label in each}
    only_data = {label: count for label, count in counts.items() if label not in used}
    only_model = [name for name in findings if name not in labels]
    return Mapping(labels, only_model, only_data, registry.remarks(only_model, list(only_data)))


def match_positive(positive: str, named: Labels, dataset: Dataset, folder: Path) -> Mapping | None:
    """The one finding that a model of two classes looks for, in a data set of several findings; None in any other."""
    labels = targets.values(dataset.table, _findings(dataset))
    has_several = bool(((labels == 1).sum(axis=1) > 1).any() or not targets.known(labels).all())
    if not has_several:
        return None
    try:
        return match([positive], {name: each for name, each in named.items() if name == positive}, dataset, folder)
    except DataError as error:
        raise DataError(
            f"the images in {folder} have several findings, and none is the one that the model looks for. "
            f"{error.headline}",
            error.problems,
        ) from None


def as_findings(dataset: Dataset, mapping: Mapping) -> Dataset:
    """The images with the model's findings as columns, without those of which none is labelled.

    Of several labels that make up one finding: present if one is, absent if all are.
    """
    columns = [_combined(dataset.table, labels) for labels in mapping.labels.values()]
    values = np.column_stack(columns)
    labelled = ~np.isnan(values).all(axis=1)
    others = dataset.table.drop(columns=["label", *targets.of_table(dataset.table)])
    findings = targets.to_columns(values[labelled], list(mapping.labels))
    table = pd.concat([others[labelled].reset_index(drop=True), findings], axis=1)
    left_out = {"no common finding is labelled": int((~labelled).sum())} if not labelled.all() else {}
    return replace(dataset, table=table, left_out=dataset.left_out | left_out)


def _combined(table: pd.DataFrame, labels: list[str]) -> Floats:
    values = targets.values(table, labels)
    uncertain = (values == targets.UNCERTAIN).any(axis=1)
    absent = np.where((values == 0).all(axis=1), 0.0, np.nan)
    combined: Floats = np.where((values == 1).any(axis=1), 1.0, np.where(uncertain, targets.UNCERTAIN, absent))
    return combined


def as_classes(dataset: Dataset, positive: str, negative: str) -> Dataset:
    """The images where the finding is known, as the two classes of the model."""
    label = dataset.table[f"{targets.PREFIX}{positive}"]
    known = label.isin([0, 1]).fillna(False).to_numpy(bool)
    present = (label[known] == 1).to_numpy(bool)
    table = dataset.table[known].drop(columns=targets.of_table(dataset.table))
    table = table.assign(label=np.where(present, positive, negative)).reset_index(drop=True)
    left_out = {f"{positive} is uncertain": int((~known).sum())} if not known.all() else {}
    return replace(dataset, table=table, left_out=dataset.left_out | left_out)


def count(table: pd.DataFrame, mapping: Mapping) -> dict[str, int]:
    """The images that have each common finding."""
    return {name: int((table[f"{targets.PREFIX}{name}"] == 1).sum()) for name in mapping.labels}


def record(
    findings: list[str], mapping: Mapping, table: pd.DataFrame, p: Floats, thresholds: Thresholds, cfg: EvalConfig
) -> dict[str, Any]:
    """Metrics of each common finding and their means, at the thresholds of the run; `p` (images, findings)."""
    names = list(mapping.labels)
    columns = [findings.index(name) for name in names]
    prevalence = None if cfg.prevalence is None else cfg.prevalence[columns]
    cfg = replace(cfg, classes=names, positive=None, negative_class=None, prevalence=prevalence)
    values = targets.values(table, names)
    labels = np.where(targets.known(values), values, np.nan)
    fixed = {point.class_: point.threshold for point in thresholds.points if point.point == YOUDEN}
    at = np.tile([fixed.get(name, DEFAULT_THRESHOLD) for name in names], (len(table), 1))
    tested = Findings(labels, p[:, columns], at, table["patient"].to_numpy(str))
    defined = [number for number in range(len(names)) if not why_undefined(tested, number)]
    return {
        "task": MULTI_LABEL,
        "mapping": mapping.to_json(),
        "known": {name: int((~np.isnan(column)).sum()) for name, column in zip(names, labels.T, strict=True)},
        "thresholds": {name: fixed.get(name, DEFAULT_THRESHOLD) for name in names},
        "fixed": [name for name in names if name in fixed],
        "confidence": cfg.confidence,
        "intervals": tested.units.description,
        "metrics": [to_row(metric) for metric in compute_metrics(tested, cfg, defined, intervals=True)],
        "confusion": {name: _confusion(tested, number) for number, name in enumerate(names)},
        "temperature": None,
        "log_loss_calibrated": _calibrated(tested, names, defined, thresholds),
        "operating_points": [
            {"class": point.class_, "point": point.point, "threshold": point.threshold}
            | threshold_row(
                apply_threshold(
                    tested.samples[names.index(point.class_)],
                    1,
                    point.threshold,
                    of_finding(cfg, names.index(point.class_)).confidence,
                )
            )
            for point in thresholds.points
            if point.class_ in names
        ],
    }


def summary(record: dict[str, Any]) -> list[str]:
    """What was mapped, and a line per finding and mean, for a terminal."""
    mapping = Mapping(**record["mapping"])
    values = {(row["class"], row["metric"]): row for row in record["metrics"]}
    names = list(dict.fromkeys(row["class"] for row in record["metrics"]))
    width = max(len(name) for name in names)
    lines = [*mapping.lines(), f"{'':{width}}  {'positive':>8}  {'known':>6}  " + "".join(f"{n:24}" for n in SHOWN)]
    for name in names:
        counts = f"{record['classes'].get(name, ''):>8}  {record['known'].get(name, ''):>6}"
        lines.append(f"{name:{width}}  {counts}  " + "".join(f"{_estimate(values.get((name, n))):24}" for n in SHOWN))
    lines += [f"{row['class']}: {row['why']}" for row in record["metrics"] if row["metric"] == "auroc" and row["why"]]
    default = [name for name in record["thresholds"] if name not in record["fixed"]]
    if default:
        lines.append(f"no threshold from validation images, so {DEFAULT_THRESHOLD}: {some(default, 20)}")
    return [line.rstrip() for line in lines]


def _estimate(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    return f"{row['value']:.3f}" + ("" if row["ci_low"] is None else f" ({row['ci_low']:.3f} to {row['ci_high']:.3f})")


def _confusion(tested: Findings, number: int) -> list[list[int]]:
    sample = tested.samples[number]
    rows: list[list[int]] = confusion_matrix(sample.actual, sample.predicted, 2).tolist()
    return rows


def _calibrated(tested: Findings, names: Sequence[str], defined: Sequence[int], thresholds: Thresholds) -> float | None:
    """The mean log loss over findings at each one's own temperature; None where one has none."""
    temperatures = [thresholds.temperatures.get(names[number]) for number in defined]
    losses = [
        log_loss(tested.samples[number].actual, scale(tested.samples[number].probabilities, temperature))
        for number, temperature in zip(defined, temperatures, strict=True)
        if temperature is not None
    ]
    return float(np.mean(losses)) if losses and len(losses) == len(defined) else None


def _findings(dataset: Dataset) -> list[str]:
    return [name.removeprefix(targets.PREFIX) for name in targets.of_table(dataset.table)]


def _count(dataset: Dataset) -> dict[str, int]:
    names = _findings(dataset)
    positive = (targets.values(dataset.table, names) == 1).sum(axis=0)
    return {name: int(count) for name, count in zip(names, positive, strict=True)}


def _describe(counts: dict[str, int]) -> str:
    return some([f"{name} ({count})" for name, count in counts.items()], 20)
