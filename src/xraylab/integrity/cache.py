"""DVC's cache: objects that are named by the MD5 of their contents, and those of them whose contents are others.

DVC makes objects read-only and trusts them from then on: a damaged one is checked out as it is.
"""

import configparser
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xraylab.integrity import hashes
from xraylab.integrity.hashes import FOLDER, Listing
from xraylab.integrity.lock import Output
from xraylab.paths import Paths

OBJECTS = "files/md5"
ASIDE = "damaged"
"""The folder of the cache that damaged objects are moved to."""


@dataclass(frozen=True)
class Cache:
    """A cache's folder, which several studies may share."""

    folder: Path

    @classmethod
    def of(cls, paths: Paths) -> "Cache":
        """Where DVC's configuration puts it: the one of the study first, then those of the user and the system."""
        for file in config_files(paths.root):
            parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=("#",))
            try:
                parser.read(file, encoding="utf-8")
            except (configparser.Error, UnicodeError):
                continue  # DVC itself says so
            if directory := parser.get("cache", "dir", fallback=None):
                return cls(file.parent / Path(directory.strip("\"'")).expanduser())
        return cls(paths.root / ".dvc/cache")

    def object(self, md5: str) -> Path:
        """The path of an object; a folder's list ends with .dir."""
        return self.folder / OBJECTS / md5[:2] / md5[2:]

    def listing(self, md5: str) -> Listing | None:
        """The files of a folder as recorded; None where the cache has no whole list."""
        try:
            listing = hashes.from_json(self.object(md5).read_bytes())
        except (OSError, ValueError):
            return None
        return listing if hashes.of_listing(listing) == md5 else None

    def is_whole(self, out: Output) -> bool:
        """Return whether the cache holds an output with undamaged contents."""
        listing = self.listing(out.md5) if out.md5.endswith(FOLDER) else {"": out.md5}
        if listing is None:
            return False
        expected = {self.object(md5): md5 for md5 in listing.values()}
        return hashes.of_files(list(expected), "checking DVC's cache") == expected

    def objects(self) -> Iterator[Path]:
        """Every object, and what was left half-written beside them."""
        yield from sorted(path for path in (self.folder / OBJECTS).glob("??/*") if path.is_file())


def config_files(root: Path) -> list[Path]:
    """DVC's configuration files, the most particular one first."""
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or _user_folder() / "dvc"
    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or _system_folder() / "dvc"
    return [root / ".dvc/config.local", root / ".dvc/config", Path(user) / "config", Path(system) / "config"]


def _user_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "iterative"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _system_folder() -> Path:
    if sys.platform == "darwin":
        return Path("/Library/Application Support")
    if os.name == "nt":
        return Path(os.environ.get("PROGRAMDATA", "C:/ProgramData")) / "iterative"
    return Path((os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)[0])
