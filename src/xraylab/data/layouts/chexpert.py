"""Data sets that the CheXpert labeler labelled: CheXpert (Irvin et al. 2019) and MIMIC-CXR (Johnson et al. 2019)."""

import re
from collections import Counter, defaultdict

from xraylab.data.layouts import multi_label, sheets
from xraylab.data.layouts.listing import Listing, last, stem
from xraylab.data.layouts.records import (
    Entries,
    Image,
    Layout,
    LayoutConfig,
    Marks,
    merge_rows,
    parse_age,
    parse_sex,
    parse_split,
    parse_view,
    unlisted,
)
from xraylab.data.names import some
from xraylab.errors import DataError

FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
"""Each 1, 0, -1 (uncertain) or blank (not mentioned in the report)."""
COLUMNS = {sheets.normalize_name(name): name for name in FINDINGS}
TAIL = re.compile(r"(?P<split>train|valid|val|test)/(?P<patient>patient\d+)/study\d+/[^/]+$", re.IGNORECASE)
CHEXPERT_TABLES = ("train.csv", "valid.csv", "val_labels.csv", "test.csv", "test_labels.csv")
MIMIC_TABLE = re.compile(r"mimic-cxr-[\d.]+-(chexpert|negbio|split|metadata)\.csv(\.gz)?", re.IGNORECASE)
MIMIC_FOLDERS = re.compile(r"p(\d+)/s(\d+)/[^/]+$")


# --- CheXpert: train.csv and valid.csv, and (train|valid|test)/patient00001/study1/view1_frontal.jpg


def detect_chexpert(listing: Listing, cfg: LayoutConfig) -> str:
    """Tables with Path and the 14 findings."""
    tables = _chexpert_tables(listing, cfg)
    return f"{some(tables)} {'have' if len(tables) > 1 else 'has'} Path and the 14 findings" if tables else ""


def read_chexpert(listing: Listing, cfg: LayoutConfig) -> Entries | None:
    """The official splits; valid, which radiologists labelled, is the test split where no table lists that.

    Errors: DataError for copies of an image, for cells that are no labels and rows that contradict one another.
    """
    tables = _chexpert_tables(listing, cfg)
    if not tables:
        return None
    path_of, missing = _by_tail(listing), list[str]()
    images: list[Image] = []
    for table in tables:
        for row in sheets.read_csv(listing.raw / table):
            name, where = row.cells["path"], f"{last(table)}, line {row.line}"
            match = TAIL.search(name)
            if not match:
                raise DataError(f"{where}: Path {name!r} does not end as train/patient00001/study1/view1_frontal.jpg")
            if path := path_of.get(_tail(match)):
                images.append(_chexpert_image(row.cells, path, match, where, cfg.rules.blank))
            else:
                missing.append(name)
    if not any(image.split == "test" for image in images):
        images = [image._replace(split=image.split.replace("valid", "test")) for image in images]
    title = some([last(table) for table in tables])
    images = merge_rows(images, title)
    return Entries(listing.top, images, unlisted(listing, images, title), "folders (CheXpert)", missing, tuple(tables))


def _chexpert_tables(listing: Listing, cfg: LayoutConfig) -> list[str]:
    """Those of the data set; others of its kind, labelled anew, where data.table names them."""
    names = cfg.tables.names
    paths = [
        path for path in listing.tables if (last(path) in CHEXPERT_TABLES if names is None else last(path) in names)
    ]
    needed = {"path", *COLUMNS}
    return [path for path in paths if path.endswith(".csv") and needed <= set(sheets.read_header(listing.raw / path))]


def _by_tail(listing: Listing) -> dict[str, str]:
    paths: dict[str, list[str]] = defaultdict(list)
    for path in listing.images:
        if match := TAIL.search(path):
            paths[_tail(match)].append(path)
    if twice := [some(several, 2) for several in paths.values() if len(several) > 1]:
        raise DataError(f"data.layout: chexpert: one image lies in two places: {some(twice)}: keep one copy")
    return {tail: path for tail, (path,) in paths.items()}


def _tail(match: re.Match[str]) -> str:
    """The path from the split's folder down, in one spelling and without the file's suffix."""
    return re.sub("^val/", "valid/", match[0].lower()).rpartition(".")[0]


