"""The data's labels and the study's classes: which label makes up which class, and what to say where one is missing."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable

from xraylab import targets
from xraylab.data.layouts.records import Image, LayoutConfig
from xraylab.data.names import natural, some
from xraylab.errors import DataError

UNLABELLED = "unlabelled"
"""The label of images that all lie in one folder, whose name is no class."""
SEVERAL = "images have several findings each: with data.task: multi-label they are what is learnt (docs/multi-label.md)"
LIKELY = 0.5
"""Smallest similarity of two names that are suggested for each other."""


def assign_classes(images: list[Image], cfg: LayoutConfig) -> tuple[list[Image], Counter[str]]:
    """The images of the study's classes, with the class as their label, and how many were left out why.

    Errors: DataError naming every class without an image.
    """
    used, left_out = [], Counter[str]()
    for image in images:
        name, reason = _class_of(image.label, cfg)
        if name:
            used.append(image._replace(label=name))
        else:
            left_out[reason] += 1
    present = {image.label for image in used}
    if absent := [_no_image(name, cfg) for name in cfg.classes or () if name not in present]:
        counts = count_labels(images)
        hints = [SEVERAL] if any(targets.SEPARATOR in image.label for image in images) else []
        reasons = [*absent, *advice(counts, cfg), *hints]
        raise DataError(f"{mismatch(counts, cfg)} Set data.classes or data.labels:", reasons)
    return used, left_out


def count_labels(images: list[Image]) -> Counter[str]:
    """Count the images of each label in the data."""
    return Counter(finding for image in images for finding in image.label.split("|") if finding)


def mismatch(counts: Counter[str], cfg: LayoutConfig) -> str:
    """The study's classes, and the labels of the source that do not fit them."""
    return f"data.classes names {', '.join(cfg.classes or ())}; the source has {describe_counts(counts)}."


def advice(counts: Counter[str], cfg: LayoutConfig) -> list[str]:
    """For each class without an image the labels that are nearest, and data.labels ready to paste."""
    free = [label for label in +counts if label not in cfg.by_label]
    present = {name: [label for label in cfg.labels_of(name) if counts[label]] for name in cfg.classes or ()}
    near = {name: nearest(name, free) for name, labels in present.items() if not labels}
    rest = [label for label in free if label not in {labels[0] for labels in near.values() if labels}]
    if len(rest) == 1 and len([name for name, labels in near.items() if not labels]) == 1:
        near = {name: labels or rest for name, labels in near.items()}  # the one class and the one label that remain
    complete = {name: labels or near[name][:1] or ["LABEL"] for name, labels in present.items()}
    return [*did_you_mean(near), f"or paste below data: in params.yaml: labels: {as_yaml(complete)}"]


def did_you_mean(near: dict[str, list[str]]) -> list[str]:
    """A line for each name that has labels near it."""
    return [f"{name}: did you mean {some(labels)}?" for name, labels in near.items() if labels]


def as_yaml(labels: dict[str, list[str]]) -> str:
    """Class -> labels as data.labels has them, on one line."""
    parts = (f"{quoted(name)}: [{', '.join(map(quoted, spelled))}]" for name, spelled in labels.items())
    return f"{{{', '.join(parts)}}}"


def quoted(name: str) -> str:
    """As YAML has it."""
    return json.dumps(name, ensure_ascii=False)


def _class_of(label: str, cfg: LayoutConfig) -> tuple[str, str]:
    if not label:
        return "", "unlabelled"
    if cfg.classes is None:
        return label, ""
    if "|" not in label:
        return cfg.by_label.get(label, ""), f"label not in data.classes: {label}"
    names = {cfg.by_label[finding] for finding in label.split("|") if finding in cfg.by_label}
    if len(names) > 1:
        return "", "findings of more than one class"
    return "".join(names), "no finding of data.labels"


def _no_image(name: str, cfg: LayoutConfig) -> str:
    labels = cfg.labels_of(name)
    if labels == [name]:
        return f"no image of {name}"
    return f"no image of {name}, which is {', '.join(labels)} in data.labels"


def spelling_key(name: str) -> str:
    """The name without case, space, `_` and `-`: `No Finding` and no_finding are one."""
    return re.sub(r"[\s_-]", "", name.casefold())


def same_spelling(name: str, labels: Iterable[str]) -> list[str]:
    """The label of that very name; else all that differ from it in case, space, `_` and `-` alone."""
    every = sorted(labels, key=natural)
    return [name] if name in every else [label for label in every if spelling_key(label) == spelling_key(name)]


def nearest(name: str, labels: Iterable[str]) -> list[str]:
    """The labels that are the same but for spelling, then those that are alike, the likeliest first; at most three."""
    every = sorted(labels, key=natural)
    alike = {label: difflib.SequenceMatcher(None, spelling_key(name), spelling_key(label)).ratio() for label in every}
    return sorted((label for label in every if alike[label] >= LIKELY), key=lambda label: -alike[label])[:3]


def describe_counts(labels: Counter[str]) -> str:
    """The labels with how many images each has."""
    return some([f"{label} ({labels[label]})" for label in sorted(+labels, key=natural)], 20) or "no labels"
