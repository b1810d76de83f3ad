"""A table of files and labels at the top, and images anywhere."""

from collections import Counter
from typing import NamedTuple

from xraylab.data.layouts import csvs, values
from xraylab.data.layouts.csvs import Row
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import TABLE_SUFFIXES, Listing, ancestors, is_mask, last
from xraylab.data.layouts.patients import PATIENTS_FILE, UNKNOWN
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, once
from xraylab.data.names import some
from xraylab.errors import DataError

COLUMNS = {
    "file": ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "fname"),
    "label": ("label", "class", "target", "finding"),
    "patient": ("patient", "patient_id", "subject_id"),
    "side": ("split", "side", "set"),
    "source": ("source",),
    "sex": ("sex", "gender"),
    "age": ("age",),
    "view": ("view", "view_position"),
}


class Table(NamedTuple):
    """A table that names files and labels; `columns` has its own name for each of COLUMNS, '' where it has none."""

    name: str
    columns: dict[str, str]
    rows: list[tuple[int, Row]]


def detect(listing: Listing, wanted: Wanted) -> str:
    """A table that names more than half of the images, masks aside: one of findings or boxes names a few."""
    if wanted.are_folders(listing) or not (tables := _tables(listing)):
        return ""
    finder = Finder(listing)
    named = {path for table in tables for name in _names(table) for path in finder.candidates(name, listing.top)}
    if 2 * len(named) <= len([path for path in listing.images if not is_mask(path, listing.top)]):
        return ""
    table = tables[0]
    return f"{table.name} names files in the column {table.columns['file']} and labels in {table.columns['label']}"


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Errors: DataError for several tables, for names that fit several files, for broken and contradicting rows."""
    tables = _tables(listing)
    if not tables:
        return None
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise DataError(f"data.layout: table: {names} each name files and labels: keep one of them")
    return _entries(listing, tables[0])


def _tables(listing: Listing) -> list[Table]:
    names = [name for name in listing.files[listing.top] if name.lower().endswith(TABLE_SUFFIXES)]
    tables = [_table(listing, name) for name in names if name != PATIENTS_FILE]
    return [table for table in tables if table]


def _table(listing: Listing, name: str) -> Table | None:
    path = listing.raw / listing.top / name
    header = csvs.header(path)
    columns = {kind: csvs.column(header, known, name) for kind, known in COLUMNS.items()}
    return Table(name, columns, csvs.read(path)) if columns["file"] and columns["label"] else None


def _names(table: Table) -> list[str]:
    return [row[table.columns["file"]] for _, row in table.rows if row[table.columns["file"]]]


def _entries(listing: Listing, table: Table) -> Entries:
    nameless = [number for number, row in table.rows if not row[table.columns["file"]]]
    if nameless:
        raise DataError(f"{table.name}: no file is named in line {some([str(number) for number in nameless])}")
    paths, missing = Finder(listing).find(_names(table), listing.top, table.name)
    rows = [(number, row, paths.get(row[table.columns["file"]], "")) for number, row in table.rows]
    images = once((_image(row, path, table, number) for number, row, path in rows if path), table.name)
    listed = {image.path for image in images}
    left_out = Counter(f"no row in {table.name}" for path in listing.images if path not in listed)
    known = f"column {table.columns['patient']}" if table.columns["patient"] else UNKNOWN
    return Entries(listing.top, images, left_out, known, missing)


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
        cells["patient"],
        side,
        cells["source"],
        values.sex(cells["sex"]),
        values.age(cells["age"]),
        values.view(cells["view"]),
    )


LAYOUT = Layout(
    f"one table at the top with a column for the file ({', '.join(COLUMNS['file'])}) "
    f"and one for the label ({', '.join(COLUMNS['label'])})",
    detect,
    read,
)
