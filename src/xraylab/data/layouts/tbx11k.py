"""TBX11K (Liu et al. 2020): imgs/{health,sick,tb,test,extra}, or the simplified images/ with data.csv."""

from collections import Counter

from xraylab.data.layouts import csvs, values
from xraylab.data.layouts.csvs import Row
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import Listing, is_below, join, last, parent, relative
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, elsewhere, once, place_of

LABELS = ("health", "sick", "tb")
NOT_LABELLED = {"test": "unlabelled test", "extra": "extra"}
COLUMNS = {"fname", "source", "image_type", "tb_type"}


def detect(listing: Listing, _wanted: Wanted) -> str:
    """Folders or a table that no other data set has."""
    if (top := _imgs(listing)) is not None:
        return f"{top}/ holds the folders {', '.join(LABELS)}"
    if (table := _table(listing)) is not None:
        return f"{table} has the columns fname, image_type and tb_type"
    return ""


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Errors: DataError for rows of one image that contradict one another."""
    if (top := _imgs(listing)) is not None:
        return _read_folders(listing, top)
    if (table := _table(listing)) is not None:
        return _read_table(listing, table)
    return None


def _imgs(listing: Listing) -> str | None:
    return place_of(
        listing,
        lambda folder: last(folder) == "imgs" and {"health", "tb"} <= set(listing.subfolders(folder)),
    )


def _table(listing: Listing) -> str | None:
    """The first table that has the columns."""
    tables = [join(folder, "data.csv") for folder in listing.by_depth if "data.csv" in listing.files[folder]]
    return next((path for path in tables if set(csvs.header(listing.raw / path)) >= COLUMNS), None)


def _read_folders(listing: Listing, top: str) -> Entries:
    images, left_out = [], Counter[str]()
    for path in listing.images:
        folder = relative(path, top).partition("/")[0] if is_below(path, top) else ""
        if folder in LABELS:
            images.append(Image(path, folder))
        else:
            left_out[NOT_LABELLED.get(folder) or elsewhere(path, top)] += 1
    return Entries(top, images, left_out)


def _read_table(listing: Listing, table: str) -> Entries:
    top, rows = parent(table), [row for _, row in csvs.read(listing.raw / table)]
    names, missing = Finder(listing).find([row["fname"] for row in rows], join(top, "images"), table)
    images = once((_image(row, names[row["fname"]]) for row in rows if row["fname"] in names), table)
    listed = {image.path for image in images}
    test = join(top, "test")
    left_out = Counter(
        NOT_LABELLED["test"] if is_below(path, test) else f"no row in {last(table)}"
        for path in listing.images
        if path not in listed
    )
    return Entries(top, images, left_out, missing=missing)


def _image(row: Row, path: str) -> Image:
    """The column source names a side in the simplified form, and a hospital elsewhere."""
    side = values.side(row["source"])
    return Image(path, row["image_type"], side=side, source="" if side else row["source"])


LAYOUT = Layout("imgs/ with the folders health, sick and tb, or images/ with the simplified data.csv", detect, read)
