"""Audit images: the content of a folder and its problems, as a record and as lines of a log."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import leftovers, targets
from xraylab.data import index, layouts
from xraylab.data.audit import confounding, duplicates, findings, multi_label
from xraylab.data.audit.confounding import Shortcuts
from xraylab.data.audit.findings import Finding
from xraylab.data.layouts import multi_source, tasks
from xraylab.data.layouts.records import UNKNOWN, Dataset
from xraylab.data.names import natural
from xraylab.data.shard_store import ShardStore
from xraylab.errors import DataError, speaking_of
from xraylab.params.data import pattern

MAX_EXAMPLES = 3  # in the log; the record has more


@dataclass(frozen=True)
class Record:
    """The content of data/audit.json."""

    images: int
    layout: str
    why: str
    tables: list[str]
    patients: str  # how they are known
    classes: dict[str, dict[str, int]]  # class -> its images and its known patients
    findings: list[Finding]
    shortcuts: Shortcuts
    splits: dict[str, int] | None = None
    """The images of each split that the data set itself gives; a study splits them anew and has none here."""
    without_finding: int | None = None
    """Of several findings per image: the images in which none is present."""

    def to_json(self) -> dict[str, Any]:
        """The record as a file has it, without what belongs to another kind of audit."""
        record = {name: value for name, value in asdict(self).items() if value is not None}
        if self.shortcuts.findings is None:
            del record["shortcuts"]["findings"]
        return record


@dataclass(frozen=True)
class Audit:
    """data/index.csv, near_duplicates.csv and audit.json, and why each file that is not in them cannot be read."""

    index: pd.DataFrame
    near: pd.DataFrame
    record: Record
    unreadable: list[str]


def audit(
    raw: Path,
    dataset: Dataset,
    salt: bytes | None = None,
    keep_names: bool = False,
    store: ShardStore | None = None,
) -> Audit:
    """Read every image of the data set, and say what is wrong with them; `store` as for `index.measure`."""
    table, unreadable, thumbnails = index.measure(
        raw, dataset.table, salt, keep_names, bool(dataset.patients_by_source), store
    )
    patients = describe_patients(dataset, table)
    near = duplicates.near(table, thumbnails)
    several = bool(targets.of_table(table))
    shortcuts = multi_label.find_shortcuts(table) if several else confounding.find_shortcuts(table)
    every = [
        *findings.of_files(table, unreadable, dataset.missing, dataset.left_out),
        *findings.of_pictures(table, near),
        *findings.of_people(table, patients),
        *findings.of_shortcuts(shortcuts),
        *findings.of_labels(dataset.not_studied, dataset.contradicting),
    ]
    record = Record(
        images=len(table),
        layout=dataset.layout,
        why=dataset.why,
        tables=dataset.tables,
        patients=patients,
        classes=multi_label.count_labels(table) if several else _count_classes(table),
        findings=sorted(every, key=lambda each: findings.SEVERITIES.index(each.severity)),
        shortcuts=shortcuts,
        without_finding=int((table["label"] == targets.NO_FINDING).sum()) if several else None,
    )
    return Audit(table, near, record, unreadable)


def _count_classes(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {
        str(label): {"images": len(rows), "patients": rows["patient"][rows["patient"] != ""].nunique()}
        for label, rows in table.groupby("label", sort=False)
    }


def describe_patients(dataset: Dataset, table: pd.DataFrame) -> str:
    """Describe how patients are identified, after reading the files."""
    if dataset.patients_by_source:
        return multi_source.describe_patients(dataset, table)
    by_header = dataset.patients == UNKNOWN and (table["patient"] != "").any()
    return "DICOM's PatientID" if by_header else dataset.patients


def audit_folders(folders: list[Path], layout: str, patient: str | None) -> Audit:
    """Audit folders without a study: every label counts as a class, and so do the splits that the data set gives.

    Several folders are sources of one data set: copies in two of them are found too. Where all have several findings
    per image, these are audited; beside one that has classes, their labels count as classes. Errors: DataError.
    """
    if len(folders) == 1:
        return _with_given_splits(audit(folders[0], _read(folders[0], layout, patient)))
    with leftovers.temporary_folder() as top:  # of links, so that all have one top
        datasets = {}
        names = multi_source.source_names([str(folder.resolve()) for folder in folders])
        for name, folder in zip(names, folders, strict=True):
            (top / name).symlink_to(folder.resolve(), target_is_directory=True)
            with speaking_of(str(folder)):
                datasets[name] = _read(folder, layout, patient)
        if len({bool(targets.of_table(each.table)) for each in datasets.values()}) > 1:
            datasets = {name: without_findings(each) for name, each in datasets.items()}
        labels = sorted({label for each in datasets.values() for label in layouts.count_table(each.table)}, key=natural)
        return _with_given_splits(audit(top, multi_source.concat(datasets, labels, top)))


def _read(folder: Path, layout: str, patient: str | None) -> Dataset:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the folder that holds the images")
    try:
        return tasks.read(folder, layout, patient and pattern(patient))
    except ValueError as error:
        raise DataError(f"--patient {patient!r} {error}") from None


def without_findings(dataset: Dataset) -> Dataset:
    """The data set with its joined labels alone."""
    return replace(dataset, table=dataset.table.drop(columns=targets.of_table(dataset.table)))


def _with_given_splits(audited: Audit) -> Audit:
    """The audit, and what crosses the splits that the data set itself gives."""
    table = audited.index
    counts = table["split"][table["split"] != ""].value_counts(sort=False)
    if counts.empty:
        return audited
    crossing = findings.across_splits(table, audited.near, table["split"])
    splits = {str(split): int(count) for split, count in counts.items()}
    record = replace(audited.record, splits=splits, findings=[*crossing, *audited.record.findings])
    return replace(audited, record=record)


def _not_present(count: dict[str, int]) -> str:
    """The other labels of a finding; nothing of a class, which an image has or has not."""
    says = {"negative": "without it", "uncertain": "uncertain", "missing": "not labelled"}
    return "".join(f", {count[key]} {words}" for key, words in says.items() if count.get(key))


def lines(record: Record) -> Iterator[str]:
    """The record as people read it in a log."""
    yield f"layout: {record.layout} ({record.why})"
    yield from record.tables
    yield f"{record.images} images; patients: {record.patients}"
    for label, count in record.classes.items():
        patients = f", {count['patients']} patients" if count["patients"] else ""
        yield f"    {label}: {count['images']} images{patients}{_not_present(count)}"
    if record.without_finding is not None and targets.NO_FINDING not in record.classes:
        yield f"    none of them: {record.without_finding} images"
    if record.shortcuts.warning:
        yield f"warning: metrics of these images may not hold at other hospitals. {record.shortcuts.warning}"
        yield f"    {record.shortcuts.remedy}"
    if record.splits:
        crossing = {each.kind: each.count for each in record.findings}
        counts = [f"{crossing.get(f'{kind}_across_splits', 0)} {kind}" for kind in findings.LEAKS]
        per_split = ", ".join(f"{name} {count}" for name, count in record.splits.items())
        yield f"splits of the data set: {per_split}; in two of them: {', '.join(counts)}"
    for finding in record.findings:
        yield f"{finding.severity}: {finding.count} {finding.says}"
        yield from (f"    {example}" for example in finding.examples[:MAX_EXAMPLES])
        if len(finding.examples) > MAX_EXAMPLES:
            yield f"    and {finding.count - MAX_EXAMPLES} more"
