"""Data sets whose labels stand in tables, with images anywhere: any table, and NIH ChestX-ray14 (Wang et al. 2017)."""

import re

from xraylab.data.layouts import annotations, multi_label, sheets
from xraylab.data.layouts.annotations import COLUMNS, Table
from xraylab.data.layouts.listing import Listing, ancestors, is_mask, last
from xraylab.data.layouts.records import (
    UNKNOWN,
    Entries,
    Image,
    Layout,
    LayoutConfig,
    Marks,
    join_labels,
    merge_rows,
    parse_age,
    parse_sex,
    parse_split,
    parse_view,
    unlisted,
)
from xraylab.data.layouts.sheets import Row
from xraylab.data.names import some
from xraylab.errors import DataError

NIH_TABLE = re.compile(r"data_entry_2017.*\.csv", re.IGNORECASE)
NIH_COLUMNS = ["image_index", "finding_labels", "patient_age", "patient_gender", "view_position"]
NIH_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


# --- any table of files and labels


def detect_table(listing: Listing, cfg: LayoutConfig) -> str:
    """Tables that name more than half of the images, masks aside: one of findings or boxes names a few."""
    if cfg.are_folders(listing) or not (tables := _tables(listing, cfg)):
        return ""
    names = [(table, table.cell(row, "file")) for table in tables for row in table.rows]
    named = {path for table, name in names if name for path in listing.finder.candidates(name, table.folder)}
    if 2 * len(named) <= len([path for path in listing.images if not is_mask(path, listing.top)]):
        return ""
    table = tables[0]
    columns = list(finding_columns(table, cfg))
    labels = f"{len(columns)} findings, a column each ({some(columns)})" if columns else table.columns["label"]
    first = f"{table.name} names files in the column {table.columns['file']} and labels in {labels}"
    other_names = some([each.name for each in tables[1:]])
    return first + (f", and so does {other_names}" if other_names else "")


