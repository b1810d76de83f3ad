"""Films of COVID-19: the COVID-19 Radiography Database (Chowdhury et al. 2020) and COVIDx (Wang et al. 2020)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from xraylab.data.layouts import sheets
from xraylab.data.layouts.listing import Listing, is_below, is_image, is_mask, join, last, relative, stem
from xraylab.data.layouts.records import (
    Entries,
    Image,
    Layout,
    LayoutConfig,
    merge_rows,
    other_folder,
    parse_split,
    sort_images,
    unlisted,
)
from xraylab.data.names import natural, some
from xraylab.errors import DataError

METADATA = ".metadata.xlsx"
LABEL_FILE = re.compile(r"(train|test|val|valid|validation)(_COVIDx.*)?\.txt", re.IGNORECASE)


# --- COVID-19 Radiography Database: <Class>/images, <Class>/masks and <Class>.metadata.xlsx


def detect_radiography(listing: Listing, _cfg: LayoutConfig) -> str:
    """Nothing but such classes: a folder of another shape beside them makes it another data set."""
    top = _radiography_top(listing)
    if top is None or (classes := _radiography_classes(listing, top)) != listing.subfolders(top):
        return ""
    return f"{some(classes)} lie beside their {METADATA}, or hold images and masks"


def read_radiography(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for a table that cannot be read or contradicts itself."""
    top = _radiography_top(listing)
    if top is None:
        return None
    sources = {name: _radiography_sources(listing, top, name) for name in _radiography_classes(listing, top)}

    def describe(path: str) -> Image | str:
        label = relative(path, top).partition("/")[0] if is_below(path, top) else ""
        if is_mask(path, top):
            return "masks"
        if label not in sources:
            return other_folder(path, top)
        return Image(path, label, source=sources[label].get(_file_key(path), ("", ""))[1])

    images, left_out = sort_images(listing, describe)
    present = {(image.label, _file_key(image.path)) for image in images}
    rows = [(label, key, name) for label, several in sources.items() for key, (name, _) in several.items()]
    return Entries(top, images, left_out, missing=[name for label, key, name in rows if (label, key) not in present])


def _radiography_top(listing: Listing) -> str | None:
    def fits(folder: str) -> bool:
        classes = _radiography_classes(listing, folder)
        tables = any(_metadata(listing, folder, name) for name in classes)
        masks = any("masks" in listing.subfolders(join(folder, name)) for name in classes)
        return len(classes) > 1 and (tables or masks)

    return listing.shallowest(fits)


def _radiography_classes(listing: Listing, top: str) -> list[str]:
    """The folders with images/ in them or, in the older releases, with a table beside them."""
    return [
        name
        for name in listing.subfolders(top)
        if "images" in listing.subfolders(join(top, name)) or _metadata(listing, top, name)
    ]


def _metadata(listing: Listing, top: str, name: str) -> str:
    """The class's table below raw, '' where there is none."""
    return next((join(top, file) for file in listing.files[top] if file.lower() == f"{name}{METADATA}".lower()), "")


def _radiography_sources(listing: Listing, top: str, name: str) -> dict[str, tuple[str, str]]:
    """Key of the file's name -> the name as it is written, and its URL."""
    path = listing.raw / _metadata(listing, top, name)
    if path == listing.raw:
        return {}
    sheet = sheets.read(path)
    if not {"file_name", "url"} <= set(sheet.header):
        raise DataError(f"{path.name}: needs the columns FILE NAME and URL, has {', '.join(sheet.header).upper()}")
    sources: dict[str, tuple[str, str]] = {}
    conflicts = []
    for row in sheet.rows:
        file, url = row.cells["file_name"], row.cells["url"]
        if sources.setdefault(_file_key(file), (file, url))[1] != url:
            conflicts.append(file)
    if conflicts:
        raise DataError(f"{path.name}: rows of one image contradict one another: {some(conflicts)}")
    return sources


def _file_key(name: str) -> str:
    return stem(name).lower()


