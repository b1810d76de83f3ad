"""NIH ChestX-ray14 (Wang et al. 2017): images anywhere, and Data_Entry_2017.csv with findings joined by |."""

import re
from collections import Counter
from collections.abc import Iterator

from xraylab.data.layouts import csvs, values
from xraylab.data.layouts.csvs import Row
from xraylab.data.layouts.finder import Finder
from xraylab.data.layouts.listing import Listing, join, last
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, once
from xraylab.data.names import some
from xraylab.errors import DataError

TABLE = re.compile(r"data_entry_2017.*\.csv", re.IGNORECASE)
NEEDED = ["image_index", "finding_labels", "patient_age", "patient_gender", "view_position"]
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def detect(listing: Listing, wanted: Wanted) -> str:
    """The table's name and columns."""
    tables = [] if wanted.are_folders(listing) else _tables(listing)
    return f"{tables[0]} has the columns Image Index and Finding Labels" if tables else ""


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Errors: DataError for several tables, for broken and for contradicting rows."""
    tables = _tables(listing)
    if not tables:
        return None
    if len(tables) > 1:
        raise DataError(f"data.layout: nih: {some(tables)} all list images and findings: keep one of them")
    rows = [row for _, row in csvs.read(listing.raw / tables[0], NEEDED)]
    names, missing = Finder(listing).find([row["image_index"] for row in rows], listing.top, last(tables[0]))
    sides = dict(_sides(listing))
    images = [_image(row, names[row["image_index"]], sides) for row in rows if row["image_index"] in names]
    images = once(images, last(tables[0]))
    listed = {image.path for image in images}
    left_out = Counter(f"no row in {last(tables[0])}" for path in listing.images if path not in listed)
    return Entries(listing.top, images, left_out, "file names (NIH)", missing)


def _tables(listing: Listing) -> list[str]:
    paths = [join(folder, name) for folder in listing.by_depth for name in listing.files[folder] if TABLE.match(name)]
    return [path for path in paths if set(csvs.header(listing.raw / path)) >= set(NEEDED)]


def _sides(listing: Listing) -> Iterator[tuple[str, str]]:
    """Each listed image's name with its side."""
    for folder, names in listing.files.items():
        for name in set(names) & LISTS.keys():
            yield from ((line, LISTS[name]) for _, line in csvs.lines(listing.raw / folder / name))


def _image(row: Row, path: str, sides: dict[str, str]) -> Image:
    name = row["image_index"]
    return Image(
        path,
        row["finding_labels"],
        name.partition("_")[0] if "_" in name else "",
        sides.get(name, ""),
        sex=values.sex(row["patient_gender"]),
        age=values.age(row["patient_age"]),
        view=values.view(row["view_position"]),
    )


LAYOUT = Layout(
    "Data_Entry_2017*.csv with the columns Image Index, Finding Labels and those of the patient", detect, read
)
