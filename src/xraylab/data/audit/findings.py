"""What can be wrong with the data: each finding in a sentence, with a severity, a count and examples."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from xraylab.data.audit import confounding, duplicates, hashes

Finding = dict[str, Any]  # kind, severity, count, says, examples

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
    "imbalance": ("note", "times as many images of %s as of %s"),
    "confounding": ("warning", "{fact goes|facts go} with the class, which a network will use"),
    "told_from_the_file": ("warning", "{fact|facts} about the files (%s) tell the class: cross-validated AUROC %.2f"),
    "hardly_told_from_the_file": ("note", "{fact|facts} about the files (%s) hardly tell the class: AUROC %.2f"),
}
EXAMPLES = 20
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


def of_files(index: pd.DataFrame, unreadable: list[str], missing: list[str], left_out: dict[str, int]) -> list[Finding]:
    """What is wrong with single files, and which were not used. `index` has the columns of data/index.csv."""
    found = {
        "unreadable": unreadable,
        "missing": missing,
        "constant": _ids(index, index["contrast"] < FLAT),
        "tiny": _ids(index, index[["width", "height"]].min(axis=1) < TINY),
        "burned_in": _ids(index, index["burned_in"] == "YES"),
        "wrong_extension": _wrong_extensions(index),
        "unused_window": _ids(index, index["window"] == "unused"),
    }
    findings = [_finding(kind, examples) for kind, examples in found.items() if examples]
    return findings + [_finding("left_out", [], count, why) for why, count in left_out.items()]


def of_pictures(index: pd.DataFrame, near: pd.DataFrame) -> list[Finding]:
    """Pictures that are there more than once, and those among them whose labels contradict each other."""
    label = index.set_index("id")["label"]
    same = duplicates.groups(index, "pixel_hash")
    alike = [[a, b] for a, b in zip(near["id"], near["other"], strict=True)]
    found = {
        "duplicate_files": _joined(duplicates.groups(index, "file_hash")),
        "duplicates": _joined(same),
        "near_duplicates": _pairs(near),
        "label_conflict": _joined([group for group in same + alike if label[group].nunique() > 1]),
    }
    return [_finding(kind, examples) for kind, examples in found.items() if examples]


def of_people(index: pd.DataFrame, known_by: str) -> Iterator[Finding]:
    """Patients: unknown, or in two classes; and how unequal the classes are."""
    unknown = _ids(index, index["patient"] == "")
    if unknown:
        yield _finding("patients_unknown", unknown)
    classes = index[index["patient"] != ""].groupby("patient")["label"].nunique()
    both = sorted(classes.index[classes > 1])
    if both:
        yield _finding("patients_in_two_classes", both, None, known_by)
    sizes = index["label"].value_counts()
    if len(sizes) > 1 and sizes.iloc[0] >= IMBALANCED * sizes.iloc[-1]:
        ends = [f"{sizes.index[at]} ({sizes.iloc[at]})" for at in (0, -1)]
        yield _finding("imbalance", [], round(sizes.iloc[0] / sizes.iloc[-1]), *ends)


def of_shortcuts(index: pd.DataFrame) -> tuple[list[Finding], dict[str, Any]]:
    """Whether the class can be told without looking at the anatomy; and Cramér's V of each fact, the AUROC of all.

    The record's `warning` is for whoever is to see a figure of these images, None where there is nothing to say.
    """
    known = confounding.facts(index)
    v = {str(name): round(confounding.cramers_v(fact, index["label"]), 3) for name, fact in known.items()}
    ordered = dict(sorted(v.items(), key=lambda item: -item[1]))
    telling = [f"{name}: Cramér's V {value:.2f}" for name, value in ordered.items() if value >= confounding.TELLING_V]
    findings = [_finding("confounding", telling)] if telling else []
    model = confounding.auroc(index)
    if model:
        kind = "told_from_the_file" if model["auroc"] >= confounding.TELLING_AUROC else "hardly_told_from_the_file"
        findings.append(_finding(kind, [], len(model["facts"]), ", ".join(model["facts"]), model["auroc"]))
    warning = confounding.warning(ordered, model, len(index))
    return findings, {"cramers_v": ordered, "model": model, "warning": warning, "remedy": confounding.REMEDY}


def across_splits(index: pd.DataFrame, near: pd.DataFrame, side: pd.Series, accepted: bool = False) -> list[Finding]:
    """Leakage: patients and pictures in two splits. `side`: each image's; not train, valid or test is unused."""
    used = index.assign(side=side)[side.isin(["train", "valid", "test"])]
    people = used[used["patient"] != ""].groupby("patient")["side"].agg(_sides)
    pictures = used.groupby("pixel_hash", sort=False)["side"].agg(_sides)
    ids = used.groupby("pixel_hash", sort=False)["id"].agg(" = ".join)
    side_of = used.set_index("id")["side"].reindex([*near["id"], *near["other"]]).to_numpy()
    one, other = side_of[: len(near)], side_of[len(near) :]
    crossing = near[pd.notna(one) & pd.notna(other) & (one != other)]
    found = {
        "patients": [f"{name} ({sides})" for name, sides in people.items() if "+" in sides],
        "duplicates": [f"{same} ({sides})" for same, sides in zip(ids, pictures, strict=True) if "+" in sides],
        "near-duplicates": _pairs(crossing),
    }
    return [_leak(kind, examples, accepted) for kind, examples in found.items() if examples]


def _leak(kind: str, examples: list[str], accepted: bool) -> Finding:
    severity = "accepted" if accepted else "stop"
    return {"kind": f"{kind}_across_splits", "severity": severity, **_counted(LEAKS[kind], examples, len(examples))}


def _finding(kind: str, examples: list[str], count: int | None = None, *words: str | float) -> Finding:
    severity, says = SAYS[kind]
    return {"kind": kind, "severity": severity, **_counted(says % words, examples, count or len(examples))}


def _counted(says: str, examples: list[str], count: int) -> dict[str, Any]:
    said = re.sub(r"\{(.*?)\|(.*?)\}", r"\1" if count == 1 else r"\2", says)
    return {"count": count, "says": said, "examples": examples[:EXAMPLES]}


def _ids(index: pd.DataFrame, which: pd.Series) -> list[str]:
    return list(index["id"][which])


def _wrong_extensions(index: pd.DataFrame) -> list[str]:
    """A file without a suffix is a DICOM object's usual name, and says nothing wrong."""
    rows = zip(index["id"], index["format"], strict=True)
    return [name for name, kind in rows if "." in name and not name.lower().endswith(SUFFIXES[kind])]


def _sides(sides: pd.Series) -> str:
    return "+".join(name for name in ("train", "valid", "test") if name in set(sides))


def _joined(groups: list[list[str]]) -> list[str]:
    return [" = ".join(group) for group in groups]


def _pairs(near: pd.DataFrame) -> list[str]:
    return [f"{row.id} ~ {row.other} ({_told(str(row.change), row.bits)})" for row in near.itertuples()]


def _told(change: str, bits: Any) -> str:
    """What the audit knows of a pair: of one that was cropped the bits say nothing."""
    differing = f"{bits} bits of {hashes.BITS}"
    return {duplicates.ENCODED: differing, duplicates.CROP: change}.get(change, f"{change}, {differing}")
