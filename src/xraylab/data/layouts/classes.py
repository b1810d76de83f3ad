"""From the data's labels to the study's classes."""

from collections import Counter

from xraylab.data.layouts.records import Image, Wanted
from xraylab.data.names import natural, some
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
        raise DataError(f"{headline(images, wanted)} Set data.classes or data.labels:", absent)
    return used, left_out


def headline(images: list[Image], wanted: Wanted) -> str:
    """Which classes are wanted, and which labels are there."""
    counts = Counter(finding for image in images for finding in image.label.split("|") if finding)
    have = some([f"{label} ({counts[label]})" for label in sorted(counts, key=natural)], 20) or "no labels"
    return f"data.classes names {', '.join(wanted.classes or ())}; the source has {have}."


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
