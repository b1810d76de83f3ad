"""From the data's labels to the study's classes."""

import json
from collections import Counter

from xraylab.data.layouts import matching
from xraylab.data.layouts.records import Image, Wanted
from xraylab.data.names import some
from xraylab.errors import DataError


def assigned(images: list[Image], wanted: Wanted) -> tuple[list[Image], Counter[str]]:
    """The images of the wanted classes, with the class as their label, and how many were left out why.

    Errors: DataError naming every class without an image.
    """
    used, left_out = [], Counter[str]()
    for image in images:
        name, reason = _class_of(image.label, wanted)
        if name:
            used.append(image._replace(label=name))
        else:
            left_out[reason] += 1
    have = {image.label for image in used}
    absent = [_nothing(name, wanted) for name in wanted.classes or () if name not in have]
    if absent:
        counts = counts_of(images)
        remedies = advice(counts, wanted)
        raise DataError(f"{headline(counts, wanted)} Set data.classes or data.labels:", [*absent, *remedies])
    return used, left_out


def counts_of(images: list[Image]) -> Counter[str]:
    """How many images each of the data's labels has."""
    return Counter(finding for image in images for finding in image.label.split("|") if finding)


def headline(counts: Counter[str], wanted: Wanted) -> str:
    """Which classes are wanted, and which labels are there."""
    return f"data.classes names {', '.join(wanted.classes or ())}; the source has {matching.counted(counts)}."


def advice(counts: Counter[str], wanted: Wanted) -> list[str]:
    """For each class without an image the labels that are nearest, and data.labels ready to paste."""
    free = [label for label in +counts if label not in wanted.by_label]
    own = {name: [each for each in wanted.labels_of(name) if counts[each]] for name in wanted.classes or ()}
    near = {name: matching.nearest(name, free) for name, labels in own.items() if not labels}
    left = [label for label in free if label not in {several[0] for several in near.values() if several}]
    if len(left) == 1 and len([name for name, several in near.items() if not several]) == 1:
        near = {name: several or left for name, several in near.items()}  # the one class and the one label that remain
    labels = {name: several or near[name][:1] or ["LABEL"] for name, several in own.items()}
    shown = ", ".join(f"{quoted(name)}: [{', '.join(map(quoted, several))}]" for name, several in labels.items())
    lines = [f"{name}: did you mean {some(several)}?" for name, several in near.items() if several]
    return [*lines, f"or paste below data: in params.yaml: labels: {{{shown}}}"]


def quoted(name: str) -> str:
    """As YAML has it."""
    return json.dumps(name, ensure_ascii=False)


def _class_of(label: str, wanted: Wanted) -> tuple[str, str]:
    if not label:
        return "", "unlabelled"
    if wanted.classes is None:
        return label, ""
    if "|" not in label:
        return wanted.by_label.get(label, ""), f"label not in data.classes: {label}"
    names = {wanted.by_label[finding] for finding in label.split("|") if finding in wanted.by_label}
    if len(names) > 1:
        return "", "findings of more than one class"
    return "".join(names), "no finding of data.labels"


def _nothing(name: str, wanted: Wanted) -> str:
    labels = wanted.labels_of(name)
    if labels == [name]:
        return f"no image of {name}"
    return f"no image of {name}, which is {', '.join(labels)} in data.labels"
