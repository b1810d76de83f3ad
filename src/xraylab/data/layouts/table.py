"""Tables of files and labels, and images anywhere."""

from collections import Counter

from xraylab.data.layouts import annotations, values
from xraylab.data.layouts.annotations import COLUMNS, Table
from xraylab.data.layouts.csvs import Row
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import Listing, ancestors, is_mask, last
from xraylab.data.layouts.patients import UNKNOWN
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, once
from xraylab.data.names import some
from xraylab.errors import DataError


def detect(listing: Listing, wanted: Wanted) -> str:
    """Tables that name more than half of the images, masks aside: one of findings or boxes names a few."""
    if wanted.are_folders(listing) or not (tables := _tables(listing, wanted)):
        return ""
    finder = Finder(listing)
    named = {path for table in tables for name in _names(table) for path in finder.candidates(name, table.folder)}
    if 2 * len(named) <= len([path for path in listing.images if not is_mask(path, listing.top)]):
        return ""
    table = tables[0]
    first = f"{table.name} names files in the column {table.columns['file']} and labels in {table.columns['label']}"
    others = some([each.name for each in tables[1:]])
    return first + (f", and so does {others}" if others else "")


def read(listing: Listing, wanted: Wanted) -> Entries | None:
    """Errors: DataError for names that fit several files, for broken and contradicting rows."""
    tables = _tables(listing, wanted)
    if not tables:
        return None
    finder = Finder(listing)
    each = [_images(table, finder) for table in tables]
    name = " and ".join(table.name for table in tables)
    images = once((image for images, _ in each for image in images), name)
    listed = {image.path for image in images}
    left_out = Counter(f"no row in {name}" for path in listing.images if path not in listed)
    patient = next((table.columns["patient"] for table in tables if table.columns["patient"]), "")
    missing = [file for _, several in each for file in several]
    names = tuple(table.name for table in tables)
    return Entries(listing.top, images, left_out, f"column {patient}" if patient else UNKNOWN, missing, names)


def _tables(listing: Listing, wanted: Wanted) -> list[Table]:
    return [table for table in annotations.read(listing, wanted).of_images if table.columns["label"]]


def _names(table: Table) -> list[str]:
    return [row[table.columns["file"]] for _, row in table.rows if row[table.columns["file"]]]


def _images(table: Table, finder: Finder) -> tuple[list[Image], list[str]]:
    """The images that the table names, and the names of which there is none."""
    nameless = [number for number, row in table.rows if not row[table.columns["file"]]]
    if nameless:
        raise DataError(f"{table.name}: no file is named in line {some([str(number) for number in nameless])}")
    paths, missing = finder.find(_names(table), table.folder, table.name)
    rows = [(number, row, paths.get(row[table.columns["file"]], "")) for number, row in table.rows]
    return once((_image(row, path, table, number) for number, row, path in rows if path), table.name), missing


def _image(row: Row, path: str, table: Table, number: int) -> Image:
    cells = {kind: row[name] if name else "" for kind, name in table.columns.items()}
    side = values.side(cells["side"])
    if cells["side"] and not side:
        raise DataError(
            f"{table.name}, line {number}: {table.columns['side']} is {cells['side']!r}, not train, valid or test"
        )
    if not table.columns["side"]:
        side = next((side for folder in ancestors(path) if (side := values.side(last(folder)))), "")
    return Image(
        path,
        cells["label"],
        cells["patient"] or cells["study"],
        side,
        cells["source"],
        values.sex(cells["sex"]),
        values.age(cells["age"]),
        values.view(cells["view"]),
    )


LAYOUT = Layout(
    f"a table with a column for the file (such as {', '.join(COLUMNS['file'][:6])}) and one for the label "
    f"(such as {', '.join(COLUMNS['label'][:5])}); data.columns says what they are called",
    detect,
    read,
)
