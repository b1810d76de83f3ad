"""The files below a folder: listed once for every question about its layout, and looked up by name."""

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from xraylab.data.names import natural, some
from xraylab.errors import DataError, MissingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet", ".csv.gz")
LEFT_BY_SYSTEMS = {"__MACOSX", "Thumbs.db"}
NO_SUFFIX = re.compile(r"[^.]+|[0-9.]+")
"""A file without a suffix, or called by a DICOM UID: an image where a table names it."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Names of folders and files, by the folder in which they lie.

    A folder is its posix path below `raw`, which itself is ''. What is hidden, what an operating system left there, and
    links to folders are not in it.
    """

    raw: Path
    folders: dict[str, list[str]]
    files: dict[str, list[str]]

    @cached_property
    def paths(self) -> list[str]:
        """The path of every file below `raw`."""
        return [join(folder, name) for folder, names in self.files.items() for name in names]

    @cached_property
    def images(self) -> list[str]:
        """The path of every image below `raw`."""
        return [path for path in self.paths if is_image(path)]

    @cached_property
    def finder(self) -> "Finder":
        """Looks up images by name, those included that only a table tells to be images."""
        return Finder([path for path in self.paths if is_image(path) or NO_SUFFIX.fullmatch(last(path))])

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
        return sorted(self.folders, key=lambda folder: (len(folder.split("/")) if folder else 0, natural(folder)))

    @cached_property
    def tables(self) -> list[str]:
        """The path of every table, those of the shallowest folder first."""
        return [join(folder, name) for folder in self.by_depth for name in self.files[folder] if is_table(name)]

    @cached_property
    def top(self) -> str:
        """The folder below a chain of single folders that hold neither images nor tables."""
        folder = ""
        while len(self.folders[folder]) == 1 and not any(
            is_image(name) or is_table(name) for name in self.files[folder]
        ):
            folder = join(folder, self.folders[folder][0])
        return folder

    def subfolders(self, folder: str) -> list[str]:
        """The names of the folders in `folder` that hold images."""
        return [name for name in self.folders.get(folder, []) if join(folder, name) in self.holding]

    def shallowest(self, fits: Callable[[str], bool]) -> str | None:
        """The shallowest folder of images for which `fits` holds."""
        return next((folder for folder in self.by_depth if folder in self.holding and fits(folder)), None)

    def holds_directly(self, folder: str) -> bool:
        """Return whether an image lies in `folder` itself."""
        return any(map(is_image, self.files.get(folder, [])))

    def summary(self) -> list[str]:
        """Folders, images and tables, for people who look for their mistake."""
        suffixes = Counter(os.path.splitext(path)[1].lower() for path in self.images)
        counts = ", ".join(f"{suffix} {count}" for suffix, count in suffixes.most_common())
        return [
            f"folders: {some(self.folders[self.top], 20) or 'none'}",
            f"images: {len(self.images)}" + (f" ({counts})" if counts else f" ({' '.join(IMAGE_SUFFIXES)})"),
            f"tables: {some([last(path) for path in self.tables if parent(path) == self.top], 20) or 'none'}",
        ]


class Finder:
    """Looks up files by their names, whole or in part."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = set(paths)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.paths):
            self.by_name[last(path)].append(path)
            self.by_stem[stem(path)].append(path)

    def candidates(self, name: str, folder: str) -> list[str]:
        """The file at that path below `folder`, else all files of that name, else all of that name without suffix.

        Of several, those whose folders agree with the name's own the furthest up: an absolute path finds its copy.
        Masks have the names of their images and count only where there is nothing else.
        """
        plain = name.replace("\\", "/")
        exact = posixpath.normpath(posixpath.join(folder, plain))
        if exact in self.paths:
            return [exact]
        paths = self.by_name.get(last(plain)) or self.by_stem.get(stem(plain)) or []
        return paths if len(paths) < 2 else _most_alike(paths, plain)

    def find(self, names: list[str], folder: str, table: str) -> tuple[dict[str, str], list[str]]:
        """The path of each name, and the names that are not there. Errors: DataError naming the ambiguous ones."""
        paths, missing, ambiguous = {}, [], []
        for name in dict.fromkeys(names):
            match self.candidates(name, folder):
                case []:
                    missing.append(name)
                case [path]:
                    paths[name] = path
                case candidates:
                    ambiguous.append(f"{name} ({some(candidates, 2)})")
        if ambiguous:
            raise DataError(f"{table}: names that fit more than one file: {some(ambiguous)}: write their whole paths")
        return paths, missing


def _most_alike(paths: list[str], name: str) -> list[str]:
    n_shared = {path: _count_shared(path.split("/")[-2::-1], name.split("/")[-2::-1]) for path in paths}
    best = [path for path in paths if n_shared[path] == max(n_shared.values())]
    return [path for path in best if "mask" not in parent(path).lower()] or best


def _count_shared(folders: list[str], other_folders: list[str]) -> int:
    """Count the equal folders, from the file upwards."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(folders, other_folders, strict=False))))


def walk(raw: Path) -> Listing:
    """List what lies below `raw`. Errors: MissingError, and DataError for a folder that cannot be read."""
    if not raw.is_dir():
        raise MissingError(f"{raw} does not exist: `dvc repro` makes it")
    listing = Listing(raw, {}, {})
    for folder_path, folders, names in os.walk(raw, onerror=_refuse_unreadable):
        folders[:] = [
            name for name in folders if _visible(name) and not os.path.islink(os.path.join(folder_path, name))
        ]
        folders.sort(key=natural)
        folder = Path(folder_path).relative_to(raw).as_posix()
        folder = "" if folder == "." else folder
        listing.folders[folder] = list(folders)
        listing.files[folder] = sorted(filter(_visible, names), key=natural)
    return listing


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES)


def is_mask(path: str, top: str) -> bool:
    """Return whether the path leads from `top` through a folder of masks, which may have their images' names."""
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


def is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def relative(path: str, folder: str) -> str:
    """The path below `folder`, in which it lies."""
    return path[len(folder) + 1 :] if folder else path


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in LEFT_BY_SYSTEMS


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read ({error.strerror}): mend or remove it") from None
