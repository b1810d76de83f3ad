"""Where the files lie that a table names."""

import posixpath
import re
from collections import defaultdict

from xraylab.data.layouts.listing import Listing, is_image, join, last, parent, stem
from xraylab.data.names import some
from xraylab.errors import DataError

NO_SUFFIX = re.compile(r"[^.]+|[0-9.]+")
"""A file without a suffix, or one that is called by a DICOM UID: an image where a table names it."""


class Finder:
    """Looks up names of files, whole or in part: of a listing's, or of the paths that are given."""

    def __init__(self, files: Listing | list[str]) -> None:
        self.paths = _paths(files) if isinstance(files, Listing) else set(files)
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
        several = self.by_name.get(last(plain)) or self.by_stem.get(stem(plain)) or []
        return several if len(several) < 2 else _likest(several, plain)

    def find(self, names: list[str], folder: str, table: str) -> tuple[dict[str, str], list[str]]:
        """The path of each name, and the names that are not there. Errors: DataError naming the ambiguous ones."""
        found, missing, ambiguous = {}, [], []
        for name in dict.fromkeys(names):
            match self.candidates(name, folder):
                case []:
                    missing.append(name)
                case [path]:
                    found[name] = path
                case several:
                    ambiguous.append(f"{name} ({some(several, 2)})")
        if ambiguous:
            raise DataError(f"{table}: names that fit more than one file: {some(ambiguous)}: write their whole paths")
        return found, missing


def _paths(listing: Listing) -> set[str]:
    names = [(folder, name) for folder, several in listing.files.items() for name in several]
    return {join(folder, name) for folder, name in names if _may_be_image(name)}


def _likest(paths: list[str], name: str) -> list[str]:
    wanted = name.split("/")[-2::-1]
    shared = {path: _agreement(path.split("/")[-2::-1], wanted) for path in paths}
    best = [path for path in paths if shared[path] == max(shared.values())]
    return [path for path in best if "mask" not in parent(path).lower()] or best


def _agreement(ours: list[str], theirs: list[str]) -> int:
    """How many folders are the same, from the file upwards."""
    pairs = zip(ours, theirs, strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(ours), len(theirs)))


def _may_be_image(name: str) -> bool:
    return is_image(name) or NO_SUFFIX.fullmatch(name) is not None
