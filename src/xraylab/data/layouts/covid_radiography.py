"""COVID-19 Radiography Database (Chowdhury et al. 2020): <Class>/images, <Class>/masks and <Class>.metadata.xlsx."""

from collections import Counter
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from xraylab.data.layouts.listing import Listing, is_below, is_mask, join, relative, stem
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, elsewhere, place_of
from xraylab.data.names import some
from xraylab.errors import DataError

METADATA = ".metadata.xlsx"


def detect(listing: Listing, _wanted: Wanted) -> str:
    """Nothing but such classes: a folder of another shape beside them makes it another data set."""
    top = _place(listing)
    if top is None or _classes(listing, top) != listing.subfolders(top):
        return ""
    return f"{some(_classes(listing, top))} lie beside their {METADATA}, or hold images and masks"


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Errors: DataError for a table that cannot be read or contradicts itself."""
    top = _place(listing)
    if top is None:
        return None
    images, left_out, missing = [], Counter[str](), []
    sources = {name: _sources(listing, top, name) for name in _classes(listing, top)}
    for path in listing.images:
        name = relative(path, top).partition("/")[0] if is_below(path, top) else ""
        mask = is_mask(path, top)
        if mask or name not in sources:
            left_out["masks" if mask else elsewhere(path, top)] += 1
            continue
        images.append(Image(path, name, source=sources[name].get(_key(path), ("", ""))[1]))
    there = {(image.label, _key(image.path)) for image in images}
    for name, rows in sources.items():
        missing += [written for key, (written, _) in rows.items() if (name, key) not in there]
    return Entries(top, images, left_out, missing=missing)


def _place(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        classes = _classes(listing, folder)
        beside = [name for name in classes if _metadata(listing, folder, name)]
        masked = [name for name in classes if "masks" in _below(listing, folder, name)]
        return len(classes) > 1 and bool(beside or masked)

    return place_of(listing, fits)


def _classes(listing: Listing, top: str) -> list[str]:
    """The folders with images/ in them, or, in the older releases, with a table beside them."""
    return [
        name
        for name in listing.subfolders(top)
        if "images" in _below(listing, top, name) or _metadata(listing, top, name)
    ]


def _below(listing: Listing, top: str, name: str) -> list[str]:
    return listing.subfolders(join(top, name))


def _metadata(listing: Listing, top: str, name: str) -> str:
    """The class's table below raw, '' where there is none."""
    wanted = f"{name}{METADATA}".lower()
    return next((join(top, file) for file in listing.files[top] if file.lower() == wanted), "")


def _sources(listing: Listing, top: str, name: str) -> dict[str, tuple[str, str]]:
    """Key of the file's name -> the name as it is written, and its URL."""
    table = _metadata(listing, top, name)
    return _read_sheet(listing.raw / table) if table else {}


def _read_sheet(path: Path) -> dict[str, tuple[str, str]]:
    try:
        sheet = pd.read_excel(path, dtype=str, keep_default_na=False)
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from None
    sheet.columns = [str(column).strip().upper() for column in sheet.columns]
    if not {"FILE NAME", "URL"} <= set(sheet.columns):
        raise DataError(f"{path.name}: needs the columns FILE NAME and URL, has {', '.join(sheet.columns)}")
    rows: dict[str, tuple[str, str]] = {}
    torn = []
    for written, url in zip(sheet["FILE NAME"].str.strip(), sheet["URL"].str.strip(), strict=True):
        if rows.setdefault(_key(written), (written, url))[1] != url:
            torn.append(written)
    if torn:
        raise DataError(f"{path.name}: rows of one image contradict one another: {some(torn)}")
    return rows


def _key(name: str) -> str:
    return stem(name).lower()


LAYOUT = Layout(f"class folders that hold images/ and masks/, or lie beside their {METADATA}", detect, read)
