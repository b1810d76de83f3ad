"""Several sources as one: each read by itself, its labels matched to the study's classes, its patients its own."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from xraylab import targets
from xraylab.data import layouts
from xraylab.data.layouts.labels import (
    UNLABELLED,
    as_yaml,
    describe_counts,
    did_you_mean,
    nearest,
    quoted,
    same_spelling,
)
from xraylab.data.layouts.records import UNKNOWN, Dataset, LabelRules, TableConfig
from xraylab.data.names import natural, some
from xraylab.errors import DataError, speaking_of
from xraylab.params.data import Data
from xraylab.task import is_multi

Labels = dict[str, list[str]]
IGNORE_OTHERS = "others"
"""Value of `ignore`: every label that is in no class."""


class SourceConfig(NamedTuple):
    """How one source is read; `labels` None: its labels are the names of the classes, of which it may lack some."""

    key: str  # what errors call it
    layout: str
    labels: Labels | None
    has_own_labels: bool  # then it must have all classes that they name
    ignore: Literal["others"] | list[str]
    patient: str | None
    tables: TableConfig
    task: str
    rules: LabelRules


def source_configs(data: Data) -> dict[str, SourceConfig]:
    """The sources of data.source by their names; none where there is no list."""
    return {
        each.name: SourceConfig(
            key,
            each.layout,
            each.labels,
            each.labels is not None and each.labels != data.labels,
            each.ignore or [],
            each.patient,
            TableConfig.of(each.table, each.columns),
            data.task,
            LabelRules.of(each.blank or data.blank, each.readers or data.readers, each.views),
        )
        for key, each in data.sources.items()
    }


def read_one(raw: Path, data: Data) -> Dataset:
    """The images of a single source. Errors: DataError for all that does not fit."""
    tables, rules = TableConfig.of(data.table, data.columns), LabelRules.of(data.blank, data.readers, data.views)
    return layouts.read(raw, data.layout, data.classes, data.labels, data.patient, tables, data.task, rules)


def source_names(addresses: Sequence[str]) -> list[str]:
    """A unique name for each folder, archive or address, made of its last part."""
    names: list[str] = []
    for address in addresses:
        last = re.split(r"[/\\:]", address.rstrip("/\\"))[-1].split(".")[0]
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", last).strip("_-")[:50] or "source"
        lowered = {name.lower() for name in names}
        candidates = [plain, *(f"{plain}-{number}" for number in range(2, len(addresses) + 2))]
        names.append(next(name for name in candidates if name.lower() not in lowered))
    return names


def read(raw: Mapping[str, Path], configs: dict[str, SourceConfig], classes: list[str]) -> Dataset:
    """All sources together; `raw` has the folder of each. Errors: DataError for all that does not fit."""
    datasets = {name: read_source(raw[name], cfg, classes) for name, cfg in configs.items()}
    refuse_absent_classes(datasets, classes)
    return concat(datasets, classes, next(iter(raw.values())).parent)


def refuse_absent_classes(datasets: dict[str, Dataset], classes: list[str]) -> None:
    """Errors: DataError for classes that no source has."""
    present = {label for dataset in datasets.values() for label in +layouts.count_table(dataset.table)}
    if absent := [name for name in classes if name not in present]:
        raise DataError(
            f"data.source: no source has an image of {some(absent)}: set data.classes, or the labels of a source:",
            [f"{name} has {_counts(layouts.count_table(dataset.table))}" for name, dataset in datasets.items()],
        )


def read_source(raw: Path, cfg: SourceConfig, classes: list[str]) -> Dataset:
    """One source, of which each label must be in a class, or be ignored. Errors: DataError.

    With several findings per image, labels that no finding names are not studied, and findings that the source does not
    label are unknown there.
    """
    with speaking_of(cfg.key):
        every = layouts.read(raw, cfg.layout, None, None, None, cfg.tables, cfg.task, cfg.rules)
        counts = layouts.count_labels(raw, every)
        del counts[UNLABELLED]
        labels = _match_labels(cfg, classes, counts)
        dataset = layouts.read(raw, cfg.layout, list(labels), labels, cfg.patient, cfg.tables, cfg.task, cfg.rules)
        if is_multi(cfg.task):
            return dataset
        unused = every.table["label"][~every.table["path"].isin(set(dataset.table["path"]))]
        _refuse_unknown_labels(unused, labels, cfg)
    return dataset


def concat(datasets: dict[str, Dataset], classes: list[str], top: Path) -> Dataset:
    """The sources' images: ids, paths and patients begin with the source's name, which is their `source`."""
    table = pd.concat([_prefix(dataset.table, name) for name, dataset in datasets.items()], ignore_index=True)
    columns = targets.of_table(table)
    table = table[[*table.columns.drop(columns), *(name for name in targets.columns(classes) if name in columns)]]
    rank = {} if columns else {name: number for number, name in enumerate(classes)}
    order = sorted(range(len(table)), key=lambda row: (rank.get(table["label"][row], 0), natural(table["id"][row])))
    patients = {name: dataset.patients for name, dataset in datasets.items()}
    return Dataset(
        layout=_summarize({name: dataset.layout for name, dataset in datasets.items()}),
        why=_summarize({name: dataset.why for name, dataset in datasets.items()}),
        top=top,
        table=table.iloc[order].reset_index(drop=True),
        patients=_summarize(patients),
        left_out={f"{name}: {why}": n for name, dataset in datasets.items() for why, n in dataset.left_out.items()},
        missing=[f"{name}/{path}" for name, dataset in datasets.items() for path in dataset.missing],
        tables=[f"{name}: {line}" for name, dataset in datasets.items() for line in dataset.tables],
        patients_by_source=patients,
        not_studied=dict(sum((Counter(dataset.not_studied) for dataset in datasets.values()), Counter[str]())),
        contradicting=[f"{name}/{path}" for name, dataset in datasets.items() for path in dataset.contradicting],
    )


def prefix_patients(source: pd.Series, patient: pd.Series) -> pd.Series:
    """Patients named so that those of two sources are two people; '' stays."""
    return patient.where(patient == "", source + "/" + patient)


def describe_patients(dataset: Dataset, table: pd.DataFrame) -> str:
    """Describe how the patients of each source are identified, after reading the headers of files in `table`."""
    with_patients = set(table["source"][table["patient"] != ""])
    ways = {
        name: "DICOM's PatientID" if way == UNKNOWN and name in with_patients else way
        for name, way in dataset.patients_by_source.items()
    }
    return _summarize(ways)


def _match_labels(cfg: SourceConfig, classes: list[str], counts: Counter[str]) -> Labels:
    """The source's classes in order, each with its labels as the source spells them."""
    expected = cfg.labels or {name: [name] for name in classes}
    matched = {
        name: [spelled for label in expected[name] for spelled in same_spelling(label, counts)]
        for name in classes
        if name in expected
    }
    if not any(matched.values()):
        raise DataError(
            f"none of the labels {', '.join(label for labels in expected.values() for label in labels)} is here, which "
            f"has {describe_counts(counts)}: "
            "say below it in data.source which labels make up which class:",
            [f"labels: {_labels_to_paste(matched, counts)}"],
        )
    absent = [name for name, labels in matched.items() if not labels]
    if cfg.has_own_labels and absent:
        raise DataError(
            f"labels: no image of {some(absent)} is here, which has {describe_counts(counts)}",
            _suggest([label for name in absent for label in expected[name]], +counts),
        )
    return {name: labels for name, labels in matched.items() if labels}


