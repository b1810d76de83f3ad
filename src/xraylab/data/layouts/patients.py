"""Identify patients: by a pattern, by patients.csv, by the layout, or by published file names."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from xraylab import patterns, tables
from xraylab.data.layouts.records import UNKNOWN, parse_age, parse_sex
from xraylab.data.names import some
from xraylab.errors import DataError

PATIENTS_FILE = "patients.csv"
PUBLISHED = {
    "NIH ChestX-ray14": re.compile(r"(?P<patient>\d{8})_\d{3}\."),
    "Kermany": re.compile(r"(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d{4})[_-]\d"),
    "Shenzhen": re.compile(r"CHNCXR_\d{4}_[01]\."),
    "Montgomery": re.compile(r"MCUCXR_\d{4}_[01]\."),
}
"""File names that published data sets gave their images, wherever copies of them lie."""


def identify(table: pd.DataFrame, top: Path, pattern: str | None, patients_from: str) -> tuple[pd.DataFrame, str]:
    """The table with its patients ('' where unknown), and how they are known; `patients_from` is the layout's own way.

    A pattern comes first, then what the layout knows, then patients.csv in `top`, whose sex and age are taken too, and
    at last the names that published data sets give their files, which tell the source in any case.
    Errors: DataError naming the images that the pattern or the file says nothing about.
    """
    named, sets = _by_published_name(table)
    table = table.assign(source=named["source"])
    if pattern:
        return table.assign(patient=_by_pattern(table, pattern)), "pattern"
    if patients_from == UNKNOWN and (top / PATIENTS_FILE).is_file():
        return table.assign(**_by_file(table, top / PATIENTS_FILE)), PATIENTS_FILE
    return (
        (named, f"file names of {' and '.join(sets)}") if patients_from == UNKNOWN and sets else (table, patients_from)
    )


def _by_pattern(table: pd.DataFrame, pattern: str) -> list[str]:
    matches = [patterns.search(pattern, Path(name).name) for name in table["id"]]
    missed = [name for name, match in zip(table["id"], matches, strict=True) if not match]
    if missed:
        raise DataError(f"data.patient: {pattern!r} finds no patient in the name of {some(missed)}")
    return [match["patient"] or "" for match in matches if match]


def _by_file(table: pd.DataFrame, path: Path) -> dict[str, list[str]]:
    people = tables.read(path, ("image", "patient", "sex", "age"))
    if not {"image", "patient"} <= set(people.columns):
        raise DataError(f"{path.name}: needs the columns image and patient, has {', '.join(people.columns)}")
    if people["image"].duplicated().any():
        raise DataError(f"{path.name}: lists {some(list(people['image'][people['image'].duplicated()]))} twice")
    missed = table["id"][~table["id"].isin(people["image"])]
    if len(missed):
        raise DataError(f"{path.name}: says nothing about {some(list(missed))}")
    rows = people.set_index("image").loc[table["id"]]
    parsers: dict[str, Callable[[str], str]] = {"patient": str, "sex": parse_sex, "age": parse_age}
    return {name: [parse(text) for text in rows[name]] for name, parse in parsers.items() if name in rows}


def _by_published_name(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with source and patient from such names where unknown, and whose patients such names tell."""
    files = table["path"].str.rsplit("/", n=1).str[-1]
    sources = []
    for source, pattern in PUBLISHED.items():
        named = files.str.match(pattern)
        table = table.assign(source=table["source"].mask(named & (table["source"] == ""), source))
        if named.any() and "patient" in pattern.groupindex:
            patient = files.str.extract(pattern)["patient"]
            table = table.assign(patient=table["patient"].mask(named & (table["patient"] == ""), patient))
            sources.append(source)
    return table, sources
