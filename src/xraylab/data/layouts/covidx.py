"""COVIDx (Wang et al. 2020): train/, test/ and perhaps val/, with text files of `patient file label source`."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from xraylab.data.layouts import csvs, values
from xraylab.data.layouts.listing import Listing, is_image, join
from xraylab.data.layouts.records import Entries, Image, Layout, Wanted, once, place_of
from xraylab.data.names import natural, some
from xraylab.errors import DataError

LABELS = re.compile(r"(train|test|val|valid|validation)(_COVIDx.*)?\.txt", re.IGNORECASE)


class LabelFile(NamedTuple):
    """A text file, the side that its name says, and that side's images: name -> path below raw."""

    path: str
    side: str
    images: dict[str, str]


def detect(listing: Listing, wanted: Wanted) -> str:
    """Label files whose first line can be read, beside folders of images."""
    found = [] if wanted.are_folders(listing) else _label_files(listing)
    for file in found:
        first = csvs.lines(listing.raw / file.path)[:1]
        if not any(_readings(line.split()) for _, line in first):
            return ""
    return f"{some([file.path for file in found])} list the images of folders" if found else ""


def read(listing: Listing, _wanted: Wanted) -> Entries | None:
    """Errors: DataError for a line that cannot be read, and for lines that contradict one another."""
    found = _label_files(listing)
    if not found:
        return None
    problems: list[str] = []
    missing: list[str] = []
    rows = [row for file in found for row in _rows(file, listing, problems, missing)]
    if problems:
        raise DataError("label files: a line is `patient file label` or `patient file label source`:", problems)
    images = once(rows, some([file.path for file in found]))
    listed = {image.path for image in images}
    left_out = Counter("no row in a label file" for path in listing.images if path not in listed)
    return Entries(_place(listing) or "", images, left_out, "label files (COVIDx)", missing)


def _place(listing: Listing) -> str | None:
    """The folder whose train/ or test/ holds images."""
    return place_of(listing, lambda folder: any(_side_folders(listing, folder)))


def _side_folders(listing: Listing, top: str) -> Iterator[tuple[str, str]]:
    for name in listing.subfolders(top):
        if values.side(name) and listing.holds_directly(join(top, name)):
            yield values.side(name), join(top, name)


def _label_files(listing: Listing) -> list[LabelFile]:
    top = _place(listing)
    if top is None:
        return []
    folders = dict(_side_folders(listing, top))
    images = {
        side: {name: join(folder, name) for name in listing.files[folder] if is_image(name)}
        for side, folder in folders.items()
    }
    paths = sorted((join(folder, name) for folder, names in listing.files.items() for name in names), key=natural)
    matches = [(path, match) for path in paths if (match := LABELS.fullmatch(path.rpartition("/")[2]))]
    return [LabelFile(path, side := values.side(match[1]), images.get(side, {})) for path, match in matches]


def _rows(file: LabelFile, listing: Listing, problems: list[str], missing: list[str]) -> Iterator[Image]:
    for number, line in csvs.lines(listing.raw / file.path):
        readings = _readings(line.split())
        there = [reading for reading in readings if reading[1] in file.images]
        if len(there) > 1 or not readings:
            several = " or ".join(reading[1] for reading in there)
            problems.append(f"{file.path}, line {number}: {line!r}" + (f" names {several}" if several else ""))
        elif there:
            patient, name, label, source = there[0]
            yield Image(file.images[name], label, patient, file.side, source)
        else:
            missing.append(readings[0][1])


def _readings(words: list[str]) -> list[tuple[str, str, str, str]]:
    """Every way to read a line as patient, file, label and source, the one with the shortest file name first.

    A patient and a file name may hold spaces; a file name ends in an image's suffix, a label and a source do not.
    """
    ends = [number for number, word in enumerate(words) if is_image(word)]
    if not ends or ends[-1] == 0 or len(words) - ends[-1] not in {2, 3}:
        return []
    end = ends[-1] + 1
    label, source = [*words[end:], ""][:2]
    return [(" ".join(words[:n]), " ".join(words[n:end]), label, source) for n in reversed(range(1, end))]


LAYOUT = Layout("the folders train and test, and train.txt and test.txt that list their images", detect, read)