def _refuse_unknown_labels(unused: pd.Series, labels: Labels, cfg: SourceConfig) -> None:
    """Errors: DataError for labels in no class that are not ignored, and for ignored ones that are not there."""
    if cfg.ignore == IGNORE_OTHERS:
        return
    used = {UNLABELLED, "", *(label for spelled in labels.values() for label in spelled)}
    unknown = Counter(label for text in unused for label in text.split("|") if label not in used)
    ignored = {name: same_spelling(name, unknown) for name in cfg.ignore}
    if absent := [name for name, spelled in ignored.items() if not spelled]:
        raise DataError(
            f"ignore names labels that no image left over has: {some(absent)}; there is {describe_counts(unknown)}",
            _suggest(absent, unknown),
        )
    for label in {label for spelled in ignored.values() for label in spelled}:
        del unknown[label]
    if unknown:
        raise DataError(
            f"labels that are in no class: {describe_counts(unknown)}. Say below it in data.source to which class they "
            "belong, or that they are to be left out:",
            [
                *_suggest(unknown, labels),
                f"labels: {_labels_to_paste(labels, unknown)}",
                f"or ignore: [{', '.join(map(quoted, sorted(unknown, key=natural)))}]",
            ],
        )


def _suggest(names: Iterable[str], labels: Iterable[str]) -> list[str]:
    return did_you_mean({name: nearest(name, labels) for name in names})


def _prefix(table: pd.DataFrame, name: str) -> pd.DataFrame:
    source = pd.Series(name, index=table.index)
    return table.assign(
        id=name + "/" + table["id"],
        path=name + "/" + table["path"],
        patient=prefix_patients(source, table["patient"]),
        source=source,
    )


def _labels_to_paste(labels: Labels, more: Counter[str]) -> str:
    """The labels as they are, those of `more` added to the classes that are nearest, or to the last."""
    extended = {name: list(spelled) for name, spelled in labels.items()}
    for label in sorted(+more, key=natural):
        name = next(iter(nearest(label, labels)), list(labels)[-1])
        extended[name] += [] if label in extended[name] else [label]
    return as_yaml(extended)


def _counts(labels: Counter[str]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in labels.items())


def _summarize(by_source: dict[str, str]) -> str:
    """The common value of all sources, else the value of each."""
    if len(set(by_source.values())) == 1:
        return next(iter(by_source.values()))
    return "; ".join(f"{name}: {text}" for name, text in by_source.items())
