"""One folder per class, at any depth."""

from collections import Counter
from typing import NamedTuple

from xraylab.data.layouts import values
from xraylab.data.layouts.classes import advice, counts_of, headline
from xraylab.data.layouts.listing import IMAGE_SUFFIXES, Listing, ancestors, is_below, join, last, parent
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, elsewhere
from xraylab.data.names import natural, some
from xraylab.errors import DataError

BETWEEN = "images"
"""A folder of this name lies between a class folder and its images, and is no class."""
UNLABELLED = "unlabelled"
"""Images that all lie in one folder have no label: its name is no class."""
EVERY_LABEL = Wanted(None, {})


class Meaning(NamedTuple):
    """What a folder says about its images."""

    label: str
    side: str
    masks: bool


def detect(listing: Listing, wanted: Wanted) -> str:
    """Class folders with images in them, or any images where every label is wanted."""
    if wanted.classes is None:
        return "images lie in folders, and no other layout fits" if listing.images else ""
    names = {last(folder) for folder in listing.holding} & set(wanted.by_label)
    return f"images lie in folders named {some(sorted(names, key=natural), 20)}" if names else ""


def read(listing: Listing, wanted: Wanted) -> Entries | None:
    """Errors: DataError naming every class folder that is missing or holds no image."""
    top = _top(listing, wanted)
    meanings = {folder: _meaning(folder, listing, wanted, top) for folder in map(parent, listing.images)}
    images, left_out = [], Counter[str]()
    if wanted.classes is None and len({each.label for each in meanings.values() if not each.masks}) < 2:
        meanings = {folder: each._replace(label=UNLABELLED) for folder, each in meanings.items()}
    for path in listing.images:
        label, side, masks = meanings[parent(path)]
        if label and not masks:
            images.append(Image(path, label, side=side))
        else:
            left_out["masks" if label else elsewhere(path, top)] += 1
    _refuse_absent(images, listing, wanted, top)
    return Entries(top, images, left_out)


def _top(listing: Listing, wanted: Wanted) -> str:
    """The folder that holds the class folders, below a chain of single folders."""
    top = ""
    while len(below := listing.folders[top]) == 1 and below[0] not in wanted.by_label:
        if wanted.classes is None and listing.holds_directly(join(top, below[0])):
            break
        top = join(top, below[0])
    return top


def _meaning(folder: str, listing: Listing, wanted: Wanted, top: str) -> Meaning:
    """The label is the nearest folder that is wanted; where all are, the nearest that is no mask, side or `images`."""
    above = [folder, *ancestors(folder)]
    owner = next((place for place in above if _is_label(last(place), wanted)), "")
    others = [place for place in above if place != owner]
    sides = [side for place in others if (side := values.side(last(place)))]
    masks = any("mask" in last(place).lower() for place in others if place != top and is_below(place, top))
    return Meaning(last(owner), sides[0] if sides else "", masks)


def _is_label(name: str, wanted: Wanted) -> bool:
    if wanted.classes is not None:
        return name in wanted.by_label
    return bool(name) and name != BETWEEN and not values.side(name) and "mask" not in name.lower()


def _refuse_absent(images: list[Image], listing: Listing, wanted: Wanted, top: str) -> None:
    have = {wanted.by_label[image.label] for image in images} if wanted.classes else set()
    absent = [name for name in wanted.classes or () if name not in have]
    if not absent:
        return
    labels = {folder: _any_label(folder, listing, wanted, top) for folder in map(parent, listing.images)}
    seen = [Image(path, labels[parent(path)]) for path in listing.images if labels[parent(path)]]
    raise DataError(
        f"{headline(counts_of(seen), wanted)} Rename the folders, or set data.classes or data.labels:",
        [*(_nothing(name, listing, wanted, top) for name in absent), *advice(counts_of(seen), wanted)],
    )


def _any_label(folder: str, listing: Listing, wanted: Wanted, top: str) -> str:
    """The label that the folder's images have, or would have if it were wanted."""
    return _meaning(folder, listing, wanted, top).label or _meaning(folder, listing, EVERY_LABEL, top).label


def _nothing(name: str, listing: Listing, wanted: Wanted, top: str) -> str:
    labels = wanted.labels_of(name)
    problems = ", ".join(_lacks(label, listing, top) for label in labels)
    return problems if labels == [name] else f"{name}: {problems}"


def _lacks(label: str, listing: Listing, top: str) -> str:
    where = next((folder for folder in listing.by_depth if last(folder) == label), None)
    if where is None:
        return f"{join(top, label)}/ does not exist"
    return f"{where}/ holds no image ({' '.join(IMAGE_SUFFIXES)})"


LAYOUT = Layout("a folder of images for each class", detect, read)
