"""Tables beside images: which column names the image, and what the others tell of it where nothing else does."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from xraylab.data.layouts import multi_label, records, sheets
from xraylab.data.layouts.labels import spelling_key
from xraylab.data.layouts.listing import Finder, Listing, is_mask, join, last, parent, relative
from xraylab.data.layouts.patients import PATIENTS_FILE
from xraylab.data.layouts.records import UNKNOWN, Entries, Image, LayoutConfig, TableConfig, merge_rows
from xraylab.data.layouts.sheets import Row, Sheet
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
    "split": ("split", "side", "set", "subset", "partition"),
    "source": ("source", "site", "hospital", "institution", "center", "centre", "dataset"),
    "sex": ("sex", "gender", "patientsex", "patientgender"),
    "age": ("age", "patientage", "ageyears"),
    "view": ("view", "viewposition", "projection", "viewpoint"),
}  # fmt: skip
PARSERS: dict[str, Callable[[str], str]] = {
    "patient": str.strip,
    "split": records.parse_split,
    "source": str.strip,
    "sex": records.parse_sex,
    "age": records.parse_age,
    "view": records.parse_view,
}
"""Field of an image -> how a cell is read."""
OF_PATIENTS = ("sex", "age", "source")
FINDINGS = "findings.csv"  # beside a folder of masks it says what they show
MAX_TABLES = 30  # more are one per image, and no tables of images
MOSTLY = 0.5  # of its cells name images: then a column is one of files, whatever it is called


@dataclass(frozen=True)
class Table:
    """A table of images or patients; `columns` has its own name for each of COLUMNS, '' where it has none."""

    name: str  # its path below the listing's top
    folder: str
    columns: dict[str, str]
    header: list[str]
    rows: list[Row]
    titles: list[str]  # the header as it is written

    def cell(self, row: Row, kind: str) -> str:
        """The row's cell in the column of this kind, '' where there is none."""
        return row.cells.get(self.columns[kind], "")

    @cached_property
    def findings(self) -> list[str]:
        """The titles of the columns whose cells are all labels of a finding."""
        named = set(self.columns.values())
        return [
            title
            for title, name in zip(self.titles, self.header, strict=True)
            if name not in named and multi_label.are_marks(row.cells.get(name, "") for row in self.rows)
        ]

    def fields(self, kinds: tuple[str, ...]) -> dict[str, str]:
        """Field of an image -> the table's column for it; a study stands for a patient who is not named."""
        columns = self.columns | {"patient": self.columns["patient"] or self.columns["study"]}
        return {kind: columns[kind] for kind in kinds if columns[kind]}

    def image(self, row: Row, path: str, fields: dict[str, str]) -> Image:
        """The image with these fields taken from the row."""
        texts: dict[str, Any] = {kind: PARSERS[kind](row.cells.get(name, "")) for kind, name in fields.items()}
        return Image(path, "", **texts)


@dataclass(frozen=True)
class Annotations:
    """The tables that name images, those that tell of patients alone, and why each other one is passed over."""

    of_images: list[Table]
    of_patients: list[Table]
    passed_over: dict[str, str]

    def lines(self) -> list[str]:
        """A line for each table that is passed over."""
        return [f"{name}: passed over, since {reason}" for name, reason in self.passed_over.items()]


@lru_cache(maxsize=2)
def read(listing: Listing, cfg: TableConfig) -> Annotations:
    """All tables of the listing, or those that data.table names.

    Errors: DataError for a table of data.table or a column of data.columns that is not there or cannot be used.
    """
    patients_file = join(listing.top, PATIENTS_FILE)
    paths = (
        [path for path in listing.tables if path != patients_file] if cfg.names is None else _named(listing, cfg.names)
    )
    result = Annotations([], [], {relative(path, listing.top): "too many tables" for path in paths[MAX_TABLES:]})
    headers: dict[str, list[str]] = {}
    for path in paths[:MAX_TABLES]:
        name = relative(path, listing.top)
        try:
            sheet = sheets.read(listing.raw / path)
        except XraylabError as error:
            if cfg.names is not None or _names_files(listing, path):
                raise
            result.passed_over[name] = f"it cannot be read ({error})"
            continue
        headers[name] = sheet.header
        table = _table(name, parent(path), sheet, cfg, listing.finder)
        if table.columns["file"]:
            result.of_images.append(table)
        elif table.columns["patient"]:
            result.of_patients.append(table)
        else:
            result.passed_over[name] = f"none of its columns names images: {some(sheet.header, 20) or 'it is empty'}"
    _refuse_absent_columns(headers, cfg)
    return result