COVID_RADIOGRAPHY = Layout(
    f"class folders that hold images/ and masks/, or lie beside their {METADATA}",
    detect_radiography,
    read_radiography,
    own_tables=True,
)


# --- COVIDx: train/, test/ and perhaps val/, with text files of `patient file label source`


class LabelFile(NamedTuple):
    """A text file, the split that its name says, and that split's images: name -> path below raw."""

    path: str
    split: str
    images: dict[str, str]


def detect_covidx(listing: Listing, cfg: LayoutConfig) -> str:
    """Label files whose first line can be read, beside folders of images."""
    label_files = [] if cfg.are_folders(listing) else _label_files(listing)
    for file in label_files:
        first = sheets.read_lines(listing.raw / file.path)[:1]
        if not any(_interpretations(line.split()) for _, line in first):
            return ""
    return f"{some([file.path for file in label_files])} list the images of folders" if label_files else ""


def read_covidx(listing: Listing, _cfg: LayoutConfig) -> Entries | None:
    """Errors: DataError for a line that cannot be read, and for lines that contradict one another."""
    label_files = _label_files(listing)
    if not label_files:
        return None
    problems: list[str] = []
    missing: list[str] = []
    rows = [row for file in label_files for row in _images_of(file, listing, problems, missing)]
    if problems:
        raise DataError("label files: a line is `patient file label` or `patient file label source`:", problems)
    images = merge_rows(rows, some([file.path for file in label_files]))
    left_out = unlisted(listing, images, "a label file")
    return Entries(_covidx_top(listing) or "", images, left_out, "label files (COVIDx)", missing)


def _covidx_top(listing: Listing) -> str | None:
    """The folder whose train/ or test/ holds images."""
    return listing.shallowest(lambda folder: bool(_split_folders(listing, folder)))


def _split_folders(listing: Listing, top: str) -> dict[str, str]:
    folders = ((parse_split(name), join(top, name)) for name in listing.subfolders(top))
    return {split: folder for split, folder in folders if split and listing.holds_directly(folder)}


def _label_files(listing: Listing) -> list[LabelFile]:
    top = _covidx_top(listing)
    if top is None:
        return []
    images = {
        split: {name: join(folder, name) for name in listing.files[folder] if is_image(name)}
        for split, folder in _split_folders(listing, top).items()
    }
    matches = [(path, match) for path in listing.paths if (match := LABEL_FILE.fullmatch(last(path)))]
    matches.sort(key=lambda pair: natural(pair[0]))
    return [LabelFile(path, split := parse_split(match[1]), images.get(split, {})) for path, match in matches]


def _images_of(file: LabelFile, listing: Listing, problems: list[str], missing: list[str]) -> Iterator[Image]:
    for number, line in sheets.read_lines(listing.raw / file.path):
        interpretations = _interpretations(line.split())
        present = [each for each in interpretations if each[1] in file.images]
        if len(present) > 1 or not interpretations:
            names = " or ".join(name for _, name, _, _ in present)
            problems.append(f"{file.path}, line {number}: {line!r}" + (f" names {names}" if names else ""))
        elif present:
            patient, name, label, source = present[0]
            yield Image(file.images[name], label, patient, file.split, source)
        else:
            missing.append(interpretations[0][1])


def _interpretations(words: list[str]) -> list[tuple[str, str, str, str]]:
    """Every way to read a line as patient, file, label and source, the one with the shortest file name first.

    A patient and a file name may hold spaces; a file name ends in an image's suffix, a label and a source do not.
    """
    ends = [number for number, word in enumerate(words) if is_image(word)]
    if not ends or ends[-1] == 0 or len(words) - ends[-1] not in {2, 3}:
        return []
    end = ends[-1] + 1
    label, source = [*words[end:], ""][:2]
    return [(" ".join(words[:n]), " ".join(words[n:end]), label, source) for n in reversed(range(1, end))]


COVIDX = Layout(
    "the folders train and test, and train.txt and test.txt that list their images",
    detect_covidx,
    read_covidx,
    own_tables=True,
)
