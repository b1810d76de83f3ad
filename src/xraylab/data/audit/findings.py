"""Findings about the data: a sentence each, with a severity, a count and examples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xraylab import targets
from xraylab.data.audit import confounding, duplicates, hashes, multi_label
from xraylab.data.audit.confounding import FindingShortcuts, Shortcuts

SEVERITIES = ("stop", "accepted", "warning", "note")
"""`stop`: leakage across splits, which ends the stage `split`; `accepted` with split.on_leakage: accept."""

LEAKS = {
    "patients": "{patient has|patients have} images in two splits",
    "duplicates": "{picture lies|pictures lie} in two splits, pixel for pixel the same",
    "near-duplicates": "{pair|pairs} of near duplicates {lies|lie} in two splits",
}
SAYS = {  # kind -> severity, and the sentence after the count: {for one|for more}
    "unreadable": ("warning", "{file|files} cannot be read and {was|were} left out"),
    "missing": ("warning", "{file|files} that the labels name {is|are} not there"),
    "constant": ("warning", "{image shows|images show} nothing but one gray level"),
    "tiny": ("warning", "{image is|images are} smaller than 64 pixels"),
    "burned_in": ("warning", "{image carries|images carry} burned-in annotations"),
    "wrong_extension": ("note", "{file is|files are} of another format than the name says"),
    "unused_window": ("note", "DICOM {window|windows} would show nothing; the full range was used"),
    "left_out": ("note", "{image|images} left out: %s"),
    "duplicate_files": ("note", "{group|groups} of files that are the same byte for byte"),
    "duplicates": ("warning", "{group|groups} of images that are the same pixel for pixel"),
    "near_duplicates": (
        "warning",
        "{pair|pairs} of near duplicates: one picture encoded, resized, brightened, cropped, "
        "mirrored, inverted, bordered or annotated anew",
    ),
    "label_conflict": ("warning", "{group|groups} of images that show one picture under two labels"),
    "patients_unknown": ("note", "{image has|images have} no known patient: each counts as a patient of its own"),
    "patients_in_two_classes": ("warning", "{patient has|patients have} images in more than one class (from %s)"),
    "not_studied": (
        "note",
        "{label|labels} of the data {is|are} not studied, since no finding of data.classes names {it|them}",
    ),
    "finding_and_none": ("warning", "{image is|images are} labelled No Finding, and with a finding"),
    "imbalance": ("note", "times as many images of %s as of %s"),
    "confounding": ("warning", "{fact goes|facts go} with the class, which a network will use"),
    "told_from_the_file": ("warning", "{fact|facts} about the files (%s) tell the class: cross-validated AUROC %.2f"),
    "hardly_told_from_the_file": ("note", "{fact|facts} about the files (%s) hardly tell the class: AUROC %.2f"),
    "other_findings": ("warning", "{group|groups} of images that show one picture with other findings"),
    "several_images": (
        "note",
        "{patient has|patients have} more than one image, up to %d (patients from %s); findings come or go in those "
        "of %d, which is no error",
    ),
    "undefined_findings": (
        "warning",
        "{finding is|findings are} nowhere known to be present, or nowhere to be absent: no metric of {it|them} exists",
    ),
    "rare_findings": ("note", "{finding is|findings are} present in fewer than %g %% of the images where known"),
    "uncertain_labels": ("note", "{label is|labels are} uncertain: training takes them as data.uncertain says"),
    "missing_labels": ("note", "{label is|labels are} missing, and count neither in training nor in metrics"),
    "findings_confounded": (
        "warning",
        "{fact goes|facts go} with a finding, which a network will use (Holm's correction for all facts and findings)",
    ),
    "findings_told_from_the_file": (
        "warning",
        "{finding is|findings are} told by facts about the files alone (cross-validated, Holm's correction)",
    ),
}
EXAMPLES = 20
SPLITS = ("train", "valid", "test")
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DICOM": (".dcm", ".dicom"),
}
TINY = 64  # pixels of the shorter side
FLAT = 0.004  # contrast: one gray level
IMBALANCED = 3  # times the smallest class


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or worth knowing: a sentence `says` it after the count."""

    kind: str
    severity: str
    count: int
    says: str
    examples: list[str]