def _chexpert_image(cells: dict[str, str], path: str, match: re.Match[str], where: str, blank: str) -> Image:
    marks = _marks(cells, where, blank)
    projection = cells.get("frontal/lateral", "") or ("Lateral" if "lateral" in last(path) else "")
    return Image(
        path,
        multi_label.positive(marks),
        match["patient"],
        parse_split(match["split"]),
        sex=parse_sex(cells.get("sex", "")),
        age=parse_age(cells.get("age", "")),
        view=parse_view(projection if projection.lower() == "lateral" else cells.get("ap/pa", "") or projection),
        marks=marks,
    )


def _marks(cells: dict[str, str], where: str, blank: str) -> Marks:
    return multi_label.read_marks({name: cells[column] for column, name in COLUMNS.items()}, where, blank)


CHEXPERT = Layout(
    "train.csv or valid.csv with the columns Path and the 14 findings, and the folders train/patient00001/study1",
    detect_chexpert,
    read_chexpert,
    own_tables=True,
)


# --- MIMIC-CXR: tables of labels per study, of splits and of views, and files/p10/p10000032/s50414267/<dicom_id>.jpg


def detect_mimic(listing: Listing, cfg: LayoutConfig) -> str:
    """The name of a table of labels."""
    name, *others = [*_mimic_tables(listing, cfg).values(), ""]
    return f"{name} has labels of studies" + (f", beside {some(others[:-1])}" if others[:-1] else "") if name else ""


def read_mimic(listing: Listing, cfg: LayoutConfig) -> Entries | None:
    """Labels are those of a study, for each of its images. Errors: DataError for cells that are no labels."""
    tables = _mimic_tables(listing, cfg)
    if not tables:
        return None
    rows = {kind: sheets.read_csv(listing.raw / path) for kind, path in tables.items()}
    marks_of: dict[str, Marks] = {}
    for row in rows["labels"]:
        marks_of[row.cells["study_id"]] = _marks(
            row.cells, f"{last(tables['labels'])}, line {row.line}", cfg.rules.blank
        )
    facts: dict[str, dict[str, str]] = defaultdict(dict)
    for kind in ("split", "metadata"):
        for row in rows.get(kind, []):
            facts[row.cells["dicom_id"]] |= row.cells
    images = [_mimic_image(path, facts.get(stem(path), {}), marks_of) for path in listing.images]
    used = [image for image in images if image is not None]
    left_out = Counter(f"no row of its study in {last(tables['labels'])}" for image in images if image is None)
    present = {stem(path) for path in listing.images}
    missing = [name for name in facts if name not in present]
    return Entries(listing.top, used, left_out, "folders (MIMIC-CXR)", missing, tuple(tables.values()))


def _mimic_tables(listing: Listing, cfg: LayoutConfig) -> dict[str, str]:
    """labels, split and metadata -> path; of two tables of labels that of the CheXpert labeler, or the one named."""
    matches = {path: match[1].lower() for path in listing.tables if (match := MIMIC_TABLE.fullmatch(last(path)))}
    labels = [path for path, kind in matches.items() if kind in ("chexpert", "negbio")]
    named = [path for path in labels if last(path) in (cfg.tables.names or ())]
    labels = named or sorted(labels, key=lambda path: matches[path] != "chexpert")
    others = {kind: path for path, kind in matches.items() if kind in ("split", "metadata")}
    return {"labels": labels[0]} | others if labels else {}


def _mimic_image(path: str, facts: dict[str, str], marks_of: dict[str, Marks]) -> Image | None:
    """None without labels of its study."""
    folders = MIMIC_FOLDERS.search(path)
    patient, study = folders.groups() if folders else (facts.get("subject_id", ""), facts.get("study_id", ""))
    marks = marks_of.get(study)
    if marks is None:
        return None
    split, view = parse_split(facts.get("split", "")), parse_view(facts.get("viewposition", ""))
    return Image(path, multi_label.positive(marks), patient, split, view=view, marks=marks)


MIMIC_CXR = Layout(
    "mimic-cxr-2.0.0-chexpert.csv or -negbio.csv, and files/p10/p10000032/s50414267/<dicom_id>.jpg",
    detect_mimic,
    read_mimic,
    own_tables=True,
)
