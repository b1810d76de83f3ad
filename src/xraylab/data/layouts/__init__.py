"""Which files are images, of which class, of whom and on which side, in the shapes in which data sets are published."""

from collections import Counter
from pathlib import Path

import pandas as pd

from xraylab.data.layouts import (
    acse4,
    class_folders,
    covid_radiography,
    covidx,
    kermany,
    nih,
    patients,
    shenzhen,
    table,
    tbx11k,
)
from xraylab.data.layouts.classes import assigned
from xraylab.data.layouts.listing import Listing, last, relative, walk
from xraylab.data.layouts.records import Found as Found
from xraylab.data.layouts.records import Image, Layout, Wanted, wanted
from xraylab.data.names import natural, some
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

THREE_WAYS = (
    "put the images of each class into a folder of its name, or add a table (.csv, .tsv, .xlsx, .parquet) that names "
    "each image and its label, or name the layout"
)


def read(
    raw: Path, name: str, classes: list[str] | None, labels: dict[str, list[str]] | None, patient: str | None
) -> Found:
    """The images below `raw`, read as the layout `name`, or as the first that fits where it is `auto`.

    `classes` None: every label that is there; `labels` None: a class is the label of its name; `patient` is a regular
    expression with the group patient. Errors: MissingError without `raw`, DataError for all that does not fit.
    """
    if name not in ("auto", *LAYOUTS):
        raise DataError(f"there is no layout {name!r}: there is auto, {', '.join(LAYOUTS)}")
    listing, aims = walk(raw), wanted(classes, labels)
    name, why = _detected(listing, aims) if name == "auto" else (name, "named by data.layout")
    entries = LAYOUTS[name].read(listing, aims)
    if entries is None:
        raise DataError(f"data.layout: {name} needs {LAYOUTS[name].needs}; the source has", listing.seen())
    used, unused = assigned(entries.images, aims)
    if not used:
        raise DataError(f"data.layout: {name} finds no image with a label; the source has", listing.seen())
    top = raw / entries.top
    people, told = patients.told(_table(used, entries.top, aims), top, patient, entries.patients)
    left_out = {reason: count for reason, count in (entries.left_out + unused).items() if count}
    return Found(name, why, top, people, told, left_out, sorted(entries.missing, key=natural))


def labels(raw: Path, name: str) -> Counter[str]:
    """How many images each label has, and 0 for folders that might be called after a class; no image is read.

    `name` is a layout, or `auto`. Errors: as for `read`.
    """
    folders = {last(folder) for folder in walk(raw).holding if folder}
    every = Counter(dict.fromkeys(folders, 0))
    for label in read(raw, name, None, None, None).table["label"]:
        every.update(label.split("|"))
    return every


def _detected(listing: Listing, aims: Wanted) -> tuple[str, str]:
    """The first layout that fits, and why."""
    for name, layout in LAYOUTS.items():
        if why := layout.detect(listing, aims):
            return name, why
    classes = [f"data.classes: {some(list(aims.classes), 20)}"] if aims.classes else []
    raise DataError(
        "data.layout: auto recognises nothing in the source; put the images of each class into a folder of its name, "
        "or name the layout:",
        [*listing.seen(), *classes, f"layouts: {', '.join(LAYOUTS)}"],
    )


def _table(images: list[Image], top: str, aims: Wanted) -> pd.DataFrame:
    """One row per image, class after class, each in the natural order of id."""
    order = aims.classes or sorted({image.label for image in images}, key=natural)
    rank = {name: number for number, name in enumerate(order)}
    rows = [(relative(image.path, top), *image) for image in images]
    rows.sort(key=lambda row: (rank[row[2]], natural(row[0])))
    return pd.DataFrame(rows, columns=["id", *Image._fields], dtype=str)