def _named(listing: Listing, names: tuple[str, ...]) -> list[str]:
    """The paths of the tables that data.table names, by path or file name."""
    paths = {
        name: next((path for path in listing.tables if name in (path, relative(path, listing.top), last(path))), "")
        for name in names
    }
    if absent := [name for name in names if not paths[name]]:
        present = some([relative(path, listing.top) for path in listing.tables], 20) or "no table"
        raise DataError(f"data.table: {some(absent)} is not in the source, which has {present}")
    return [paths[name] for name in names]


def _names_files(listing: Listing, path: str) -> bool:
    """Return whether an unreadable table looks like a table of images."""
    try:
        header = sheets.read_header(listing.raw / path) if path.lower().endswith((".csv", ".tsv", ".csv.gz")) else []
    except (OSError, EOFError):
        return False
    keys = {spelling_key(name) for name in header}
    other_columns = {key for kind in COLUMNS if kind != "file" for key in COLUMNS[kind]}
    return bool(keys & set(COLUMNS["file"]) and keys & other_columns)


def _table(name: str, folder: str, sheet: Sheet, cfg: TableConfig, finder: Finder) -> Table:
    columns = {kind: _column(kind, sheet.header, cfg, name) for kind in COLUMNS}
    if "file" not in dict(cfg.columns):
        columns["file"] = _file_column(name, folder, sheet, columns, finder)
    if columns["patient"] == columns["file"] and columns["file"]:
        columns["patient"] = ""  # images that are named after their patients say so themselves
    return Table(name, folder, columns, sheet.header, sheet.rows, sheet.titles)


def _column(kind: str, header: list[str], cfg: TableConfig, table: str) -> str:
    """The column that data.columns names where the table has it, else the first whose name is known."""
    by_key = {spelling_key(name): name for name in reversed(header)}
    named = dict(cfg.columns)
    if kind in named:
        return by_key.get(spelling_key(named[kind] or ""), "") if named[kind] else ""
    column = next((by_key[key] for key in COLUMNS[kind] if key in by_key), "")
    if column and header.count(column) > 1:
        raise DataError(f"{table}: has the column {column} twice, in {some(header, 20)}")
    return column


def _file_column(table: str, folder: str, sheet: Sheet, columns: dict[str, str], finder: Finder) -> str:
    """The known column that names most images; else one that mostly names images, whatever it is called."""

    def share_named(name: str) -> float:
        cells = {row.cells[name] for row in sheet.rows if row.cells.get(name)}
        return sum(bool(finder.candidates(cell, folder)) for cell in cells) / len(cells) if cells else 0.0

    by_key = {spelling_key(name): name for name in reversed(sheet.header)}
    usual = [by_key[key] for key in COLUMNS["file"] if key in by_key]
    used = {columns[kind] for kind in COLUMNS if kind not in ("file", "patient", "study")}
    shares = {name: share_named(name) for name in usual}
    if not any(shares.values()):
        other_shares = {name: share_named(name) for name in sheet.header if name not in used and name not in usual}
        shares |= {name: share for name, share in other_shares.items() if share > MOSTLY}
    best = max(shares, key=lambda name: shares[name], default="")
    for name in (name for name, share in shares.items() if name != best and share > MOSTLY):
        for row in sheet.rows[:100]:
            one, other = (set(finder.candidates(row.cells[each], folder)) for each in (best, name))
            if one and other and not one & other:
                raise DataError(
                    f"{table}, line {row.line}: the columns {best} and {name} name two images: "
                    "write a row for each image, or say which column counts with data.columns: {file: ...}"
                )
    return best if shares.get(best) or not columns["patient"] else ""


def _refuse_absent_columns(headers: dict[str, list[str]], cfg: TableConfig) -> None:
    keys = {spelling_key(name) for header in headers.values() for name in header}
    absent = [f"{kind}: {name}" for kind, name in cfg.columns if name and spelling_key(name) not in keys]
    if absent:
        present = [f"{name} has {some(header, 30)}" for name, header in headers.items()]
        raise DataError(f"data.columns: no table has {some(absent)}; the source has", present or ["no table"])


