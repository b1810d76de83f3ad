"""Layouts of published data sets: which files are images, of which class, of whom and in which split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import plugins, targets
from xraylab.data.layouts import (
    annotations,
    chexpert,
    covid,
    folders,
    label_tables,
    multi_label,
    padchest,
    patients,
    tuberculosis,
    vindr,
)
from xraylab.data.layouts.labels import UNLABELLED, advice, assign_classes, mismatch
from xraylab.data.layouts.listing import Listing, last, relative, walk
from xraylab.data.layouts.records import ALL_TABLES, AS_WRITTEN, TEXT_FIELDS, Entries, Image, Layout, LayoutConfig
from xraylab.data.layouts.records import Dataset as Dataset
from xraylab.data.layouts.records import LabelRules as LabelRules
from xraylab.data.layouts.records import TableConfig as TableConfig
from xraylab.data.names import natural, some
from xraylab.errors import DataError
from xraylab.task import SINGLE_LABEL

LAYOUTS: dict[str, Layout] = {
    "tbx11k": tuberculosis.TBX11K,
    "covid-radiography": covid.COVID_RADIOGRAPHY,
    "covidx": covid.COVIDX,
    "kermany": folders.KERMANY,
    "acse4": folders.ACSE4,
    "nih": label_tables.NIH,
    "chexpert": chexpert.CHEXPERT,
    "mimic-cxr": chexpert.MIMIC_CXR,
    "vindr": vindr.VINDR,
    "padchest": padchest.PADCHEST,
    "shenzhen": tuberculosis.SHENZHEN,
    "table": label_tables.TABLE,
    "class-folders": folders.CLASS_FOLDERS,
}
"""In the order in which they are tried. To add one: a `Layout` in the file of its family (or in one of its own), its
entry here, its name in params/names.py; its test goes into tests/data/test_layouts.py."""


def layouts() -> dict[str, Layout]:
    """The layouts of plugins and of this package, in the order of detection."""
    return plugins.everything("layout", LAYOUTS)


HOW_TO_LABEL = (
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
    tables: TableConfig = ALL_TABLES,
    task: str = SINGLE_LABEL,
    rules: LabelRules = AS_WRITTEN,
) -> Dataset:
    """The images below `raw`, read as the layout `name`, or as the first that fits where it is `auto`.

    `classes` None: every label that is there; `labels` None: a class is the label of its name; `patient` is a regular
    expression with the group patient; `tables` are data.table and data.columns; `task` is data.task, and `rules`
    are data.blank, data.readers and data.views.
    Errors: MissingError without `raw`, DataError for all that does not fit.
    """
    if name not in ("auto", *layouts()):
        raise DataError(f"there is no layout {name!r}: there is auto, {', '.join(layouts())}")
    listing, cfg = walk(raw), LayoutConfig.of(classes, labels, tables, task, rules)
    name, why = _detect(listing, cfg) if name == "auto" else (name, "named by data.layout")
    layout = layouts()[name]
    entries, lines = layout.read(listing, cfg), list[str]()
    if entries is None:
        raise DataError(f"data.layout: {name} needs {layout.needs}; the source has", listing.summary())
    if not layout.own_tables or tables != ALL_TABLES:
        entries, lines = annotations.join_tables(entries, listing, cfg)
    entries = _of_views(entries, rules.views)
    images, labelled = _labelled(entries, cfg)
    if images.empty:
        raise DataError(f"data.layout: {name} finds no image with a label; the source has", listing.summary())
    top = raw / entries.top
    table, patients_from = patients.identify(images, top, patient, entries.patients)
    if cfg.classes is None and set(images["label"]) == {UNLABELLED}:
        lines += [*annotations.why_unlabelled(listing, tables), f"no classes found: {HOW_TO_LABEL}"]
    dataset = Dataset(name, why, top, table, patients_from, {}, sorted(entries.missing, key=natural), lines)
    return replace(dataset, left_out=dict(+(entries.left_out + labelled.pop("left_out"))), **labelled)


def count_labels(raw: Path, dataset: Dataset) -> Counter[str]:
    """Count the images of each label, with 0 for folders of images that may be named after a class."""
    counts = Counter(dict.fromkeys((last(folder) for folder in walk(raw).holding if folder), 0))
    if targets.of_table(dataset.table):
        counts.clear()
    counts.update(count_table(dataset.table))
    return counts


def count_table(table: pd.DataFrame) -> Counter[str]:
    """Count the images of each label of a data set's table, with 0 for findings that none has."""
    if columns := targets.of_table(table):
        return Counter({name.removeprefix(targets.PREFIX): int((table[name] == 1).sum()) for name in columns})
    return Counter(part for label in table["label"] for part in label.split("|"))


def no_classes(listing: Listing, tables: TableConfig) -> DataError:
    """The refusal of a source without labels, with what its tables lack."""
    reasons = annotations.why_unlabelled(listing, tables)
    return DataError(f"no classes found: {HOW_TO_LABEL}:", [*listing.summary(), *reasons])


def _detect(listing: Listing, cfg: LayoutConfig) -> tuple[str, str]:
    """The first layout that fits, and why."""
    for name, layout in layouts().items():
        if why := layout.detect(listing, cfg):
            return name, why
    if not listing.images:
        raise DataError("no images found in the source:", listing.summary())
    counts = count_labels(listing.raw, read(listing.raw, "auto", None, None, None, cfg.tables))
    if set(+counts) <= {UNLABELLED}:
        raise no_classes(listing, cfg.tables)
    raise DataError(f"{mismatch(counts, cfg)} Set data.classes or data.labels:", advice(counts, cfg))


def _of_views(entries: Entries, views: tuple[str, ...] | None) -> Entries:
    """The images of these views; the others are counted. Errors: DataError where none is left."""
    if views is None:
        return entries
    images = [image for image in entries.images if image.view in views]
    other = Counter(f"view {image.view or 'unknown'}" for image in entries.images if image.view not in views)
    if not images:
        counts = some([f"{reason} ({count})" for reason, count in other.items()], 20)
        raise DataError(f"data.views: no image has the view {' or '.join(views)}; the source has {counts}")
    return replace(entries, images=images, left_out=entries.left_out + other)


def _labelled(entries: Entries, cfg: LayoutConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of the images that the study uses, and what a Dataset says of the others and of their labels."""
    if not cfg.is_multi:
        used, left_out = assign_classes(entries.images, cfg)
        return _table(used, entries.top, cfg), {"left_out": left_out}
    labelled = multi_label.assign_findings(entries.images, cfg)
    table = _frame(labelled.images, entries.top)
    columns = targets.to_columns(labelled.values, labelled.findings).drop(columns="label")
    order = sorted(range(len(table)), key=lambda row: natural(table["id"][row]))
    table = pd.concat([table, columns], axis=1).iloc[order].reset_index(drop=True)
    names = ("left_out", "not_studied", "contradicting")
    return table, {name: getattr(labelled, name) for name in names}


def _table(images: list[Image], top: str, cfg: LayoutConfig) -> pd.DataFrame:
    """One row per image, class after class, each in the natural order of id."""
    order = cfg.classes or sorted({image.label for image in images}, key=natural)
    rank = {name: number for number, name in enumerate(order)}
    return _frame(sorted(images, key=lambda image: (rank[image.label], natural(relative(image.path, top)))), top)


def _frame(images: list[Image], top: str) -> pd.DataFrame:
    """A row per image, in their order."""
    rows = [(relative(image.path, top), *image[: len(TEXT_FIELDS)]) for image in images]
    return pd.DataFrame(rows, columns=["id", *TEXT_FIELDS], dtype=str)
