"""Collections of tuberculosis films: TBX11K (Liu et al. 2020), and Shenzhen and Montgomery (Jaeger et al. 2014)."""

import re
from collections import Counter

from xraylab.data.layouts import sheets
from xraylab.data.layouts.listing import Listing, is_below, is_mask, join, last, parent, relative, stem
from xraylab.data.layouts.records import (
    Entries,
    Image,
    Layout,
    LayoutConfig,
    merge_rows,
    other_folder,
    parse_age,
    parse_sex,
    parse_split,
    sort_images,
)

TBX11K_LABELS = ("health", "sick", "tb")
TBX11K_UNLABELLED = {"test": "unlabelled test", "extra": "extra"}
TBX11K_COLUMNS = {"fname", "source", "image_type", "tb_type"}
SHENZHEN_NAME = re.compile(r"(CHN|MCU)CXR_\d+_([01])")
SHENZHEN_SOURCES = {"CHN": "Shenzhen", "MCU": "Montgomery"}
SHENZHEN_LABELS = {"0": "normal", "1": "tb"}
SEX = re.compile(r"sex:\s*([mf])|(female|male)", re.IGNORECASE)
AGE = re.compile(r"\d+\s*(?:y|m|w|d)[a-z]*", re.IGNORECASE)


# --- TBX11K: imgs/{health,sick,tb,test,extra}, or the simplified images/ with data.csv


def detect_tbx11k(listing: Listing, _cfg: LayoutConfig) -> str:
    """Folders or a table that no other data set has."""
    if (top := _tbx11k_top(listing)) is not None:
        return f"{top}/ holds the folders {', '.join(TBX11K_LABELS)}"
    if (table := _tbx11k_table(listing)) is not None:
        return f"{table} has the columns fname, image_type and tb_type"
    return ""


def read_tbx11k(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for rows of one image that contradict one another."""
    if (top := _tbx11k_top(listing)) is None:
        table = _tbx11k_table(listing)
        return None if table is None else _read_tbx11k_table(listing, table)

    def describe(path: str) -> Image | str:
        folder = relative(path, top).partition("/")[0] if is_below(path, top) else ""
        if folder in TBX11K_LABELS:
            return Image(path, folder)
        return TBX11K_UNLABELLED.get(folder) or other_folder(path, top)

    return Entries(top, *sort_images(listing, describe))


def _tbx11k_top(listing: Listing) -> str | None:
    return listing.shallowest(lambda path: last(path) == "imgs" and {"health", "tb"} <= set(listing.subfolders(path)))


def _tbx11k_table(listing: Listing) -> str | None:
    """The first table that has the columns."""
    paths = [path for path in listing.tables if last(path) == "data.csv"]
    return next((path for path in paths if set(sheets.read_header(listing.raw / path)) >= TBX11K_COLUMNS), None)


def _read_tbx11k_table(listing: Listing, table: str) -> Entries:
    top, rows = parent(table), [row.cells for row in sheets.read_csv(listing.raw / table)]
    paths, missing = listing.finder.find([row["fname"] for row in rows], join(top, "images"), table)
    images = merge_rows((_tbx11k_image(row, paths[row["fname"]]) for row in rows if row["fname"] in paths), table)
    listed = {image.path for image in images}
    test, reasons = join(top, "test"), {True: TBX11K_UNLABELLED["test"], False: f"no row in {last(table)}"}
    left_out = Counter(reasons[is_below(path, test)] for path in listing.images if path not in listed)
    return Entries(top, images, left_out, missing=missing)


def _tbx11k_image(row: dict[str, str], path: str) -> Image:
    """The column source names a split in the simplified form, and a hospital otherwise."""
    split = parse_split(row["source"])
    return Image(path, row["image_type"], split=split, source="" if split else row["source"])


TBX11K = Layout(
    "imgs/ with the folders health, sick and tb, or images/ with the simplified data.csv",
    detect_tbx11k,
    read_tbx11k,
    own_tables=True,
)


# --- Shenzhen and Montgomery: CHNCXR_0001_0.png, whose last digit is the label


def detect_shenzhen(listing: Listing, cfg: LayoutConfig) -> str:
    """Most images, masks aside, are named so."""
    images = [path for path in listing.images if not is_mask(path, listing.top)]
    named = [path for path in images if SHENZHEN_NAME.fullmatch(stem(path))]
    if cfg.are_folders(listing) or not named or 2 * len(named) <= len(images):
        return ""
    return f"{len(named)} of {len(images)} images are named as {last(named[0])}, with the label as the last digit"


def read_shenzhen(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Sex and age are in the text file of an image's name, where there is one."""
    texts = {last(path)[:-4]: path for path in listing.paths if path.lower().endswith(".txt")}

    def describe(path: str) -> Image | str:
        match = SHENZHEN_NAME.fullmatch(stem(path))
        if is_mask(path, listing.top):
            return "masks"
        if not match:
            return "other file names"
        sex, age = _person(listing, texts[stem(path)]) if stem(path) in texts else ("", "")
        return Image(path, SHENZHEN_LABELS[match[2]], source=SHENZHEN_SOURCES[match[1]], sex=sex, age=age)

    images, left_out = sort_images(listing, describe)
    return Entries(listing.top, images, left_out) if images else None


def _person(listing: Listing, path: str) -> tuple[str, str]:
    """Sex and age from `male 45yrs`, or from `Patient's Sex: F` and `Patient's Age: 026Y`."""
    text = (listing.raw / path).read_text(encoding="utf-8", errors="replace")  # what matters is ASCII
    sex, age = SEX.search(text), AGE.search(text)
    return parse_sex(sex[1] or sex[2]) if sex else "", parse_age(age[0]) if age else ""


SHENZHEN = Layout("images named as CHNCXR_0001_0.png or MCUCXR_0001_0.png", detect_shenzhen, read_shenzhen)
