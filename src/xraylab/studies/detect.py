"""What a folder of X-rays holds, as the values of params.yaml that fit it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from PIL import Image

from xraylab import targets
from xraylab.data import index, layouts, pixels
from xraylab.data.audit import confounding, multi_label
from xraylab.data.layouts import tasks
from xraylab.data.layouts.labels import UNLABELLED
from xraylab.data.layouts.listing import walk
from xraylab.data.layouts.records import ALL_TABLES, Dataset, TableConfig
from xraylab.data.names import natural, some
from xraylab.errors import DataError
from xraylab.studies import detect_findings
from xraylab.studies.detect_findings import Found, class_name

NORMAL = {"normal", "normals", "healthy", "health", "nofinding", "nofindings", "negative", "neg", "control", "controls"}
NORMAL |= {"none", "no", "false", "clear", "0"}
ABSENT = ("no", "non", "not")
"""NoPneumonia is the absence of Pneumonia."""
ABNORMAL = "Abnormal"
PATIENT_PATTERNS = (
    r"(?i)(?P<patient>(?:patient|pat|subject|subj|sub|person|case|pid)[-_ ]?\d+)(?!\d)",
    r"^(?P<patient>\d{3,})[-_]\d{1,3}\.",
)
"""How file names tell patients, where all of them do and at least two images share one."""
SIZES = (32, 64, 96, 128, 160, 192, 224)
SAMPLE = 40  # images whose size is looked at
UNPACKED = 600  # images of an archive whose contents are looked at; of the others the names
AUDITED = 150  # images of each class that are read whole, for a first look whether the class is told from the files

Values = dict[str, Any]


@dataclass(frozen=True)
class Detected:
    """`values` by dotted key of params.yaml, and the folder in words."""

    values: Values
    lines: list[str]


def folder(source: Path, title: str, tables: TableConfig = ALL_TABLES) -> Detected:
    """Read names and tables of `source`, and the size of some of its images; `tables` are data.table and data.columns.

    `title` is what the lines call it. Errors: DataError where there are no images or fewer than two classes.
    """
    pattern, dataset = with_patients(source, tables, may_be_several=True)
    if targets.of_table(dataset.table):
        return _of_findings(source, title, pattern, dataset)
    labels = dataset.table["label"]
    grouped = classes_of(labels)
    classes, normal = ordered(list(grouped))
    side = short_side(source, dataset.table)
    size = size_for(side)
    values = {
        "study.title": f"{some(classes)} on X-rays",
        "data.classes": classes,
        "data.labels": grouped if any(several != [name] for name, several in grouped.items()) else None,
        "data.positive": classes[-1] if len(classes) == 2 else None,
        "data.patient": pattern,
        "images.size": size,
        "model.img_size": size,
        "evaluate.negative_class": normal,
    }
    lines = [
        *describe(title, dataset, grouped, classes, side),
        *shortcut_lines(sample_images(source, dataset.table, grouped)),
    ]
    return Detected(values, lines)


def _of_findings(source: Path, title: str, pattern: str | None, dataset: Dataset) -> Detected:
    """Several findings per image."""
    found = detect_findings.choose(dataset)
    side = short_side(source, dataset.table)
    size = size_for(side)
    values = {
        "study.title": f"{some(list(found.labels))} on X-rays",
        **detect_findings.values(dataset, found),
        "data.patient": pattern,
        "images.size": size,
        "model.img_size": size,
    }
    readable = _readable(source, dataset.table)
    columns = [f"{targets.PREFIX}{label}" for label in found.labels.values()]
    sample = readable.sample(min(len(readable), 2 * AUDITED), random_state=0).reset_index(drop=True)
    sample = sample.drop(columns=[name for name in targets.of_table(sample) if name not in columns])
    shortcuts = multi_label.find_shortcuts(index.measure(source, sample)[0])
    lines = [*describe_findings(title, dataset, found, side), *_shortcut_lines(shortcuts, len(sample))]
    return Detected(values, lines)


def describe_findings(title: str, dataset: Dataset, found: Found, side: int) -> Iterator[str]:
    """A source with several findings per image, in words."""
    yield f"{title}: {len(dataset.table):,} images with several findings each; layout {dataset.layout} ({dataset.why})"
    yield from detect_findings.lines(dataset, found)
    yield from _facts(dataset, side)


def with_patients(source: Path, tables: TableConfig, may_be_several: bool = False) -> tuple[str | None, Dataset]:
    """The pattern that finds patients in file names, where nothing else tells them, and the images read with it.

    `may_be_several`: images with several findings each are read so.
    """
    dataset = (
        tasks.read(source, tables=tables) if may_be_several else layouts.read(source, "auto", None, None, None, tables)
    )
    if set(dataset.table["label"]) == {UNLABELLED}:
        raise layouts.no_classes(walk(source), tables)
    if dataset.patients == "unknown":
        names = dataset.table["path"].str.rsplit("/", n=1).str[-1]
        for pattern in PATIENT_PATTERNS:
            patients = names.str.extract(pattern)["patient"]
            if patients.notna().all() and patients.nunique() < len(patients):
                if targets.of_table(dataset.table):
                    return pattern, replace(dataset, table=dataset.table.assign(patient=patients), patients="pattern")
                return pattern, layouts.read(source, "auto", None, None, pattern, tables)
    return None, dataset


def size_for(side: int) -> int:
    """The largest of SIZES that images whose shorter side is `side` fill."""
    return max(each for each in SIZES if each <= max(side, SIZES[0]))


def classes_of(labels: pd.Series, fewest: int = 2) -> dict[str, list[str]]:
    """Class -> the labels that make it up. Images with several findings each make two classes: normal, and not."""
    every = sorted(set(labels), key=natural)
    if any("|" in label for label in every):
        findings = sorted({finding for label in every for finding in label.split("|")}, key=natural)
        free = [finding for finding in findings if _key(finding) in NORMAL]
        if not free:
            raise DataError(
                "images have several findings each, and none is called normal: "
                "set data.classes and data.labels in params.yaml to say which findings make which class",
                findings[:20],
            )
        return {"Normal": free, ABNORMAL: [finding for finding in findings if finding not in free]}
    if len(every) < fewest:
        raise DataError(f"one class alone, {every[0]} ({len(labels)} images): a study compares two or more")
    grouped: dict[str, list[str]] = {}
    for label in every:
        grouped.setdefault(class_name(label), []).append(label)
    return grouped


def ordered(names: list[str]) -> tuple[list[str], str | None]:
    """Normal first, so that the last of two is what is looked for; and which one is normal, None where none is."""
    keys = {_key(name) for name in names}
    normal = [name for name in names if _is_normal(_key(name), keys)]
    if len(normal) != 1:
        return names, None
    return [*normal, *(name for name in names if name not in normal)], normal[0]


def _is_normal(key: str, keys: set[str]) -> bool:
    absent = any(key == f"{prefix}{other}" for prefix in ABSENT for other in keys)
    return key in NORMAL or absent or (key.endswith("negative") and key.replace("negative", "positive") in keys)


def _key(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def short_side(source: Path, table: pd.DataFrame) -> int:
    """The median of the shorter sides of some images."""
    paths = [source / name for name in table["path"].iloc[:: max(1, len(table) // SAMPLE)]]
    sides = [side for path in paths if (side := _side(path))]
    if not sides:
        raise DataError(f"{source}: none of {len(paths)} images that were tried can be read, such as {paths[0].name}")
    return int(median(sides))


def _side(path: Path) -> int:
    """The shorter side in pixels, 0 where the file cannot be read."""
    try:
        with Image.open(path, formats=pixels.FORMATS) as image:
            return min(image.size)
    except OSError:
        pass  # DICOM, or damaged
    try:
        return int(min(pixels.decode(path).levels.shape))
    except DataError:
        return 0


def describe(
    title: str, dataset: Dataset, grouped: dict[str, list[str]], classes: list[str], side: int
) -> Iterator[str]:
    table = dataset.table
    yield f"{title}: {len(table):,} images; layout {dataset.layout} ({dataset.why})"
    for name in classes:
        holds = _holds(table, grouped[name])
        others = f" ({some(grouped[name])})" if grouped[name] != [name] else ""
        yield f"    {name}: {int(holds.sum()):,} images{others}"
    yield from _facts(dataset, side)


def _facts(dataset: Dataset, side: int) -> Iterator[str]:
    """Patients, sizes, tables and what is left out."""
    table = dataset.table
    n_patients = table["patient"][table["patient"] != ""].nunique()
    yield (
        f"    patients: {n_patients:,}, told by {dataset.patients}"
        if n_patients
        else ("    patients: unknown, so each image counts as one; data.patient or a table of patients would tell them")
    )
    yield f"    size: the shorter side has {side} pixels in the median"
    yield from (f"    table {line}" for line in dataset.tables)
    yield from (f"    left out: {count} ({reason})" for reason, count in dataset.left_out.items())


def sample_images(source: Path, table: pd.DataFrame, grouped: dict[str, list[str]]) -> pd.DataFrame:
    """Some images of each class with what their files hold; of an archive, those whose contents are there."""
    readable = _readable(source, table)
    parts = [
        of_class.sample(min(len(of_class), AUDITED), random_state=0).assign(label=name)
        for name, several in grouped.items()
        if len(of_class := readable[_holds(readable, several)])
    ]
    return index.measure(source, pd.concat(parts).drop_duplicates("path").reset_index(drop=True))[0]


def _readable(source: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The images whose contents are there: of an archive only some were unpacked."""
    return table[[(source / path).stat().st_size > 0 for path in table["path"]]]


def shortcut_lines(images: pd.DataFrame) -> Iterator[str]:
    """What the audit of these images warns of, before anything is trained."""
    yield from _shortcut_lines(confounding.find_shortcuts(images), len(images))


def _shortcut_lines(shortcuts: confounding.Shortcuts, n_images: int) -> Iterator[str]:
    if shortcuts.warning:
        yield f"warning: metrics of these images may not hold at other hospitals (from {n_images} of them)."
        yield f"    {shortcuts.warning} {shortcuts.remedy}"


def _holds(table: pd.DataFrame, several: list[str]) -> pd.Series:
    """Which images have one of these labels."""
    return table["label"].map(lambda label: bool(set(label.split("|")) & set(several)))
