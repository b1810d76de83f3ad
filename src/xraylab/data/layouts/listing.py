"""What lies below a folder: walked once, for every question about its layout."""

import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from xraylab.data.names import natural, some
from xraylab.errors import DataError, MissingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")
LEFT_BY_SYSTEMS = {"__MACOSX", "Thumbs.db"}


@dataclass(frozen=True)
class Listing:
    """Names of folders and files, by the folder in which they lie.

    A folder is its posix path below `raw`, which itself is ''. What is hidden, what an operating system left there, and
    links to folders are not in it.
    """

    raw: Path
    folders: dict[str, list[str]]
    files: dict[str, list[str]]
    annotations: dict[Any, Any] = field(default_factory=dict, compare=False)
    """The tables that were read already, by how they were asked for."""

    @cached_property
    def images(self) -> list[str]:
        """The path of every image below `raw`."""
        return [join(folder, name) for folder, names in self.files.items() for name in names if is_image(name)]

    @cached_property
    def holding(self) -> set[str]:
        """The folders with an image in them, at any depth."""
        folders: set[str] = set()
        for folder in {parent(path) for path in self.images}:
            folders |= {folder, *ancestors(folder)}
        return folders

    @cached_property
    def by_depth(self) -> list[str]:
        """All folders, the shallowest first."""
        return sorted(self.folders, key=lambda folder: (depth(folder), natural(folder)))

    @cached_property
    def top(self) -> str:
        """The folder below a chain of single folders that hold neither images nor tables."""
        folder = ""
        while len(self.folders[folder]) == 1 and not any(map(_counts, self.files[folder])):
            folder = join(folder, self.folders[folder][0])
        return folder

    def below(self, folder: str) -> list[str]:
        """The images in `folder`, at any depth."""
        return [path for path in self.images if is_below(path, folder)]

    def subfolders(self, folder: str) -> list[str]:
        """The names of the folders in `folder` that hold images."""
        return [name for name in self.folders.get(folder, []) if join(folder, name) in self.holding]

    def tables(self, folder: str) -> list[str]:
        """The names of the tables in `folder` itself."""
        return [name for name in self.files[folder] if name.lower().endswith(TABLE_SUFFIXES)]

    def holds_directly(self, folder: str) -> bool:
        """Whether an image lies in `folder` itself."""
        return any(map(is_image, self.files.get(folder, [])))

    def seen(self) -> list[str]:
        """What is there, for people who look for their mistake: folders, images and tables."""
        suffixes = Counter(os.path.splitext(path)[1].lower() for path in self.images)
        counts = ", ".join(f"{suffix} {count}" for suffix, count in suffixes.most_common())
        return [
            f"folders: {some(self.folders[self.top], 20) or 'none'}",
            f"images: {len(self.images)}" + (f" ({counts})" if counts else f" ({' '.join(IMAGE_SUFFIXES)})"),
            f"tables: {some(self.tables(self.top), 20) or 'none'}",
        ]


def walk(raw: Path) -> Listing:
    """List what lies below `raw`. Errors: MissingError, and DataError for a folder that cannot be read."""
    if not raw.is_dir():
        raise MissingError(f"{raw} does not exist: `dvc repro` makes it")
    listing = Listing(raw, {}, {})
    for place, folders, names in os.walk(raw, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if _visible(name) and not os.path.islink(os.path.join(place, name))]
        folders.sort(key=natural)
        folder = Path(place).relative_to(raw).as_posix()
        folder = "" if folder == "." else folder
        listing.folders[folder] = list(folders)
        listing.files[folder] = sorted(filter(_visible, names), key=natural)
    return listing


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_mask(path: str, top: str) -> bool:
    """Whether the path leads from `top` through a folder of masks: they may have the names of their images."""
    return is_below(path, top) and "mask" in parent(relative(path, top)).lower()


def stem(path: str) -> str:
    """The file's name without an image's suffix: 1.2.840 is whole."""
    name = last(path)
    return os.path.splitext(name)[0] if is_image(name) else name


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def last(path: str) -> str:
    return path.rpartition("/")[2]


def ancestors(path: str) -> list[str]:
    """The folders above, the nearest first; the last is ''."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:count]) for count in reversed(range(len(parts)))]


def depth(folder: str) -> int:
    return len(folder.split("/")) if folder else 0


def is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def relative(path: str, folder: str) -> str:
    """The path below `folder`, in which it lies."""
    return path[len(folder) + 1 :] if folder else path


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_SYSTEMS


def _counts(name: str) -> bool:
    return is_image(name) or name.lower().endswith(TABLE_SUFFIXES)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}): mend or remove it") from None