def of_files(index: pd.DataFrame, unreadable: list[str], missing: list[str], left_out: dict[str, int]) -> list[Finding]:
    """Findings about single files, and files not used. `index` has the columns of data/index.csv."""
    examples_of = {
        "unreadable": unreadable,
        "missing": missing,
        "constant": _ids(index, index["contrast"] < FLAT),
        "tiny": _ids(index, index[["width", "height"]].min(axis=1) < TINY),
        "burned_in": _ids(index, index["burned_in"] == "YES"),
        "wrong_extension": _wrong_extensions(index),
        "unused_window": _ids(index, index["window"] == "unused"),
    }
    findings = [_finding(kind, examples) for kind, examples in examples_of.items() if examples]
    return findings + [_finding("left_out", [], count, why) for why, count in left_out.items()]


def of_pictures(index: pd.DataFrame, near: pd.DataFrame) -> list[Finding]:
    """Pictures that are there more than once, and those among them whose labels contradict each other."""
    same = duplicates.groups(index, "pixel_hash")
    alike = [[a, b] for a, b in zip(near["id"], near["other"], strict=True)]
    examples_of = {
        "duplicate_files": _joined(duplicates.groups(index, "file_hash")),
        "duplicates": _joined(same),
        "near_duplicates": _pairs(near),
        **_conflicts(index, same + alike),
    }
    return [_finding(kind, examples) for kind, examples in examples_of.items() if examples]


def _conflicts(index: pd.DataFrame, groups: list[list[str]]) -> dict[str, list[str]]:
    """Groups whose labels contradict each other, as the kind of finding that the study's task makes of them."""
    if targets.of_table(index):
        return {"other_findings": multi_label.contradicting(index, groups)}
    label = index.set_index("id")["label"]
    return {"label_conflict": _joined([group for group in groups if label[group].nunique() > 1])}


def of_people(index: pd.DataFrame, patients_from: str) -> Iterator[Finding]:
    """Patients: unknown, or in two classes; and how unequal the classes are."""
    unknown = _ids(index, index["patient"] == "")
    if unknown:
        yield _finding("patients_unknown", unknown)
    if targets.of_table(index):
        yield from _of_several_findings(index, patients_from)
        return
    classes = index[index["patient"] != ""].groupby("patient")["label"].nunique()
    in_two_classes = sorted(classes.index[classes > 1])
    if in_two_classes:
        yield _finding("patients_in_two_classes", in_two_classes, None, patients_from)
    sizes = index["label"].value_counts()
    if len(sizes) > 1 and sizes.iloc[0] >= IMBALANCED * sizes.iloc[-1]:
        ends = [f"{sizes.index[at]} ({sizes.iloc[at]})" for at in (0, -1)]
        yield _finding("imbalance", [], round(sizes.iloc[0] / sizes.iloc[-1]), *ends)


def _of_several_findings(index: pd.DataFrame, patients_from: str) -> Iterator[Finding]:
    """Patients' repeated images, and findings that are rare, uncertain or not labelled."""
    several, changing = multi_label.changing(index)
    if several:
        most = int(index["patient"][index["patient"] != ""].value_counts().iloc[0])
        yield _finding("several_images", several, None, most, patients_from, len(changing))
    counts = multi_label.count_labels(index)
    undefined = [name for name, each in counts.items() if not (each["images"] and each["negative"])]
    if undefined:
        said = [f"{name}: {counts[name]['images']} present, {counts[name]['negative']} absent" for name in undefined]
        yield _finding("undefined_findings", said)
    known = {name: each["images"] + each["negative"] for name, each in counts.items() if name not in undefined}
    rare = [name for name, total in known.items() if counts[name]["images"] < multi_label.RARE * total]
    if rare:
        said = [f"{name}: {counts[name]['images']} of {known[name]}" for name in rare]
        yield _finding("rare_findings", said, None, 100 * multi_label.RARE)
    for kind, key in (("uncertain_labels", "uncertain"), ("missing_labels", "missing")):
        said = [f"{name}: {each[key]}" for name, each in counts.items() if each[key]]
        if said:
            yield _finding(kind, said, sum(each[key] for each in counts.values()))


