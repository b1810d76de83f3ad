"""ACSE-4 2020 (a Kaggle competition): xray-data/{train/<class>,test}, whose test images have no labels."""

from collections import Counter

from xraylab.data.layouts.listing import Listing, is_below, join, relative
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, elsewhere, place_of


def detect(listing: Listing, _wanted: Wanted) -> str:
    """Class folders on the train side alone."""
    top = _place(listing)
    return "" if top is None else f"{join(top, 'train')} holds class folders, and test images without any"


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """The train side; the test side's images are left out."""
    top = _place(listing)
    if top is None:
        return None
    images, left_out = [], Counter[str]()
    for path in listing.images:
        folders = relative(path, top).split("/") if is_below(path, top) else []
        if folders[:1] == ["train"] and len(folders) > 2:
            images.append(Image(path, folders[1], side="train"))
        else:
            left_out["unlabelled" if folders[:1] == ["test"] else elsewhere(path, top)] += 1
    return Entries(top, images, left_out)


def _place(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        train, test = join(folder, "train"), join(folder, "test")
        return (
            len(listing.subfolders(train)) > 1
            and not listing.holds_directly(train)
            and listing.holds_directly(test)
            and not listing.subfolders(test)
        )

    return place_of(listing, fits)


LAYOUT = Layout("train/ with a folder per class, and test/ with images and no folders", detect, read)
