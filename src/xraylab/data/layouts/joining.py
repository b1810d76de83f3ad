"""What tables beside the images tell of them: patient, sex, age, view, side and source, where nothing else does."""

from collections.abc import Callable
from typing import NamedTuple

from xraylab.data.layouts import annotations, values
from xraylab.data.layouts.annotations import Annotations, Table
from xraylab.data.layouts.csvs import Row
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import Listing, is_mask, last
from xraylab.data.layouts.patients import UNKNOWN
from xraylab.data.layouts.records import Entries, Image, Wanted, once
from xraylab.data.names import some
from xraylab.errors import DataError

TIDY: dict[str, Callable[[str], str]] = {
    "patient": str.strip,
    "side": values.side,
    "source": str.strip,
    "sex": values.sex,
    "age": values.age,
    "view": values.view,
}
FINDINGS = "findings.csv"  # beside a folder of masks it says what they show
OF_PATIENTS = ("sex", "age", "source")


class Joined(NamedTuple):
    """The entries with what tables add, and a line for each table: what was taken, or why it was passed over."""

    entries: Entries
    lines: list[str]


def joined(entries: Entries, listing: Listing, wanted: Wanted, labels: list[str]) -> Joined:
    """`labels` are the tables that the layout itself has read.

    Errors: DataError for names that fit several images, and for rows that contradict one another.
    """
    tables = annotations.read(listing, wanted)
    rest = [table for table in tables.of_images if table.name not in labels]
    lines = []
    for table in rest:
        entries, line = _with_images(entries, listing, table)
        lines.append(line)
    for table in tables.of_patients:
        entries, line = _with_patients(entries, table)
        lines.append(line)
    return Joined(entries, [*lines, *_passed_over(tables, wanted)])


def _passed_over(tables: Annotations, wanted: Wanted) -> list[str]:
    lines = [f"{name}: passed over, since {reason}" for name, reason in tables.passed_over.items()]
    if wanted.tables.names and lines:
        raise DataError("data.table: names a table that cannot be used:", lines)
    return lines


def _with_images(entries: Entries, listing: Listing, table: Table) -> tuple[Entries, str]:
    column = table.columns["file"]
    useful = _useful(table, tuple(TIDY))
    if not useful:
        if last(table.name) == FINDINGS and any(is_mask(path, listing.top) for path in listing.images):
            return entries, f"{table.name}: where the masks' findings are, which explain reads"
        none = f"none of its columns ({some(table.header, 20)}) tells of patient, sex, age, view, split or source"
        return entries, f"{table.name}: passed over, since {none}"
    finder = Finder([image.path for image in entries.images if not is_mask(image.path, listing.top)])
    cells = [row.get(column, "") for _, row in table.rows]
    paths, _ = finder.find([cell for cell in cells if cell], table.folder, table.name)
    if not paths:
        example = next((cell for cell in cells if cell), "nothing")
        return entries, f"{table.name}: passed over, since its column {column} names none of the images ({example})"
    told = once((_image(row, paths[cell], useful) for cell, (_, row) in zip(cells, table.rows, strict=True)
                 if cell in paths), table.name)  # fmt: skip
    by_path = {image.path: image for image in told}
    images = [_filled(image, by_path[image.path]) if image.path in by_path else image for image in entries.images]
    tells_patient = "patient" in useful and entries.patients == UNKNOWN
    patients = f"column {useful['patient']}" if tells_patient else entries.patients
    taken = ", ".join(f"{kind} from {name}" for kind, name in useful.items())
    line = f"{table.name}: joined by {column}, {len(by_path)} of {len(images)} images; {taken}"
    return Entries(entries.top, images, entries.left_out, patients, entries.missing), line


def _with_patients(entries: Entries, table: Table) -> tuple[Entries, str]:
    """A table with a row per patient."""
    column, useful = table.columns["patient"], _useful(table, OF_PATIENTS)
    told = once((_image(row, row[column], useful) for _, row in table.rows if row[column]), table.name)
    by_patient = {image.path: image._replace(patient=image.path) for image in told}
    known = [image for image in entries.images if image.patient in by_patient]
    if not known or not useful:
        reason = "it names no image" + ("" if known else f", and its column {column} no patient of an image")
        return entries, f"{table.name}: passed over, since {reason}"
    images = [_filled(image, by_patient.get(image.patient, image)) for image in entries.images]
    taken = ", ".join(f"{kind} from {name}" for kind, name in useful.items())
    line = f"{table.name}: joined by patient ({column}), {len(known)} of {len(images)} images; {taken}"
    return Entries(entries.top, images, entries.left_out, entries.patients, entries.missing), line


def _useful(table: Table, kinds: tuple[str, ...]) -> dict[str, str]:
    """Field of an image -> the table's column for it; a study stands for a patient who is not named."""
    columns = table.columns | {"patient": table.columns["patient"] or table.columns["study"]}
    return {kind: columns[kind] for kind in kinds if columns[kind]}


def _image(row: Row, path: str, useful: dict[str, str]) -> Image:
    return Image(path, "", **{kind: TIDY[kind](row.get(name, "")) for kind, name in useful.items()})


def _filled(image: Image, told: Image) -> Image:
    """The image, where it knows nothing, with what a table tells."""
    return image._replace(**{kind: getattr(image, kind) or getattr(told, kind) for kind in TIDY})
