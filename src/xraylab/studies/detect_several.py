"""What several folders of X-rays hold together, as the values of params.yaml that fit them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from xraylab import targets
from xraylab.data.layouts import tasks
from xraylab.data.layouts.labels import spelling_key
from xraylab.data.layouts.records import ALL_TABLES, Dataset
from xraylab.data.names import some
from xraylab.errors import speaking_of
from xraylab.registry import findings as registry
from xraylab.studies import detect, detect_findings
from xraylab.studies.detect import ABNORMAL, Detected, Values

Labels = dict[str, list[str]]
WithPattern = tuple[str | None, Dataset]
"""The pattern that finds patients in file names, and the images."""


@dataclass(frozen=True)
class Part:
    """One source: its images, their classes as its labels spell them, the normal one, and the pattern of patients."""

    dataset: Dataset
    classes: Labels
    normal: str | None
    pattern: str | None
    side: int  # the shorter side of its images, in the median
    sample: pd.DataFrame  # some images of each class, with what their files hold


def folders(folder_of: Mapping[str, Path], addresses: Mapping[str, str]) -> Detected:
    """Read names and tables of each source, and the size of some of its images; `addresses` is what data.source has.

    Sources without a folder yet, which are still to be fetched, are listed without labels.
    Classes of one spelling are one class, and so are the normal ones. Where no two sources have the same classes, but
    all have a normal one, what is not normal becomes one class: else a class would tell its source. Where the images of
    all sources have several findings each, the study has these, under whatever synonym a source knows them.
    """
    if several := _with_findings(folder_of, addresses):
        return _of_findings(several, folder_of, addresses)
    parts = {}
    for name, folder in folder_of.items():
        with speaking_of(addresses[name]):
            parts[name] = _part(folder)
    labels = _merge_classes(parts)
    every = list(dict.fromkeys(label for classes in labels.values() for label in classes))
    whole = sum(set(classes) == set(every) for classes in labels.values())
    apart = whole < 2 and all(part.normal for part in parts.values())
    if apart:
        labels = {name: _two(classes, parts[name]) for name, classes in labels.items()}
        every = list(dict.fromkeys(label for classes in labels.values() for label in classes))
    classes, normal = detect.ordered(every)
    size = min(detect.size_for(part.side) for part in parts.values())
    values: Values = {
        "study.title": f"{some(classes)} on X-rays of {len(addresses)} sources",
        "data.source": [
            _entry(name, address, labels[name], classes, parts[name])
            if name in parts
            else {"name": name, "path": address}
            for name, address in addresses.items()
        ],
        "data.classes": classes,
        "data.labels": None,
        "data.positive": classes[-1] if len(classes) == 2 else None,
        "data.patient": None,
        "images.size": size,
        "model.img_size": size,
        "evaluate.negative_class": normal,
    }
    return Detected(
        values,
        [*_describe(parts, labels, classes, addresses, apart), *detect.shortcut_lines(_join_samples(parts, labels))],
    )


def _with_findings(folder_of: Mapping[str, Path], addresses: Mapping[str, str]) -> dict[str, WithPattern]:
    """Each source with its findings; none where one of them has a class per image."""
    several = {}
    for name, folder in folder_of.items():
        with speaking_of(addresses[name]):
            several[name] = detect.with_patients(folder, ALL_TABLES, may_be_several=True)
        if not targets.of_table(several[name][1].table):
            return {}
    return several


def _of_findings(
    several: Mapping[str, WithPattern], folder_of: Mapping[str, Path], addresses: Mapping[str, str]
) -> Detected:
    found = {}
    for name, (_, dataset) in several.items():
        with speaking_of(addresses[name]):
            found[name] = detect_findings.choose(dataset)
    called: dict[str, str] = {}  # a finding is called as the first source that has it calls it
    labels: dict[str, Labels] = {name: {} for name in found}
    for name, each in found.items():
        for finding, label in each.labels.items():
            labels[name].setdefault(called.setdefault(registry.canonical(finding), finding), []).append(label)
    sides = [detect.short_side(folder_of[name], dataset.table) for name, (_, dataset) in several.items()]
    size = min(map(detect.size_for, sides))
    classes = list(called.values())
    entries = {name: _entry_of_findings(name, addresses[name], labels[name], *several[name]) for name in found}
    values: Values = {
        "study.title": f"{some(classes)} on X-rays of {len(addresses)} sources",
        **detect_findings.BY_TASK,
        "data.source": [entries.get(name, {"name": name, "path": path}) for name, path in addresses.items()],
        "data.classes": classes,
        "data.labels": None,
        "data.patient": None,
        "images.size": size,
        "model.img_size": size,
        "train.monitor": detect_findings.MONITOR,
    }
    lines = list[str]()
    for (name, (_, dataset)), side in zip(several.items(), sides, strict=True):
        lines += detect.describe_findings(addresses[name], dataset, found[name], side)
        if lacks := [each for each in classes if each not in labels[name]]:
            lines.append(f"    no {some(lacks)}: not labelled there")
    return Detected(values, lines)


def _entry_of_findings(name: str, path: str, labels: Labels, pattern: str | None, dataset: Dataset) -> Values:
    """As data.source lists it."""
    blank = {"blank": "negative"} if dataset.layout in tasks.BLANK_IS_NEGATIVE else {}
    return {"name": name, "path": path, "labels": labels, **blank, **({"patient": pattern} if pattern else {})}


def _part(folder: Path) -> Part:
    pattern, dataset = detect.with_patients(folder, ALL_TABLES)
    classes = detect.classes_of(dataset.table["label"], fewest=1)
    side, sample = detect.short_side(folder, dataset.table), detect.sample_images(folder, dataset.table, classes)
    return Part(dataset, classes, detect.ordered(list(classes))[1], pattern, side, sample)


def _join_samples(parts: Mapping[str, Part], classes_of: Mapping[str, Labels]) -> pd.DataFrame:
    """The samples of all sources, of the classes that they have in common."""
    tables = []
    for name, part in parts.items():
        class_of = {label: each for each, labels in classes_of[name].items() for label in labels}
        by_class = {each: class_of[labels[0]] for each, labels in part.classes.items()}
        sample = part.sample
        tables.append(sample.assign(source=name, label=sample["label"].map(by_class), id=f"{name}/" + sample["id"]))
    return pd.concat(tables, ignore_index=True)


def _merge_classes(parts: Mapping[str, Part]) -> dict[str, Labels]:
    """Source -> class -> its labels; a class is called as the first source that has it calls it."""
    called: dict[str, str] = {}
    merged: dict[str, Labels] = {}
    for name, part in parts.items():
        merged[name] = {}
        for label, labels in part.classes.items():
            key = " normal" if label == part.normal else spelling_key(label)
            merged[name].setdefault(called.setdefault(key, label), []).extend(labels)
    return merged


def _two(classes: Labels, part: Part) -> Labels:
    """Normal, and all the rest as one class."""
    normal = set(part.classes[part.normal or ""])
    name = next(name for name, labels in classes.items() if normal & set(labels))
    rest = [label for other, labels in classes.items() if other != name for label in labels]
    return {name: classes[name]} | ({ABNORMAL: rest} if rest else {})


def _entry(name: str, path: str, labels: Labels, classes: list[str], part: Part) -> Values:
    """As data.source lists it."""
    entry: Values = {"name": name, "path": path, "labels": {each: labels[each] for each in classes if each in labels}}
    return entry | ({"patient": part.pattern} if part.pattern else {})


def _describe(
    parts: Mapping[str, Part],
    labels: Mapping[str, Labels],
    classes: list[str],
    addresses: Mapping[str, str],
    apart: bool,
) -> Iterator[str]:
    for name, part in parts.items():
        ordered = {each: labels[name][each] for each in classes if each in labels[name]}
        yield from detect.describe(addresses[name], part.dataset, ordered, list(ordered), part.side)
        if lacks := [each for each in classes if each not in ordered]:
            yield f"    no {some(lacks)}: it serves training alone with split.strategy leave-one-source-out"
    if apart:
        yield (
            f"no two sources have the same classes, so a class would tell its source: what is not {classes[0]} is "
            f"{ABNORMAL}"
        )
    yield "to test each source by networks that have not seen it: split.strategy: leave-one-source-out, docs/splits.md"
