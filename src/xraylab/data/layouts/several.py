"""Several sources as one: each read by itself, its labels matched to the study's classes, its patients its own."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from xraylab.data import layouts
from xraylab.data.layouts import matching
from xraylab.data.layouts.class_folders import UNLABELLED
from xraylab.data.layouts.classes import quoted
from xraylab.data.layouts.listing import last, walk
from xraylab.data.layouts.patients import UNKNOWN
from xraylab.data.layouts.records import Found, Tables
from xraylab.data.names import natural, some
from xraylab.errors import DataError, speaking_of
from xraylab.params.data import Data

Labels = dict[str, list[str]]
OTHERS = "others"
"""Of `ignore`: every label that is in no class."""


class Reading(NamedTuple):
    """How one source is read; `labels` None: its labels are the names of the classes, of which it may lack some."""

    where: str  # what errors call it
    layout: str
    labels: Labels | None
    named: bool  # whether the source itself names its labels, and so must have all of these classes
    ignore: Literal["others"] | list[str]
    patient: str | None
    tables: Tables


def readings(data: Data) -> dict[str, Reading]:
    """The sources of data.source by their names; none where there is no list."""
    return {
        each.name: Reading(
            where,
            each.layout,
            each.labels,
            each.labels is not None and each.labels != data.labels,
            each.ignore or [],
            each.patient,
            Tables.of(each.table, each.columns),
        )
        for where, each in data.sources.items()
    }


def names_of(places: Sequence[str]) -> list[str]:
    """A name for each folder, archive or address: its last part, made unlike the others'."""
    found: list[str] = []
    for place in places:
        last = re.split(r"[/\\:]", place.rstrip("/\\"))[-1].split(".")[0]
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", last).strip("_-")[:50] or "source"
        taken = {name.lower() for name in found}
        numbered = (f"{plain}-{number}" for number in range(2, len(places) + 2))
        found.append(plain if plain.lower() not in taken else next(n for n in numbered if n.lower() not in taken))
    return found


def read(raw: Mapping[str, Path], how: dict[str, Reading], classes: list[str]) -> Found:
    """All sources together; `raw` has the folder of each. Errors: DataError for all that does not fit."""
    found = {name: part(raw[name], reading, classes) for name, reading in how.items()}
    refuse_absent(found, classes)
    return joined(found, classes, next(iter(raw.values())).parent)


def refuse_absent(found: dict[str, Found], classes: list[str]) -> None:
    """Errors: DataError for classes that no source has."""
    have = {label for each in found.values() for label in each.table["label"]}
    if absent := [name for name in classes if name not in have]:
        raise DataError(
            f"data.source: no source has an image of {some(absent)}: set data.classes, or the labels of a source:",
            [f"{name} has {_counts(each.table['label'])}" for name, each in found.items()],
        )


def part(raw: Path, how: Reading, classes: list[str]) -> Found:
    """One source, of which each label must be in a class, or be ignored. Errors: DataError."""
    with speaking_of(how.where):
        every = layouts.read(raw, how.layout, None, None, None, how.tables)
        names = Counter(dict.fromkeys((last(folder) for folder in walk(raw).holding if folder), 0))
        names.update(label for text in every.table["label"] for label in text.split("|") if label != UNLABELLED)
        own = _own_labels(how, classes, names)
        found = layouts.read(raw, how.layout, list(own), own, how.patient, how.tables)
        _refuse_unknown(every, found, own, how)
    return found


def joined(found: dict[str, Found], classes: list[str], top: Path) -> Found:
    """The sources' images: ids, paths and patients begin with the source's name, which is their `source`."""
    table = pd.concat([_named(each.table, name) for name, each in found.items()], ignore_index=True)
    rank = {name: number for number, name in enumerate(classes)}
    order = sorted(range(len(table)), key=lambda row: (rank[table["label"][row]], natural(table["id"][row])))
    return Found(
        layout=_said({name: each.layout for name, each in found.items()}),
        why=_said({name: each.why for name, each in found.items()}),
        top=top,
        table=table.iloc[order].reset_index(drop=True),
        patients=_said({name: each.patients for name, each in found.items()}),
        left_out={f"{name}: {why}": count for name, each in found.items() for why, count in each.left_out.items()},
        missing=[f"{name}/{each}" for name, of in found.items() for each in of.missing],
        tables=[f"{name}: {line}" for name, each in found.items() for line in each.tables],
        told_in={name: each.patients for name, each in found.items()},
    )


