"""Data sets whose labels are folders: one for each class, Kermany et al. 2018, and ACSE-4 2020."""

import re
from typing import NamedTuple

from xraylab.data.layouts.labels import UNLABELLED, advice, count_labels, mismatch
from xraylab.data.layouts.listing import (
    IMAGE_SUFFIXES,
    Listing,
    ancestors,
    is_below,
    join,
    last,
    parent,
    relative,
)
from xraylab.data.layouts.records import Entries, Image, Layout, LayoutConfig, other_folder, parse_split, sort_images
from xraylab.data.names import natural, some
from xraylab.errors import DataError

IMAGES = "images"
"""A folder of this name lies between a class folder and its images, and is no class."""
EVERY_LABEL = LayoutConfig(None, {})
KERMANY_LABELS = {"NORMAL", "PNEUMONIA"}
KERMANY_PATIENT = re.compile(r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)[_-]\d", re.IGNORECASE)


# --- class folders, at any depth


class Meaning(NamedTuple):
    """The label and split that a folder's name gives its images."""

    label: str
    split: str
    masks: bool


def detect_class_folders(listing: Listing, cfg: LayoutConfig) -> str:
    """Class folders with images in them, or any images where every label is a class."""
    if cfg.classes is None:
        return "images lie in folders, and no other layout fits" if listing.images else ""
    names = {last(folder) for folder in listing.holding} & set(cfg.by_label)
    return f"images lie in folders named {some(sorted(names, key=natural), 20)}" if names else ""


