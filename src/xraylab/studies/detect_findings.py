"""What a folder of X-rays with several findings each holds, as the values of params.yaml that fit it."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xraylab import targets
from xraylab.data.layouts.multi_label import is_no_finding
from xraylab.data.layouts.records import Dataset
from xraylab.data.layouts.tasks import BLANK_IS_NEGATIVE
from xraylab.data.names import some
from xraylab.errors import DataError
from xraylab.params.data import CLASS_NAME
from xraylab.task import MULTI_LABEL

ENOUGH = 10  # images that show a finding, and as many that do not: fewer cannot fill three splits
FEWEST = 3  # of the findings that are studied where fewer than two have enough
MOST = 20  # findings that are studied: the most frequent ones
BY_TASK = {"data.task": MULTI_LABEL, "data.positive": None, "evaluate.negative_class": None, "loss.name": "bce"}
MONITOR = "valid_auroc"  # a rare finding has no F1 at 0.5 for long


class Found(NamedTuple):
    """The findings that a study can have, the data's label of each, and why each other label is left out."""

    labels: dict[str, str]
    left_out: dict[str, str]


def choose(dataset: Dataset) -> Found:
    """The findings with enough images that show them and that do not. Errors: DataError for fewer than two."""
    fewest = {name: _fewest(dataset.table, name) for name in _findings(dataset)}
    absence = [name for name in fewest if is_no_finding(name)]
    left_out = dict.fromkeys(absence, "stands for the absence of all findings")
    usable = [name for name in fewest if name not in absence]
    least = ENOUGH if sum(fewest[name] >= ENOUGH for name in usable) > 1 else FEWEST
    enough = [name for name in usable if fewest[name] >= least]
    if len(enough) < 2:
        counts = some([f"{name} ({fewest[name]})" for name in usable], 20)
        raise DataError(
            f"a study of several findings needs two or more that {FEWEST} images show and {FEWEST} do not, in each "
            f"split that the data give; there is {counts}"
        )
    frequent = set(sorted(enough, key=lambda name: -_count(dataset.table, name, 1))[:MOST])
    few = {name: f"fewer than {least} images show it, or do not" for name in usable if name not in enough}
    left_out |= few | {name: f"{MOST} findings are more frequent" for name in enough if name not in frequent}
    labels: dict[str, str] = {}
    for label in (name for name in enough if name in frequent):
        if labels.setdefault(class_name(label), label) != label:
            left_out[label] = f"it would be called as {labels[class_name(label)]}"
    return Found(labels, left_out)


def class_name(label: str) -> str:
    """The label where it can be a class's name, else without what a name cannot hold."""
    if CLASS_NAME.fullmatch(label):
        return label
    return re.sub(r"[^\w .()-]+", "_", label).strip("_ .-()")[:64] or "class"


def values(dataset: Dataset, found: Found) -> dict[str, Any]:
    """By dotted key, what several findings need."""
    renamed = any(name != label for name, label in found.labels.items())
    splits = set(dataset.table["split"])
    return {
        **BY_TASK,
        "data.classes": list(found.labels),
        "data.labels": {name: [label] for name, label in found.labels.items()} if renamed else None,
        "train.monitor": MONITOR,
        **({"data.blank": "negative"} if dataset.layout in BLANK_IS_NEGATIVE else {}),
        **({"split.strategy": "given"} if {"train", "test"} <= splits and "" not in splits else {}),
    }


def lines(dataset: Dataset, found: Found) -> Iterator[str]:
    """Images of each finding, and what is left out."""
    for name, label in found.labels.items():
        counts = [(_count(dataset.table, label, value), word) for value, word in WORDS]
        renamed = f" ({label})" if name != label else ""
        yield f"    {name}: " + ", ".join(f"{count:,} {word}" for count, word in counts if count) + renamed
    for reason in dict.fromkeys(found.left_out.values()):
        yield f"    not studied ({reason}): {some([name for name, why in found.left_out.items() if why == reason], 20)}"
    if dataset.layout in BLANK_IS_NEGATIVE:
        yield "    empty cells are read as absent, as the CheXpert paper does: data.blank"


WORDS: Sequence[tuple[int | None, str]] = (
    (1, "present"),
    (0, "absent"),
    (targets.UNCERTAIN, "uncertain"),
    (None, "not labelled"),
)


def _findings(dataset: Dataset) -> list[str]:
    return [name.removeprefix(targets.PREFIX) for name in targets.of_table(dataset.table)]


def _count(table: pd.DataFrame, finding: str, value: int | None) -> int:
    label = table[f"{targets.PREFIX}{finding}"]
    return int(label.isna().sum() if value is None else (label == value).sum())


def _fewest(table: pd.DataFrame, finding: str) -> int:
    """The smaller of the numbers of images that show it and that do not; per split, where the data give splits."""
    label = targets.values(table, [finding])[:, 0]
    splits = sorted(set(table["split"]) & {"train", "test"}) if (table["split"] != "").all() else []
    parts = [label[(table["split"] == split).to_numpy()] for split in splits] or [label]
    return min(int(np.sum(part == value)) for part in parts for value in (0, 1))
