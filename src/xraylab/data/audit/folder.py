"""What a folder of images holds and what is wrong with it, as a record and as people read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from xraylab.data import index, layouts
from xraylab.data.audit import duplicates, findings
from xraylab.data.layouts import multi_source
from xraylab.data.layouts.records import UNKNOWN, Dataset
from xraylab.data.names import natural
from xraylab.errors import DataError, speaking_of
from xraylab.params.data import pattern

SHOWN = 3  # examples in the log; the record has more


@dataclass(frozen=True)
class Audited:
    """data/index.csv, near_duplicates.csv and audit.json, and why each file that is not in them cannot be read."""

    index: pd.DataFrame
    near: pd.DataFrame
    record: dict[str, Any]
    unreadable: list[str]


def look(raw: Path, dataset: Dataset, salt: bytes | None = None, keep_names: bool = False) -> Audited:
    """Read every image that the layout found, and say what is wrong with them."""
    table, unreadable, thumbnails = index.measure(
        raw, dataset.table, salt, keep_names, bool(dataset.patients_by_source)
    )
    patients = told_by(dataset, table)
    near = duplicates.near(table, thumbnails)
    of_shortcuts, shortcuts = findings.of_shortcuts(table)
    every = [
        *findings.of_files(table, unreadable, dataset.missing, dataset.left_out),
        *findings.of_pictures(table, near),
        *findings.of_people(table, patients),
        *of_shortcuts,
    ]
    record = {
        "images": len(table),
        "layout": dataset.layout,
        "why": dataset.why,
        "tables": dataset.tables,
        "patients": patients,
        "classes": _classes(table),
        "findings": sorted(every, key=lambda each: findings.SEVERITIES.index(each["severity"])),
        "shortcuts": shortcuts,
    }
    return Audited(table, near, record, unreadable)


def told_by(dataset: Dataset, table: pd.DataFrame) -> str:
    """How patients were told, when files have been read as well."""
    if dataset.patients_by_source:
        return multi_source.describe_patients(dataset, table)
    by_header = dataset.patients == UNKNOWN and (table["patient"] != "").any()
    return "DICOM's PatientID" if by_header else dataset.patients


def any_folder(folder: Path, layout: str, patient: str | None) -> Audited:
    """The same without a study: every label counts as a class. Errors: DataError."""
    return look(folder, _read(folder, layout, patient))


def _read(folder: Path, layout: str, patient: str | None) -> Dataset:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name the folder that holds the images")
    try:
        return layouts.read(folder, layout, None, None, patient and pattern(patient))
    except ValueError as error:
        raise DataError(f"--patient {patient!r} {error}") from None


def any_folders(folders: list[Path], layout: str, patient: str | None) -> Audited:
    """Several of them together, each a source of its own: copies in two of them are found too. Errors: DataError."""
    if len(folders) == 1:
        return any_folder(folders[0], layout, patient)
    with TemporaryDirectory() as name:  # of links, so that all have one top
        top, datasets = Path(name), {}
        for called, folder in zip(
            multi_source.source_names([str(each.resolve()) for each in folders]), folders, strict=True
        ):
            (top / called).symlink_to(folder.resolve(), target_is_directory=True)
            with speaking_of(str(folder)):
                datasets[called] = _read(folder, layout, patient)
        labels = sorted({label for each in datasets.values() for label in each.table["label"]}, key=natural)
        return look(top, multi_source.concat(datasets, labels, top))


def with_given_sides(audited: Audited) -> dict[str, Any]:
    """The record, and what crosses the sides that the data set itself gives."""
    table = audited.index
    sides = _counts(table["side"][table["side"] != ""])
    if not sides:
        return audited.record
    crossing = findings.across_splits(table, audited.near, table["side"])
    return audited.record | {"sides": sides, "findings": crossing + audited.record["findings"]}


def lines(record: dict[str, Any]) -> Iterator[str]:
    """The record as people read it in a log."""
    yield f"layout: {record['layout']} ({record['why']})"
    yield from record["tables"]
    yield f"{record['images']} images; patients: {record['patients']}"
    for label, held in record["classes"].items():
        patients = f", {held['patients']} patients" if held["patients"] else ""
        yield f"    {label}: {held['images']} images{patients}"
    if record["shortcuts"]["warning"]:
        yield f"warning: figures of these images may not hold elsewhere. {record['shortcuts']['warning']}"
        yield f"    {record['shortcuts']['remedy']}"
    if "sides" in record:
        crossing = {each["kind"]: each["count"] for each in record["findings"]}
        counts = [f"{crossing.get(f'{kind}_across_splits', 0)} {kind}" for kind in findings.LEAKS]
        yield f"given sides: {_listed(record['sides'])}; on two of them: {', '.join(counts)}"
    for each in record["findings"]:
        yield from told(each)


def told(finding: findings.Finding) -> Iterator[str]:
    """One finding and its first examples."""
    yield f"{finding['severity']}: {finding['count']} {finding['says']}"
    yield from (f"    {example}" for example in finding["examples"][:SHOWN])
    if len(finding["examples"]) > SHOWN:
        yield f"    and {finding['count'] - SHOWN} more"


def _classes(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Class -> its images and its known patients."""
    return {
        str(label): {"images": len(rows), "patients": rows["patient"][rows["patient"] != ""].nunique()}
        for label, rows in table.groupby("label", sort=False)
    }


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts(sort=False).items()}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
