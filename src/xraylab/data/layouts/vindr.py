"""VinDr-CXR (Nguyen et al. 2022): three readers of each training image, and a consensus of five for the test images."""

from collections import defaultdict
from collections.abc import Collection

from xraylab.data.layouts import multi_label, sheets
from xraylab.data.layouts.listing import Listing, last
from xraylab.data.layouts.records import Entries, Image, Layout, LayoutConfig, Marks, unlisted
from xraylab.data.names import some
from xraylab.targets import UNCERTAIN

LABELS = {"image_labels_train.csv": "train", "image_labels_test.csv": "test"}
BOXES = {"train.csv": "train"}  # the competition's: a row per reader and box
SPELLED = {"Other disease": "Other diseases"}  # so in one of the two tables
BOX_COLUMNS = {"image_id", "class_name", "rad_id"}
VIEW = "PA"  # of all images

Votes = dict[str, dict[str, set[str]]]
"""Image -> reader -> the labels that the reader gave."""


def detect_vindr(listing: Listing, _cfg: LayoutConfig) -> str:
    """Tables of labels per image and reader, or of boxes."""
    tables = _tables(listing)
    return f"labels of each image and reader in {some(list(tables))}" if tables else ""


def read_vindr(listing: Listing, cfg: LayoutConfig) -> Entries | None:
    """A finding is there where most readers say so, or any of them: data.readers."""
    tables = _tables(listing)
    if not tables:
        return None
    images: list[Image] = []
    missing: list[str] = []
    for table, split in tables.items():
        votes, labels = _read_boxes(listing, table) if last(table) in BOXES else _read_labels(listing, table)
        paths, absent = listing.finder.find(list(votes), listing.top, last(table))
        missing += absent
        for name, path in paths.items():
            marks = _combined(votes[name], labels, cfg.rules.readers)
            images.append(Image(path, multi_label.positive(marks), split=split, view=VIEW, marks=marks))
    left_out = unlisted(listing, images, some([last(table) for table in tables]))
    return Entries(listing.top, images, left_out, missing=missing, tables=tuple(tables))


def _tables(listing: Listing) -> dict[str, str]:
    """Path -> split; the competition's table only where the others are not there."""
    paths = [path for path in listing.tables if last(path) in LABELS and _header(listing, path)[:1] == ["image_id"]]
    boxes = [path for path in listing.tables if last(path) in BOXES and set(_header(listing, path)) >= BOX_COLUMNS]
    return {path: (LABELS | BOXES)[last(path)] for path in paths or boxes}


def _header(listing: Listing, path: str) -> list[str]:
    return sheets.read_header(listing.raw / path)


def _read_labels(listing: Listing, table: str) -> tuple[Votes, list[str]]:
    """A row per image and reader, of the test images one; a column per label."""
    sheet = sheets.read(listing.raw / table)
    columns = {
        SPELLED.get(title, title): name
        for title, name in zip(sheet.titles, sheet.header, strict=True)
        if name not in ("image_id", "rad_id")
    }
    votes: Votes = defaultdict(dict)
    for row in sheet.rows:
        cells = {label: row.cells[name] for label, name in columns.items()}
        marks = multi_label.read_marks(cells, f"{last(table)}, line {row.line}", "negative")
        votes[row.cells["image_id"]][row.cells.get("rad_id", "")] = {label for label in marks if marks[label] == 1}
    return votes, list(columns)


def _read_boxes(listing: Listing, table: str) -> tuple[Votes, list[str]]:
    votes: Votes = defaultdict(lambda: defaultdict(set))
    labels: dict[str, None] = {}
    for row in sheets.read_csv(listing.raw / table, sorted(BOX_COLUMNS)):
        label = SPELLED.get(row.cells["class_name"], row.cells["class_name"])
        labels[label] = None
        votes[row.cells["image_id"]][row.cells["rad_id"]].add(label)
    return votes, list(labels)


def _combined(votes: dict[str, set[str]], labels: Collection[str], rule: str) -> Marks:
    """Of `majority`, half of an even number of readers leaves a label uncertain."""
    counts = {label: sum(label in each for each in votes.values()) for label in labels}
    if rule == "any":
        return {label: int(count > 0) for label, count in counts.items()}
    n = len(votes)
    return {label: UNCERTAIN if 2 * count == n else int(2 * count > n) for label, count in counts.items()}


VINDR = Layout(
    "image_labels_train.csv or image_labels_test.csv with the column image_id, or train.csv with boxes of readers",
    detect_vindr,
    read_vindr,
    own_tables=True,
)
