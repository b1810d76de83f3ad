"""One class per image, or several findings: read a folder as whichever its labels are."""

from pathlib import Path

from xraylab.data import layouts
from xraylab.data.layouts.labels import UNLABELLED
from xraylab.data.layouts.records import ALL_TABLES, Dataset, LabelRules, TableConfig
from xraylab.errors import DataError
from xraylab.registry import findings as registry
from xraylab.targets import PREFIX, SEPARATOR, of_table
from xraylab.task import MULTI_LABEL

PUBLISHED = ("chexpert", "mimic-cxr", "vindr", "padchest")
"""Layouts of data sets of several findings per image."""
BLANK_IS_NEGATIVE = ("chexpert", "mimic-cxr")  # as the CheXpert paper reads them


def read(source: Path, layout: str = "auto", patient: str | None = None, tables: TableConfig = ALL_TABLES) -> Dataset:
    """All images of a folder, with a class each, or with their findings; the arguments are those of `layouts.read`.

    Tables of findings count where nothing else labels the images, and where they are findings of public data sets.
    Errors: DataError, also where only tables of findings could label the images, and these are broken.
    """
    try:
        single = layouts.read(source, layout, None, None, patient, tables)
    except DataError:
        if several := _if_table(source, layout, patient, tables):
            return several
        raise
    labels = single.table["label"]
    if single.layout in PUBLISHED or labels.str.contains(SEPARATOR, regex=False).any():
        return _several(source, layout, patient, tables)
    if single.layout != "class-folders":
        return single
    several = _if_table(source, layout, patient, tables)
    unlabelled = set(labels) == {UNLABELLED}
    return several if several and (unlabelled or _n_known(several) > 1) else single


def _several(source: Path, layout: str, patient: str | None, tables: TableConfig) -> Dataset:
    dataset = layouts.read(source, layout, None, None, patient, tables, MULTI_LABEL)
    if dataset.layout not in BLANK_IS_NEGATIVE:
        return dataset
    rules = LabelRules(blank="negative")
    return layouts.read(source, dataset.layout, None, None, patient, tables, MULTI_LABEL, rules)


def _if_table(source: Path, layout: str, patient: str | None, tables: TableConfig) -> Dataset | None:
    """The images with their findings where tables tell of two or more."""
    dataset = _several(source, layout, patient, tables)
    return dataset if dataset.layout != "class-folders" and len(of_table(dataset.table)) > 1 else None


def _n_known(dataset: Dataset) -> int:
    """The number of findings that public data sets have too."""
    findings = (name.removeprefix(PREFIX) for name in of_table(dataset.table))
    return sum(registry.canonical(name) in registry.names() for name in findings)