def of_shortcuts(shortcuts: Shortcuts) -> Iterator[Finding]:
    """Facts about the files that go with the class, or with findings, each and together."""
    if shortcuts.findings is not None:
        yield from _of_shortcuts_to_findings(shortcuts.findings)
        return
    v = shortcuts.cramers_v
    if telling := [f"{name}: Cramér's V {value:.2f}" for name, value in v.items() if value >= confounding.TELLING_V]:
        yield _finding("confounding", telling)
    if model := shortcuts.model:
        kind = "told_from_the_file" if model.auroc >= confounding.TELLING_AUROC else "hardly_told_from_the_file"
        yield _finding(kind, [], len(model.facts), ", ".join(model.facts), model.auroc)


def _of_shortcuts_to_findings(shortcuts: dict[str, FindingShortcuts]) -> Iterator[Finding]:
    telling = [
        f"{name}, {fact}: Cramér's V {each.cramers_v[fact]:.2f}"
        for name, each in shortcuts.items()
        for fact in each.telling
    ]
    if telling:
        yield _finding("findings_confounded", telling)
    if told := [f"{name}: AUROC {each.auroc:.2f}" for name, each in shortcuts.items() if each.told]:
        yield _finding("findings_told_from_the_file", told)


def of_labels(not_studied: dict[str, int], contradicting: list[str]) -> Iterator[Finding]:
    """Labels of the data that no finding names, the most frequent first, and images labelled both with and without."""
    if not_studied:
        frequent = sorted(not_studied, key=lambda label: -not_studied[label])
        yield _finding("not_studied", [f"{label} ({not_studied[label]} images)" for label in frequent], len(frequent))
    if contradicting:
        yield _finding("finding_and_none", contradicting)


def across_splits(index: pd.DataFrame, near: pd.DataFrame, split: pd.Series, accepted: bool = False) -> list[Finding]:
    """Leakage: patients and pictures in two splits. `split`: each image's; not train, valid or test is unused."""
    used = index.assign(split=split)[split.isin(SPLITS)]
    people = used[used["patient"] != ""].groupby("patient")["split"].agg(_join_splits)
    pictures = used.groupby("pixel_hash", sort=False)["split"].agg(_join_splits)
    ids = used.groupby("pixel_hash", sort=False)["id"].agg(" = ".join)
    split_of = used.set_index("id")["split"].reindex([*near["id"], *near["other"]]).to_numpy()
    one, other = split_of[: len(near)], split_of[len(near) :]
    crossing = near[pd.notna(one) & pd.notna(other) & (one != other)]
    examples_of = {
        "patients": [f"{name} ({splits})" for name, splits in people.items() if "+" in splits],
        "duplicates": [f"{same} ({splits})" for same, splits in zip(ids, pictures, strict=True) if "+" in splits],
        "near-duplicates": _pairs(crossing),
    }
    severity = "accepted" if accepted else "stop"
    return [
        _counted(f"{kind}_across_splits", severity, LEAKS[kind], examples, len(examples))
        for kind, examples in examples_of.items()
        if examples
    ]


def _finding(kind: str, examples: list[str], count: int | None = None, *words: str | float) -> Finding:
    severity, says = SAYS[kind]
    return _counted(kind, severity, says % words, examples, count or len(examples))


def _counted(kind: str, severity: str, says: str, examples: list[str], count: int) -> Finding:
    sentence = re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if count == 1 else r"\2", says)
    return Finding(kind, severity, count, sentence, examples[:EXAMPLES])


def _ids(index: pd.DataFrame, which: pd.Series) -> list[str]:
    return list(index["id"][which])


def _wrong_extensions(index: pd.DataFrame) -> list[str]:
    """A file without a suffix is a DICOM object's usual name, and says nothing wrong."""
    rows = zip(index["id"], index["format"], strict=True)
    return [name for name, kind in rows if "." in name and not name.lower().endswith(SUFFIXES[kind])]


def _join_splits(splits: pd.Series) -> str:
    return "+".join(name for name in SPLITS if name in set(splits))


def _joined(groups: list[list[str]]) -> list[str]:
    return [" = ".join(group) for group in groups]


def _pairs(near: pd.DataFrame) -> list[str]:
    return [f"{row.id} ~ {row.other} ({_describe_change(str(row.change), row.bits)})" for row in near.itertuples()]


def _describe_change(change: str, bits: Any) -> str:
    """Describe how a copy was changed and by how many bits its hash differs, which says nothing of a cropped one."""
    differing = f"{bits} bits of {hashes.BITS}"
    return {duplicates.ENCODED: differing, duplicates.CROP: change}.get(change, f"{change}, {differing}")
