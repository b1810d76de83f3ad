"""Several findings per image: the labels of the data as the findings of a study."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xraylab import targets
from xraylab.data.layouts.labels import advice, mismatch, spelling_key
from xraylab.data.layouts.records import Image, LayoutConfig, Marks
from xraylab.data.names import natural
from xraylab.errors import DataError
from xraylab.targets import UNCERTAIN, Values

CELLS = {
    "1": 1, "1.0": 1, "yes": 1, "true": 1, "positive": 1,
    "0": 0, "0.0": 0, "no": 0, "false": 0, "negative": 0,
    "-1": UNCERTAIN, "-1.0": UNCERTAIN, "uncertain": UNCERTAIN,
}  # fmt: skip
"""A cell of a finding's column, in lower case -> its mark."""
EMPTY = ("", "nan", "na", "n/a")
NO_FINDING = {"nofinding", "nofindings", "normal", "healthy"}
NO_PATHOLOGY = {"supportdevices"}
"""A label of CheXpert and MIMIC-CXR that may stand beside No Finding."""


class Labelled(NamedTuple):
    """The images that have a label of a finding, with those that are there joined as `label`."""

    images: list[Image]
    findings: list[str]
    values: Values  # (images, findings)
    left_out: Counter[str]
    not_studied: dict[str, int]  # label that no finding names -> its images
    contradicting: list[str]  # paths of images labelled No Finding that have a finding


def assign_findings(images: list[Image], cfg: LayoutConfig) -> Labelled:
    """The images with their labels as the study's findings, which are all labels of the data without data.classes.

    Errors: DataError naming every finding that no image has.
    """
    counts = count_labels(images)
    findings = list(cfg.classes or sorted(counts, key=natural))
    labels_of = [cfg.labels_of(name) or [name] for name in findings]
    rows = [_row(image, labels_of) for image in images]
    values = np.array(rows, float).reshape(len(images), len(findings))
    labelled = ~np.isnan(values).all(axis=1)
    _refuse_absent(findings, counts, cfg)
    used = [
        image._replace(label=targets.joined(row, findings), marks=None)
        for image, row, has_label in zip(images, values, labelled, strict=True)
        if has_label
    ]
    reasons = Counter(
        "none of data.classes is labelled" if image.label or image.marks else "unlabelled"
        for image, has_label in zip(images, labelled, strict=True)
        if not has_label
    )
    named = {label for labels in labels_of for label in labels}
    not_studied = {label: counts[label] for label in sorted(+counts, key=natural) if label not in named}
    contradicting = [image.path for image in images if _contradicts_itself(image)]
    return Labelled(used, findings, values[labelled], reasons, not_studied, contradicting)


def is_no_finding(label: str) -> bool:
    """Return whether a label stands for the absence of all findings."""
    return spelling_key(label) in NO_FINDING


def _contradicts_itself(image: Image) -> bool:
    """Return whether the image has a finding, and is labelled as one that has none."""
    present = parts(image.label if image.marks is None else positive(image.marks))
    findings = {label for label in present if spelling_key(label) not in NO_FINDING | NO_PATHOLOGY}
    return bool(findings) and any(map(is_no_finding, present))


def count_labels(images: Iterable[Image]) -> Counter[str]:
    """Count the images that have each label of the data, with 0 for one that all images lack."""
    counts = Counter[str]()
    for image in images:
        if image.marks is None:
            counts.update(parts(image.label))
        else:
            counts.update({label: int(mark == 1) for label, mark in image.marks.items()})
    return counts


def parts(label: str) -> set[str]:
    """The findings of a joined label."""
    return {part.strip() for part in label.split(targets.SEPARATOR)} - {""}


def _row(image: Image, labels_of: Sequence[Sequence[str]]) -> list[float]:
    """The image's labels of each finding; of a joined label, what is not there is absent."""
    if image.marks is not None:
        return [_combined([image.marks.get(label) for label in labels]) for labels in labels_of]
    present = parts(image.label)
    return [float(not present.isdisjoint(labels)) if present else np.nan for labels in labels_of]


def _combined(marks: list[int | None]) -> float:
    """Of several labels that make up one finding: there if one is, absent if all are."""
    for mark in (1, UNCERTAIN, None):
        if mark in marks:
            return np.nan if mark is None else mark
    return 0.0


def _refuse_absent(findings: list[str], counts: Counter[str], cfg: LayoutConfig) -> None:
    absent = [name for name in findings if not any(label in counts for label in cfg.labels_of(name))]
    if cfg.classes is None or not absent:
        return
    lines = [f"no image has {name}{_spelled(name, cfg)}" for name in absent]
    raise DataError(f"{mismatch(counts, cfg)} Set data.classes or data.labels:", [*lines, *advice(counts, cfg)])


def _spelled(name: str, cfg: LayoutConfig) -> str:
    labels = cfg.labels_of(name)
    return "" if labels == [name] else f", which is {', '.join(labels)} in data.labels"


def read_marks(cells: dict[str, str], where: str, blank: str) -> Marks:
    """Label -> mark, of the cells of a row; `blank` is data.blank. Errors: DataError for a cell that is none."""
    marks: Marks = {}
    for label, cell in cells.items():
        text = cell.lower()
        if text in EMPTY:
            marks |= {label: 0} if blank == "negative" else {}
            continue
        if text not in CELLS:
            raise DataError(f"{where}: {label} is {cell!r}, not 1, 0, -1 (uncertain) or empty (not labelled)")
        marks[label] = CELLS[text]
    return marks


def positive(marks: Marks) -> str:
    """The labels that are there, joined."""
    return targets.SEPARATOR.join(label for label, mark in marks.items() if mark == 1)


def are_marks(cells: Iterable[str]) -> bool:
    """Return whether all cells of a column, and at least one, can be read as labels of a finding."""
    texts = {cell.lower() for cell in cells} - set(EMPTY)
    return bool(texts) and texts <= set(CELLS)