def apart(source: pd.Series, patient: pd.Series) -> pd.Series:
    """Patients named so that those of two sources are two people; '' stays."""
    return patient.where(patient == "", source + "/" + patient)


def told_by(found: Found, table: pd.DataFrame) -> str:
    """How the patients of each source were told, when headers of files in `table` have been read as well."""
    known = set(table["source"][table["patient"] != ""])
    by_header = {name for name, way in found.told_in.items() if way == UNKNOWN and name in known}
    return _said({name: "DICOM's PatientID" if name in by_header else way for name, way in found.told_in.items()})


def _own_labels(how: Reading, classes: list[str], names: Counter[str]) -> Labels:
    """The source's classes in order, each with its labels as the source spells them."""
    given = how.labels or {name: [name] for name in classes}
    own = {
        name: [spelt for label in given[name] for spelt in matching.same(label, names)]
        for name in classes
        if name in given
    }
    if not any(own.values()):
        raise DataError(
            f"none of the labels {', '.join(label for several in given.values() for label in several)} is here, which "
            f"has {matching.counted(names)}: "
            "say below it in data.source which labels make up which class:",
            [f"labels: {_labels_to_paste(own, names)}"],
        )
    absent = [name for name, labels in own.items() if not labels]
    if how.named and absent:
        raise DataError(
            f"labels: no image of {some(absent)} is here, which has {matching.counted(names)}",
            _nearest([label for name in absent for label in given[name]], +names),
        )
    return {name: labels for name, labels in own.items() if labels}


def _refuse_unknown(every: Found, found: Found, own: Labels, how: Reading) -> None:
    """Labels in no class that are not ignored; ignored ones that are not there."""
    known = {label for labels in own.values() for label in labels}
    rest = every.table["label"][~every.table["path"].isin(set(found.table["path"]))]
    unknown = Counter(label for text in rest for label in text.split("|"))
    unknown = Counter({label: count for label, count in unknown.items() if label not in {*known, UNLABELLED, ""}})
    if how.ignore == OTHERS:
        return
    ignored = {name: matching.same(name, unknown) for name in how.ignore}
    if idle := [name for name, labels in ignored.items() if not labels]:
        raise DataError(
            f"ignore names labels that no image left over has: {some(idle)}; there is {matching.counted(unknown)}",
            _nearest(idle, unknown),
        )
    out = {label for labels in ignored.values() for label in labels}
    left = Counter({label: count for label, count in unknown.items() if label not in out})
    if left:
        raise DataError(
            f"labels that are in no class: {matching.counted(left)}. Say below it in data.source to which class they "
            "belong, or that they are to be left out:",
            [
                *_nearest(left, own),
                f"labels: {_labels_to_paste(own, left)}",
                f"or ignore: [{', '.join(map(quoted, sorted(left, key=natural)))}]",
            ],
        )


def _nearest(names: Iterable[str], labels: Iterable[str]) -> list[str]:
    near = {name: matching.nearest(name, labels) for name in names}
    return [f"{name}: did you mean {some(labels)}?" for name, labels in near.items() if labels]


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    source = pd.Series(name, index=table.index)
    return table.assign(
        id=name + "/" + table["id"],
        path=name + "/" + table["path"],
        patient=apart(source, table["patient"]),
        source=source,
    )


def _labels_to_paste(own: Labels, more: Counter[str]) -> str:
    """The labels as they are, those of `more` added to the classes that are nearest, or to the last."""
    shown = {name: list(labels) for name, labels in own.items()}
    for label in sorted(+more, key=natural):
        name = next(iter(matching.nearest(label, own)), list(own)[-1])
        shown[name] += [] if label in shown[name] else [label]
    parts = (f"{quoted(name)}: [{', '.join(map(quoted, labels))}]" for name, labels in shown.items())
    return f"{{{', '.join(parts)}}}"


def _counts(labels: pd.Series) -> str:
    return ", ".join(f"{label} ({count})" for label, count in labels.value_counts(sort=False).items())


def _said(by_source: dict[str, str]) -> str:
    """What holds of all sources, else what holds of each."""
    if len(set(by_source.values())) == 1:
        return next(iter(by_source.values()))
    return "; ".join(f"{name}: {text}" for name, text in by_source.items())
