"""The tables that lie beside images: which column names the image, and what the others tell about it."""

from dataclasses import dataclass
from typing import NamedTuple

from xraylab.data.layouts import csvs, matching, sheets
from xraylab.data.layouts.csvs import Row, column
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import Listing, join, last, parent, relative
from xraylab.data.layouts.patients import PATIENTS_FILE
from xraylab.data.layouts.records import Tables, Wanted
from xraylab.data.layouts.sheets import Sheet
from xraylab.data.names import some
from xraylab.errors import DataError, XraylabError

COLUMNS = {  # without case, space, _ and -
    "file": (
        "path", "file", "filename", "image", "imagepath", "filepath", "imageid", "fname", "imageindex", "imagefile",
        "imagefilename", "imagename", "img", "imgpath", "imgname", "dicomid", "dicom", "sopinstanceuid", "id",
    ),
    "label": (
        "label", "labels", "class", "target", "finding", "findings", "findinglabels", "diagnosis", "category",
        "pathology", "disease", "groundtruth",
    ),
    "patient": ("patient", "patientid", "subject", "subjectid", "patientidentifier", "pid", "person", "personid"),
    "study": ("study", "studyid", "studyinstanceuid", "accessionnumber", "exam", "examid"),
    "side": ("split", "side", "set", "subset", "partition"),
    "source": ("source", "site", "hospital", "institution", "center", "centre", "dataset"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "age": ("age", "patientage", "ageyears"),
    "view": ("view", "viewposition", "projection", "viewpoint"),
}  # fmt: skip
MOST_TABLES = 30  # more are one per image, and no tables of images
MOSTLY = 0.5  # of its cells name images: then a column is one of files, whatever it is called


class Table(NamedTuple):
    """A table of images; `columns` has its own name for each of COLUMNS, '' where it has none."""

    name: str  # its path below the listing's top
    folder: str
    columns: dict[str, str]
    header: list[str]
    rows: list[tuple[int, Row]]


@dataclass(frozen=True)
class Annotations:
    """The tables that name images, those that tell about patients alone, and why each other one is passed over."""

    of_images: list[Table]
    of_patients: list[Table]
    passed_over: dict[str, str]


def read(listing: Listing, wanted: Wanted) -> Annotations:
    """All tables of the listing, or those that data.table names, each read once.

    Errors: DataError for a table of data.table or a column of data.columns that is not there or cannot be used.
    """
    if wanted.tables not in listing.annotations:
        listing.annotations[wanted.tables] = _read(listing, wanted.tables)
    result: Annotations = listing.annotations[wanted.tables]
    return result


def _read(listing: Listing, cfg: Tables) -> Annotations:
    names = _named(listing, cfg.names) if cfg.names is not None else _all(listing)
    finder = Finder(listing)
    result = Annotations([], [], {relative(name, listing.top): "too many tables" for name in names[MOST_TABLES:]})
    headers: dict[str, list[str]] = {}
    for path in names[:MOST_TABLES]:
        name = relative(path, listing.top)
        try:
            sheet = sheets.read(listing.raw / path)
        except XraylabError as error:
            if cfg.names is not None or _names_files(listing, path):
                raise
            result.passed_over[name] = f"it cannot be read ({error})"
            continue
        headers[name] = sheet.header
        table = _table(name, path, sheet, cfg, finder)
        if table.columns["file"]:
            result.of_images.append(table)
        elif table.columns["patient"]:
            result.of_patients.append(table)
        else:
            result.passed_over[name] = f"none of its columns names images: {some(sheet.header, 20) or 'it is empty'}"
    _refuse_absent_columns(headers, cfg)
    return result


def _all(listing: Listing) -> list[str]:
    paths = [join(folder, name) for folder in listing.by_depth for name in listing.tables(folder)]
    return [path for path in paths if path != join(listing.top, PATIENTS_FILE)]


def _named(listing: Listing, names: tuple[str, ...]) -> list[str]:
    every = [join(folder, name) for folder in listing.by_depth for name in listing.tables(folder)]
    found = [
        next((path for path in every if path == name or relative(path, listing.top) == name or last(path) == name), "")
        for name in names
    ]
    absent = [name for name, path in zip(names, found, strict=True) if not path]
    if absent:
        there = some([relative(path, listing.top) for path in every], 20) or "no table"
        raise DataError(f"data.table: {some(absent)} is not in the source, which has {there}")
    return found


def _names_files(listing: Listing, path: str) -> bool:
    """Whether a table that cannot be read looks like one of images all the same."""
    try:
        header = csvs.header(listing.raw / path) if path.lower().endswith((".csv", ".tsv")) else []
    except OSError:
        return False
    return any(matching.key(name) in COLUMNS["file"] for name in header) and any(
        matching.key(name) in COLUMNS[kind] for kind in COLUMNS if kind != "file" for name in header
    )


def _table(name: str, path: str, sheet: Sheet, cfg: Tables, finder: Finder) -> Table:
    columns = {kind: _column(kind, sheet.header, cfg, name) for kind in COLUMNS}
    if "file" not in dict(cfg.columns):
        columns["file"] = _file_column(name, sheet, columns, finder, parent(path))
    if columns["patient"] == columns["file"] and columns["file"]:
        columns["patient"] = ""  # images that are named after their patients say so themselves
    return Table(name, parent(path), columns, sheet.header, sheet.rows)


def _column(kind: str, header: list[str], cfg: Tables, table: str) -> str:
    """The column that data.columns names where the table has it, else the first that is called so."""
    named = dict(cfg.columns)
    if kind in named:
        wanted = matching.key(named[kind] or "")
        return next((name for name in header if wanted and matching.key(name) == wanted), "")
    by_key = {matching.key(name): name for name in reversed(header)}
    known = next((by_key[key] for key in COLUMNS[kind] if key in by_key), "")
    return column(header, (known,), table) if known else ""


def _file_column(table: str, sheet: Sheet, columns: dict[str, str], finder: Finder, folder: str) -> str:
    """The known column that names most images; else one that mostly names images, whatever it is called."""
    by_key = {matching.key(name): name for name in reversed(sheet.header)}
    known = [by_key[key] for key in COLUMNS["file"] if key in by_key]
    taken = {columns[kind] for kind in COLUMNS if kind not in ("file", "patient", "study")}
    named = {name: _named_share(sheet, name, finder, folder) for name in known}
    if not any(named.values()):
        others = [name for name in sheet.header if name not in taken and name not in known]
        shares = {name: _named_share(sheet, name, finder, folder) for name in others}
        named |= {name: share for name, share in shares.items() if share > MOSTLY}
    best = max(named, key=lambda name: named[name], default="")
    _refuse_several(table, sheet, best, named, finder, folder)
    return best if named.get(best) or not columns["patient"] else ""


def _named_share(sheet: Sheet, name: str, finder: Finder, folder: str) -> float:
    cells = {row[name] for _, row in sheet.rows if row.get(name)}
    return sum(bool(finder.candidates(cell, folder)) for cell in cells) / len(cells) if cells else 0.0


def _refuse_several(table: str, sheet: Sheet, best: str, named: dict[str, float], finder: Finder, folder: str) -> None:
    """Errors: DataError where two columns name other images in one row: a row is of one image."""
    for name, share in named.items():
        if name == best or share <= MOSTLY:
            continue
        for number, row in sheet.rows[:100]:
            one, other = (finder.candidates(row[each], folder) for each in (best, name))
            if one and other and not set(one) & set(other):
                raise DataError(
                    f"{table}, line {number}: the columns {best} and {name} name two images: "
                    "write a row for each image, or say which column counts with data.columns: {file: ...}"
                )


def _refuse_absent_columns(headers: dict[str, list[str]], cfg: Tables) -> None:
    every = {matching.key(name) for header in headers.values() for name in header}
    absent = [f"{kind}: {name}" for kind, name in cfg.columns if name and matching.key(name) not in every]
    if absent:
        there = [f"{name} has {some(header, 30)}" for name, header in headers.items()]
        raise DataError(f"data.columns: no table has {some(absent)}; the source has", there or ["no table"])


def unlabelled(listing: Listing, wanted: Wanted) -> list[str]:
    """Why no table gives labels, a line for each."""
    tables = read(listing, wanted)
    lines = [f"{name}: passed over, since {reason}" for name, reason in tables.passed_over.items()]
    for table in [*tables.of_images, *tables.of_patients]:
        if not table.columns["label"]:
            what = f"the image ({table.columns['file']})" if table.columns["file"] else "the patient"
            lines.append(
                f"{table.name}: has a column of {what}, and none of labels that is known by its name; "
                f"its columns are {some(table.header, 30)}: write data.columns: {{label: ...}}, "
                "or --column label=NAME with `xraylab new` and `xraylab init`"
            )
        else:
            lines.append(f"{table.name}: its column {table.columns['file']} names too few of the images")
    return lines
