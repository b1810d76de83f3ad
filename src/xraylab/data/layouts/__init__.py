"""Which files are images, of which class, of whom and on which side, in the shapes in which data sets are published."""

from collections import Counter
from pathlib import Path

import pandas as pd

from xraylab.data.layouts import (
    acse4,
    annotations,
    class_folders,
    covid_radiography,
    covidx,
    joining,
    kermany,
    nih,
    patients,
    shenzhen,
    table,
    tbx11k,
)
from xraylab.data.layouts.class_folders import UNLABELLED
from xraylab.data.layouts.classes import advice, assigned, headline
from xraylab.data.layouts.listing import Listing, last, relative, walk
from xraylab.data.layouts.records import ANY_TABLES, Image, Layout, Wanted, wanted
from xraylab.data.layouts.records import Found as Found
from xraylab.data.layouts.records import Tables as Tables
from xraylab.data.names import natural
from xraylab.errors import DataError

LAYOUTS: dict[str, Layout] = {  # in the order in which they are tried
    "tbx11k": tbx11k.LAYOUT,
    "covid-radiography": covid_radiography.LAYOUT,
    "covidx": covidx.LAYOUT,
    "kermany": kermany.LAYOUT,
    "acse4": acse4.LAYOUT,
    "nih": nih.LAYOUT,
    "shenzhen": shenzhen.LAYOUT,
    "table": table.LAYOUT,
    "class-folders": class_folders.LAYOUT,
}

OWN_TABLES = ("tbx11k", "covid-radiography", "covidx", "nih")
"""Layouts that read the tables of their data sets themselves."""
THREE_WAYS = (
    "put the images of each class into a folder of its name; or lay a table (.csv, .tsv, .xlsx, .parquet) beside them "
    "that names each image and its label (data.table and data.columns say which, where it is not seen); "
    f"or name the data set's own layout in data.layout ({', '.join(LAYOUTS)})"
)


def read(
    raw: Path,
    name: str,
    classes: list[str] | None,
    labels: dict[str, list[str]] | None,
    patient: str | None,
    tables: Tables = ANY_TABLES,
) -> Found:
    """The images below `raw`, read as the layout `name`, or as the first that fits where it is `auto`.

    `classes` None: every label that is there; `labels` None: a class is the label of its name; `patient` is a regular
    expression with the group patient; `tables` are data.table and data.columns.
    Errors: MissingError without `raw`, DataError for all that does not fit.
    """
    if name not in ("auto", *LAYOUTS):
        raise DataError(f"there is no layout {name!r}: there is auto, {', '.join(LAYOUTS)}")
    listing, aims = walk(raw), wanted(classes, labels, tables)
    name, why = _detected(listing, aims) if name == "auto" else (name, "named by data.layout")
    entries = LAYOUTS[name].read(listing, aims)
    if entries is None:
        raise DataError(f"data.layout: {name} needs {LAYOUTS[name].needs}; the source has", listing.seen())
    own_tables = name in OWN_TABLES and tables == ANY_TABLES
    entries, lines = (entries, []) if own_tables else joining.joined(entries, listing, aims, list(entries.tables))
    used, unused = assigned(entries.images, aims)
    if not used:
        raise DataError(f"data.layout: {name} finds no image with a label; the source has", listing.seen())
    top = raw / entries.top
    people, told = patients.told(_table(used, entries.top, aims), top, patient, entries.patients)
    left_out = {reason: count for reason, count in (entries.left_out + unused).items() if count}
    if aims.classes is None and {image.label for image in used} == {UNLABELLED}:
        lines += [*annotations.unlabelled(listing, aims), f"no classes found: {THREE_WAYS}"]
    return Found(name, why, top, people, told, left_out, sorted(entries.missing, key=natural), lines)


def labels(raw: Path, name: str, tables: Tables = ANY_TABLES) -> Counter[str]:
    """How many images each label has, and 0 for folders that might be called after a class; no image is read.

    `name` is a layout, or `auto`. Errors: as for `read`.
    """
    folders = {last(folder) for folder in walk(raw).holding if folder}
    every = Counter(dict.fromkeys(folders, 0))
    for label in read(raw, name, None, None, None, tables).table["label"]:
        every.update(label.split("|"))
    return every


def no_classes(listing: Listing, aims: Wanted) -> DataError:
    """The refusal of a source without labels, with what its tables lack."""
    return DataError(f"no classes found: {THREE_WAYS}:", [*listing.seen(), *annotations.unlabelled(listing, aims)])


def _detected(listing: Listing, aims: Wanted) -> tuple[str, str]:
    """The first layout that fits, and why."""
    for name, layout in LAYOUTS.items():
        if why := layout.detect(listing, aims):
            return name, why
    if not listing.images:
        raise DataError("no images found in the source:", listing.seen())
    counts = labels(listing.raw, "auto", aims.tables)
    if set(+counts) <= {UNLABELLED}:
        raise no_classes(listing, aims)
    raise DataError(f"{headline(counts, aims)} Set data.classes or data.labels:", advice(counts, aims))


def _table(images: list[Image], top: str, aims: Wanted) -> pd.DataFrame:
    """One row per image, class after class, each in the natural order of id."""
    order = aims.classes or sorted({image.label for image in images}, key=natural)
    rank = {name: number for number, name in enumerate(order)}
    rows = [(relative(image.path, top), *image) for image in images]
    rows.sort(key=lambda row: (rank[row[2]], natural(row[0])))
    return pd.DataFrame(rows, columns=["id", *Image._fields], dtype=str)