def read_table(listing: Listing, cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for names that fit several files, for broken and contradicting rows."""
    tables = _tables(listing, cfg)
    if not tables:
        return None
    rows: list[Image] = []
    missing: list[str] = []
    for table in tables:
        images, absent = _images(table, listing, cfg)
        rows += images
        missing += absent
    title = " and ".join(table.name for table in tables)
    images = merge_rows(rows, title)
    patient = next((table.columns["patient"] for table in tables if table.columns["patient"]), "")
    patients = f"column {patient}" if patient else UNKNOWN
    names = tuple(table.name for table in tables)
    return Entries(listing.top, images, unlisted(listing, images, title), patients, missing, names)


def _tables(listing: Listing, cfg: LayoutConfig) -> list[Table]:
    """The tables that label images: those with a column per finding of the study, if any has; else joined labels."""
    tables = annotations.read(listing, cfg.tables).of_images
    with_findings = [table for table in tables if finding_columns(table, cfg)]
    return with_findings or [table for table in tables if table.columns["label"]]


def finding_columns(table: Table, cfg: LayoutConfig) -> dict[str, str]:
    """Label -> the column that says 1, 0, -1 or nothing of it, where an image may have several findings.

    None unless one of them is studied; without data.classes all, if the table has no column of labels. A column that
    data.columns calls the label goes before them.
    """
    has_labels = cfg.classes is None and table.columns["label"]
    if not cfg.is_multi or has_labels or dict(cfg.tables.columns).get("label"):
        return {}
    findings = table.findings
    columns = {
        title: name
        for title, name in zip(table.titles, table.header, strict=True)
        if title in cfg.by_label or title in findings
    }
    studied = cfg.classes is None or any(title in cfg.by_label for title in columns)
    return columns if studied and len(columns) > 1 else {}


def _images(table: Table, listing: Listing, cfg: LayoutConfig) -> tuple[list[Image], list[str]]:
    """The images that the table names, and the names of which there is none."""
    names = [table.cell(row, "file") for row in table.rows]
    if nameless := [str(row.line) for row, name in zip(table.rows, names, strict=True) if not name]:
        raise DataError(f"{table.name}: no file is named in line {some(nameless)}")
    paths, missing = listing.finder.find(names, table.folder, table.name)
    rows = [(row, paths[name]) for row, name in zip(table.rows, names, strict=True) if name in paths]
    columns = finding_columns(table, cfg)
    images = [_image(row, path, table, _marks(row, table, columns, cfg.rules.blank)) for row, path in rows]
    return merge_rows(join_labels(images) if cfg.is_multi else images, table.name), missing


def _marks(row: Row, table: Table, columns: dict[str, str], blank: str) -> Marks | None:
    if not columns:
        return None
    cells = {label: row.cells.get(name, "") for label, name in columns.items()}
    return multi_label.read_marks(cells, f"{table.name}, line {row.line}", blank)


def _image(row: Row, path: str, table: Table, marks: Marks | None) -> Image:
    cells = {kind: table.cell(row, kind) for kind in COLUMNS}
    split = parse_split(cells["split"])
    if cells["split"] and not split:
        column = table.columns["split"]
        raise DataError(f"{table.name}, line {row.line}: {column} is {cells['split']!r}, not train, valid or test")
    if not table.columns["split"]:
        split = next((split for folder in ancestors(path) if (split := parse_split(last(folder)))), "")
    return Image(
        path,
        cells["label"] if marks is None else "",
        cells["patient"] or cells["study"],
        split,
        cells["source"],
        parse_sex(cells["sex"]),
        parse_age(cells["age"]),
        parse_view(cells["view"]),
        marks,
    )


TABLE = Layout(
    f"a table with a column for the file (such as {', '.join(COLUMNS['file'][:6])}) and one for the label "
    f"(such as {', '.join(COLUMNS['label'][:5])}); data.columns says what they are called",
    detect_table,
    read_table,
)


# --- NIH ChestX-ray14: Data_Entry_2017.csv with findings joined by |


def detect_nih(listing: Listing, cfg: LayoutConfig) -> str:
    """The table's name and columns."""
    tables = [] if cfg.are_folders(listing) else _nih_tables(listing)
    return f"{tables[0]} has the columns Image Index and Finding Labels" if tables else ""


def read_nih(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for several tables, for broken and for contradicting rows."""
    tables = _nih_tables(listing)
    if not tables:
        return None
    if len(tables) > 1:
        raise DataError(f"data.layout: nih: {some(tables)} all list images and findings: keep one of them")
    table = last(tables[0])
    rows = [row.cells for row in sheets.read_csv(listing.raw / tables[0], NIH_COLUMNS)]
    paths, missing = listing.finder.find([row["image_index"] for row in rows], listing.top, table)
    lists = [(path, NIH_LISTS[last(path)]) for path in listing.paths if last(path) in NIH_LISTS]
    splits = {name: split for path, split in lists for _, name in sheets.read_lines(listing.raw / path)}
    images = [_nih_image(row, paths[row["image_index"]], splits) for row in rows if row["image_index"] in paths]
    images = merge_rows(images, table)
    return Entries(listing.top, images, unlisted(listing, images, table), "file names (NIH)", missing)


def _nih_tables(listing: Listing) -> list[str]:
    paths = [path for path in listing.tables if NIH_TABLE.match(last(path))]
    return [path for path in paths if set(sheets.read_header(listing.raw / path)) >= set(NIH_COLUMNS)]


def _nih_image(row: dict[str, str], path: str, splits: dict[str, str]) -> Image:
    name = row["image_index"]
    return Image(
        path,
        row["finding_labels"],
        name.partition("_")[0] if "_" in name else "",
        splits.get(name, ""),
        sex=parse_sex(row["patient_gender"]),
        age=parse_age(row["patient_age"]),
        view=parse_view(row["view_position"]),
    )


NIH = Layout(
    "Data_Entry_2017*.csv with the columns Image Index, Finding Labels and those of the patient",
    detect_nih,
    read_nih,
    own_tables=True,
)