def why_unlabelled(listing: Listing, cfg: TableConfig) -> list[str]:
    """Explain for each table why it gives no labels."""
    tables = read(listing, cfg)
    lines = tables.lines()
    for table in [*tables.of_images, *tables.of_patients]:
        if len(findings := table.findings) > 1:
            lines.append(f"{table.name}: has findings ({some(findings, 5)}), a column each: set data.task: multi-label")
        elif not table.columns["label"]:
            subject = f"the image ({table.columns['file']})" if table.columns["file"] else "the patient"
            lines.append(
                f"{table.name}: has a column of {subject}, and none of labels that is known by its name; "
                f"its columns are {some(table.header, 30)}: write data.columns: {{label: ...}}, "
                "or --column label=NAME with `xraylab new` and `xraylab init`"
            )
        else:
            lines.append(f"{table.name}: its column {table.columns['file']} names too few of the images")
    return lines


def join_tables(entries: Entries, listing: Listing, cfg: LayoutConfig) -> tuple[Entries, list[str]]:
    """The entries with what other tables tell, and a line for each table: what was taken, or why it is passed over.

    Errors: DataError for names that fit several images, and for rows that contradict one another.
    """
    tables, lines, entry_tables = read(listing, cfg.tables), [], entries.tables
    for table in tables.of_images:
        if table.name not in entry_tables:
            entries, line = _join_by_image(entries, listing, table)
            lines.append(f"{table.name}: {line}")
    for table in tables.of_patients:
        entries, line = _join_by_patient(entries, table)
        lines.append(f"{table.name}: {line}")
    passed_over = tables.lines()
    if cfg.tables.names and passed_over:
        raise DataError("data.table: names a table that cannot be used:", passed_over)
    return entries, [*lines, *passed_over]


def _join_by_image(entries: Entries, listing: Listing, table: Table) -> tuple[Entries, str]:
    fields = table.fields(tuple(PARSERS))
    if not fields:
        if last(table.name) == FINDINGS and any(is_mask(path, listing.top) for path in listing.images):
            return entries, "where the masks' findings are, which explain reads"
        none = f"none of its columns ({some(table.header, 20)}) tells of patient, sex, age, view, split or source"
        return entries, f"passed over, since {none}"
    finder = Finder(image.path for image in entries.images if not is_mask(image.path, listing.top))
    names = [name for row in table.rows if (name := table.cell(row, "file"))]
    paths, _ = finder.find(names, table.folder, table.name)
    column = table.columns["file"]
    if not paths:
        return entries, f"passed over, since its column {column} names none of the images ({(names or ['nothing'])[0]})"
    rows = [(row, paths[name]) for row in table.rows if (name := table.cell(row, "file")) in paths]
    by_path = {
        image.path: image for image in merge_rows((table.image(row, path, fields) for row, path in rows), table.name)
    }
    images = [_filled(image, by_path.get(image.path, image)) for image in entries.images]
    patients = (
        f"column {fields['patient']}" if "patient" in fields and entries.patients == UNKNOWN else entries.patients
    )
    line = f"joined by {column}, {len(by_path)} of {len(images)} images; {_describe_fields(fields)}"
    return replace(entries, images=images, patients=patients), line


def _join_by_patient(entries: Entries, table: Table) -> tuple[Entries, str]:
    """Join a table with a row per patient."""
    column, fields = table.columns["patient"], table.fields(OF_PATIENTS)
    rows = [(row, name) for row in table.rows if (name := table.cell(row, "patient"))]
    people = merge_rows((table.image(row, name, fields) for row, name in rows), table.name)
    by_patient = {person.path: person._replace(patient=person.path) for person in people}
    n_known = sum(image.patient in by_patient for image in entries.images)
    if not n_known or not fields:
        reason = "it names no image" + ("" if n_known else f", and its column {column} no patient of an image")
        return entries, f"passed over, since {reason}"
    images = [_filled(image, by_patient.get(image.patient, image)) for image in entries.images]
    line = f"joined by patient ({column}), {n_known} of {len(images)} images; {_describe_fields(fields)}"
    return replace(entries, images=images), line


def _describe_fields(fields: dict[str, str]) -> str:
    return ", ".join(f"{kind} from {name}" for kind, name in fields.items())


def _filled(image: Image, other: Image) -> Image:
    """The image with what a table tells, where it knows nothing itself."""
    return image._replace(**{kind: getattr(image, kind) or getattr(other, kind) for kind in PARSERS})
