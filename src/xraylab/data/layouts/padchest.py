"""PadChest (Bustos et al. 2020): one table, with the labels of an image written as a list."""

import ast
import re
from collections.abc import Iterable

from xraylab import targets
from xraylab.data.layouts import sheets
from xraylab.data.layouts.listing import Listing, last
from xraylab.data.layouts.records import (
    Entries,
    Image,
    Layout,
    LayoutConfig,
    merge_rows,
    parse_age,
    parse_sex,
    parse_view,
    unlisted,
)
from xraylab.data.names import some
from xraylab.errors import DataError

COLUMNS = ["imageid", "patientid", "projection", "labels"]
TABLE = re.compile(r"padchest.*\.csv(\.gz)?", re.IGNORECASE)
NO_FINDINGS = {"exclude", "suboptimal study", "unchanged"}
"""Labels that say nothing about what an image shows: with them alone it counts as unlabelled."""


def detect_padchest(listing: Listing, _cfg: LayoutConfig) -> str:
    """The table's name and columns."""
    tables = _tables(listing)
    return f"{tables[0]} has the columns ImageID, PatientID, Projection and Labels" if tables else ""


def read_padchest(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for several tables, for labels that are no list, for rows that contradict one another."""
    tables = _tables(listing)
    if not tables:
        return None
    if len(tables) > 1:
        raise DataError(f"data.layout: padchest: {some(tables)} all list images and labels: keep one of them")
    table = last(tables[0])
    rows = sheets.read_csv(listing.raw / tables[0], COLUMNS)
    paths, missing = listing.finder.find([row.cells["imageid"] for row in rows], listing.top, table)
    images = merge_rows(
        (
            _image(row.cells, paths[row.cells["imageid"]], f"{table}, line {row.line}")
            for row in rows
            if row.cells["imageid"] in paths
        ),
        table,
    )
    return Entries(listing.top, images, unlisted(listing, images, table), "column PatientID", missing)


def _tables(listing: Listing) -> list[str]:
    paths = [path for path in listing.tables if TABLE.fullmatch(last(path))]
    return [path for path in paths if set(COLUMNS) <= set(sheets.read_header(listing.raw / path))]


def _image(cells: dict[str, str], path: str, where: str) -> Image:
    return Image(
        path,
        targets.SEPARATOR.join(_labels(cells["labels"], where)),
        cells["patientid"],
        sex=parse_sex(cells.get("patientsex_dicom", "")),
        age=_age(cells.get("patientbirth", ""), cells.get("studydate_dicom", "")),
        view=parse_view(cells["projection"]),
    )


def _labels(text: str, where: str) -> Iterable[str]:
    """The labels of `['pleural effusion', ' cardiomegaly']`, each once, none of NO_FINDINGS."""
    try:
        labels = ast.literal_eval(text) if text and text.lower() != "nan" else []
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # all that literal_eval raises
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: Labels {text!r} is no list such as ['pleural effusion', 'cardiomegaly']")
    return dict.fromkeys(label.strip() for label in labels if label.strip() and label.strip() not in NO_FINDINGS)


def _age(born: str, taken: str) -> str:
    """Whole years between the year of birth and that of the study (YYYYMMDD), '' where one is unknown."""
    year, study = born.partition(".")[0], taken.partition(".")[0][:4]
    return parse_age(str(int(study) - int(year))) if year.isdigit() and study.isdigit() else ""


PADCHEST = Layout(
    "PADCHEST*.csv with the columns ImageID, PatientID, Projection and Labels",
    detect_padchest,
    read_padchest,
    own_tables=True,
)
