"""Whose images they are: told by a pattern, by patients.csv, or by the layout."""

import re
from pathlib import Path

import pandas as pd

from xraylab import tables
from xraylab.data.layouts import published, values
from xraylab.data.names import some
from xraylab.errors import DataError

PATIENTS_FILE = "patients.csv"
UNKNOWN = "unknown"


def told(table: pd.DataFrame, top: Path, pattern: str | None, known: str) -> tuple[pd.DataFrame, str]:
    """The table with its patients ('' where unknown), and how they were told; `known` is the layout's own way.

    A pattern comes first, then what the layout knows, then patients.csv in `top`, whose sex and age are taken too, and
    at last the names that published data sets give their files, which tell the source in any case.
    Errors: DataError naming the images that the pattern or the file says nothing about.
    """
    named, sets = published.recognised(table)
    table = table.assign(source=named["source"])
    if pattern:
        return table.assign(patient=_by_pattern(table, pattern)), "pattern"
    if known == UNKNOWN and (top / PATIENTS_FILE).is_file():
        return table.assign(**_by_file(table, top / PATIENTS_FILE)), PATIENTS_FILE
    return (named, f"file names of {' and '.join(sets)}") if known == UNKNOWN and sets else (table, known)


def _by_pattern(table: pd.DataFrame, pattern: str) -> list[str]:
    found = [re.search(pattern, Path(name).name) for name in table["id"]]
    missed = [name for name, match in zip(table["id"], found, strict=True) if not match]
    if missed:
        raise DataError(f"data.patient: {pattern!r} finds no patient in the name of {some(missed)}")
    return [match["patient"] or "" for match in found if match]


def _by_file(table: pd.DataFrame, path: Path) -> dict[str, list[str]]:
    listed = tables.read(path, ("image", "patient", "sex", "age"))
    if not {"image", "patient"} <= set(listed.columns):
        raise DataError(f"{path.name}: needs the columns image and patient, has {', '.join(listed.columns)}")
    if listed["image"].duplicated().any():
        raise DataError(f"{path.name}: lists {some(list(listed['image'][listed['image'].duplicated()]))} twice")
    by_image = listed.set_index("image")
    missed = [name for name in table["id"] if name not in by_image.index]
    if missed:
        raise DataError(f"{path.name}: says nothing about {some(missed)}")
    rows = by_image.loc[table["id"]]
    people = {"patient": list(rows["patient"])}
    for name, tidy in (("sex", values.sex), ("age", values.age)):
        if name in rows:
            people[name] = [tidy(text) for text in rows[name]]
    return people
