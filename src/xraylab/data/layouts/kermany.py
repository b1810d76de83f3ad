"""Kermany et al. 2018, pneumonia of children: chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}."""

import re
from collections import Counter

from xraylab.data.layouts import values
from xraylab.data.layouts.listing import Listing, ancestors, is_below, join, last, relative
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, elsewhere, place_of

LABELS = {"NORMAL", "PNEUMONIA"}
SIDES = {"train", "test"}
PATIENT = re.compile(r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)[_-]\d", re.IGNORECASE)


def detect(listing: Listing, _wanted: Wanted) -> str:
    """The folders, with files that are named as Kermany's are."""
    place = _place(listing)
    if place is None or not any(PATIENT.match(last(path)) for path in listing.below(place)):
        return ""
    return f"{join(place, 'train')} and test hold NORMAL and PNEUMONIA, with files named as those of Kermany et al."


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """The shallowest tree; the download holds a copy of it inside itself."""
    top = _place(listing)
    if top is None:
        return None
    images, others = [], []
    for path in listing.images:
        side, label, *_ = [*relative(path, top).split("/"), ""]
        if is_below(path, top) and values.side(side) and label in LABELS:
            images.append(Image(path, label, patient(last(path)), values.side(side)))
        else:
            others.append(path)
    have = {relative(image.path, top) for image in images}
    left_out = Counter(_reason(path, top, have) for path in others)
    return Entries(top, images, left_out, patients="file names (Kermany)")


def patient(name: str) -> str:
    """Kind and number of the person: person1_bacteria, person1_virus, IM-0115, NORMAL2-IM-0115 are four."""
    match = PATIENT.match(name)
    return match[1] if match else ""


def _place(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        sides = set(listing.subfolders(folder)) & SIDES
        return sides == SIDES and all(set(listing.subfolders(join(folder, side))) == LABELS for side in sides)

    return place_of(listing, fits)


def _reason(path: str, top: str, have: set[str]) -> str:
    if any(relative(path, folder) in have for folder in ancestors(path)):
        return "second copy of the tree"
    return elsewhere(path, top)


LAYOUT = Layout("the folders train and test, each with NORMAL and PNEUMONIA", detect, read)