def read_class_folders(listing: Listing, cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError naming every class folder that is missing or holds no image."""
    top = _class_top(listing, cfg)
    meanings = {folder: _meaning(folder, cfg, top) for folder in map(parent, listing.images)}
    if cfg.classes is None and len({each.label for each in meanings.values() if not each.masks}) < 2:
        meanings = {folder: each._replace(label=UNLABELLED) for folder, each in meanings.items()}

    def describe(path: str) -> Image | str:
        label, split, masks = meanings[parent(path)]
        if label and not masks:
            return Image(path, label, split=split)
        return "masks" if label else other_folder(path, top)

    images, left_out = sort_images(listing, describe)
    _refuse_absent_folders(images, listing, cfg, top)
    return Entries(top, images, left_out)


def _class_top(listing: Listing, cfg: LayoutConfig) -> str:
    """The folder that holds the class folders, below a chain of single folders."""
    top = ""
    while len(below := listing.folders[top]) == 1 and below[0] not in cfg.by_label:
        if cfg.classes is None and listing.holds_directly(join(top, below[0])):
            break
        top = join(top, below[0])
    return top


def _meaning(folder: str, cfg: LayoutConfig, top: str) -> Meaning:
    """The label is the nearest class folder; where all are, the nearest that is no mask, split or `images`."""
    above = [folder, *ancestors(folder)]
    owner = next((each for each in above if _is_label(last(each), cfg)), "")
    other_folders = [each for each in above if each != owner]
    splits = [split for each in other_folders if (split := parse_split(last(each)))]
    masks = any("mask" in last(each).lower() for each in other_folders if each != top and is_below(each, top))
    return Meaning(last(owner), splits[0] if splits else "", masks)


def _is_label(name: str, cfg: LayoutConfig) -> bool:
    if cfg.classes is not None:
        return name in cfg.by_label
    return bool(name) and name != IMAGES and not parse_split(name) and "mask" not in name.lower()


def _refuse_absent_folders(images: list[Image], listing: Listing, cfg: LayoutConfig, top: str) -> None:
    present = {cfg.by_label[image.label] for image in images} if cfg.classes else set()
    absent = [name for name in cfg.classes or () if name not in present]
    if not absent:
        return
    labels = {  # those that the images have, or would have if every label were a class
        folder: _meaning(folder, cfg, top).label or _meaning(folder, EVERY_LABEL, top).label
        for folder in map(parent, listing.images)
    }
    counts = count_labels([Image(path, labels[parent(path)]) for path in listing.images])
    raise DataError(
        f"{mismatch(counts, cfg)} Rename the folders, or set data.classes or data.labels:",
        [*(_no_folder(name, listing, cfg, top) for name in absent), *advice(counts, cfg)],
    )


def _no_folder(name: str, listing: Listing, cfg: LayoutConfig, top: str) -> str:
    problems = []
    for label in (labels := cfg.labels_of(name)):
        folder = next((folder for folder in listing.by_depth if last(folder) == label), None)
        empty = f"{folder}/ holds no image ({' '.join(IMAGE_SUFFIXES)})"
        problems.append(f"{join(top, label)}/ does not exist" if folder is None else empty)
    return ("" if labels == [name] else f"{name}: ") + ", ".join(problems)


CLASS_FOLDERS = Layout("a folder of images for each class", detect_class_folders, read_class_folders)


# --- Kermany et al. 2018, pneumonia of children: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}


def detect_kermany(listing: Listing, _cfg: LayoutConfig) -> str:
    """The folders, with files that are named as Kermany's are."""
    top = _kermany_top(listing)
    if top is None or not any(KERMANY_PATIENT.match(last(path)) for path in listing.images if is_below(path, top)):
        return ""
    return f"{join(top, 'train')} and test hold NORMAL and PNEUMONIA, with files named as those of Kermany et al."


def read_kermany(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Read the shallowest tree; the download holds a copy of it inside itself.

    Kind and number make a person: person1_bacteria, person1_virus, IM-0115 and NORMAL2-IM-0115 are four.
    """
    top = _kermany_top(listing)
    if top is None:
        return None
    names = {relative(path, top) for path in listing.images if _kermany_folders(path, top)}

    def describe(path: str) -> Image | str:
        if folders := _kermany_folders(path, top):
            match = KERMANY_PATIENT.match(last(path))
            return Image(path, folders[1], match[1] if match else "", parse_split(folders[0]))
        copied = any(relative(path, folder) in names for folder in ancestors(path))
        return "second copy of the tree" if copied else other_folder(path, top)

    return Entries(top, *sort_images(listing, describe), patients="file names (Kermany)")


def _kermany_top(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        splits = {"train", "test"}
        labels = [set(listing.subfolders(join(folder, split))) for split in splits]
        return splits <= set(listing.subfolders(folder)) and all(each == KERMANY_LABELS for each in labels)

    return listing.shallowest(fits)


def _kermany_folders(path: str, top: str) -> list[str]:
    """The folders of a split and a label below `top` that hold the image; none where it lies elsewhere."""
    folders = relative(path, top).split("/")[:2] if is_below(path, top) else []
    return folders if len(folders) == 2 and parse_split(folders[0]) and folders[1] in KERMANY_LABELS else []


KERMANY = Layout("the folders train and test, each with NORMAL and PNEUMONIA", detect_kermany, read_kermany)


# --- ACSE-4 2020, a Kaggle competition: xray-data/{train/<class>,test}, whose test images have no labels


def detect_acse4(listing: Listing, _cfg: LayoutConfig) -> str:
    """Class folders in the training split alone."""
    top = _acse4_top(listing)
    return "" if top is None else f"{join(top, 'train')} holds class folders, and test images without any"


def read_acse4(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Read the training split; the test images are left out."""
    top = _acse4_top(listing)
    if top is None:
        return None

    def describe(path: str) -> Image | str:
        folders = relative(path, top).split("/") if is_below(path, top) else []
        if folders[:1] == ["train"] and len(folders) > 2:
            return Image(path, folders[1], split="train")
        return "unlabelled" if folders[:1] == ["test"] else other_folder(path, top)

    return Entries(top, *sort_images(listing, describe))


def _acse4_top(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        train, test = join(folder, "train"), join(folder, "test")
        classes = len(listing.subfolders(train)) > 1 and not listing.holds_directly(train)
        return classes and listing.holds_directly(test) and not listing.subfolders(test)

    return listing.shallowest(fits)


ACSE4 = Layout("train/ with a folder per class, and test/ with images and no folders", detect_acse4, read_acse4)
