"""The Shenzhen and Montgomery sets (Jaeger et al. 2014): CHNCXR_0001_0.png, whose last digit is the label."""

import re
from collections import Counter

from xraylab.data.layouts import values
from xraylab.data.layouts.listing import Listing, is_mask, join, last, stem
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted

NAME = re.compile(r"(CHN|MCU)CXR_\d+_([01])")
SOURCES = {"CHN": "Shenzhen", "MCU": "Montgomery"}
LABELS = {"0": "normal", "1": "tb"}
SEX = re.compile(r"sex:\s*([mf])|(female|male)", re.IGNORECASE)
AGE = re.compile(r"\d+\s*(?:y|m|w|d)[a-z]*", re.IGNORECASE)


def detect(listing: Listing, wanted: Wanted) -> str:
    """Most images, masks aside, are named so."""
    images = [path for path in listing.images if not is_mask(path, listing.top)]
    named = [path for path in images if NAME.fullmatch(stem(path))]
    if wanted.are_folders(listing) or not named or 2 * len(named) <= len(images):
        return ""
    return f"{len(named)} of {len(images)} images are named as {last(named[0])}, with the label as the last digit"


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Sex and age are in the text file of an image's name, where there is one."""
    texts = _texts(listing)
    images, left_out = [], Counter[str]()
    for path in listing.images:
        match = NAME.fullmatch(stem(path))
        mask = is_mask(path, listing.top)
        if mask or not match:
            left_out["masks" if mask else "other file names"] += 1
            continue
        sex, age = _person(listing, texts.get(stem(path)))
        images.append(Image(path, LABELS[match[2]], source=SOURCES[match[1]], sex=sex, age=age))
    return Entries(listing.top, images, left_out) if images else None


def _texts(listing: Listing) -> dict[str, str]:
    """The path of each image's clinical text, by the name that they share."""
    names = ((folder, name) for folder, several in listing.files.items() for name in several)
    return {name[:-4]: join(folder, name) for folder, name in names if name.lower().endswith(".txt")}


def _person(listing: Listing, text: str | None) -> tuple[str, str]:
    """Sex and age from `male 45yrs`, or from `Patient's Sex: F` and `Patient's Age: 026Y`."""
    if text is None:
        return "", ""
    said = (listing.raw / text).read_text(encoding="utf-8", errors="replace")  # what matters is ASCII
    sex, age = SEX.search(said), AGE.search(said)
    return values.sex(sex[1] or sex[2]) if sex else "", values.age(age[0]) if age else ""


LAYOUT = Layout("images named as CHNCXR_0001_0.png or MCUCXR_0001_0.png", detect, read)
