"""Members of archives, and the files of other sources: which names, kinds and numbers of them are taken."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xraylab import text
from xraylab.errors import DataError

MEMBERS = 1_000_000
"""Most members of an archive, its folders included: MIMIC-CXR with its reports has 900,000."""
NAME_BYTES = 255
"""Longest name that the file systems of Linux, macOS and Windows take."""
PATH_BYTES = 1024
"""Longest path below a source: macOS takes no longer one, Linux 4,096 with what lies above."""
DEPTH = 32
"""Most folders one in the other."""
MAX_NAMED = 20
SHOWN = 300  # characters of one name
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end lines of tables, or command a terminal."""
RESERVED = re.compile(r'(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\..*)?|.*[<>:"|?*].*|.*[ .]')
"""Names that Windows takes for devices, changes, or refuses."""


class TooManyError(Exception):
    """An archive has more members than are allowed."""


class Readable(Protocol):
    """An opened member."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry that is not a folder; `plain` is false for links, devices and the like.

    The members of a tar can be opened until the next one is drawn.
    """

    name: str
    size: int
    plain: bool
    open: Callable[[], AbstractContextManager[Readable]]


def path_of(name: str) -> str:
    """The relative path that a member's name means: with slashes, and without what means the same folder."""
    parts = name.replace("\\", "/").split("/")
    path = "/".join(part for part in parts if part not in ("", "."))
    return f"/{path}" if not parts[0] else path


def safe_paths(source: Path | str, names: Sequence[str]) -> list[str]:
    """The relative path of each file. Errors: DataError if any would leave the folder or overwrite another."""
    paths = [path_of(name) for name in names]
    refuse_names(source, [path for path in paths if not is_hidden(path) or escapes(path)])
    refuse("would be written outside the study", source, [path for path in paths if escapes(path)])
    _refuse_collisions(source, [path for path in paths if not is_hidden(path)])
    return paths


def refuse_names(source: Path | str, paths: Sequence[str], windows: bool = os.name == "nt") -> None:
    """Errors: DataError for paths that no table, terminal or file system may be given; `windows`: or that it lacks."""
    refuse("have names that are not UTF-8", source, [path for path in paths if not _is_text(path)])
    refuse(
        "have control characters in their names, such as ends of lines",
        source,
        [path for path in paths if CONTROL.search(path)],
    )
    long = f"have names of more than {NAME_BYTES} bytes, paths of more than {PATH_BYTES}, or lie below {DEPTH} folders"
    refuse(long, source, [path for path in paths if _is_long(path)])
    if windows:
        refuse("have names that Windows does not take", source, [path for path in paths if _is_reserved(path)])


def is_hidden(path: str) -> bool:
    """Hidden files, and what macOS adds to its archives, are left out."""
    return any(part.startswith((".", "__MACOSX")) for part in path.split("/"))


def escapes(path: str) -> bool:
    """Return whether the path leads out of the folder that it is below."""
    parts = path.split("/")
    return not parts[0] or ".." in parts or ":" in parts[0]


def refuse(what: str, source: Path | str, paths: Sequence[str]) -> None:
    """Errors: DataError that names the first of `paths`, if there are any."""
    if paths:
        more = [f"and {len(paths) - MAX_NAMED} more"] if len(paths) > MAX_NAMED else []
        shown = [
            printable(path) if len(path) <= SHOWN else f"{printable(path[:SHOWN])}..." for path in paths[:MAX_NAMED]
        ]
        raise DataError(f"data.source: {source} is refused, since members of it {what}:", [*shown, *more])


def printable(name: str) -> str:
    """The name on one line, with escapes for what is not UTF-8, and for what commands a terminal."""
    return text.printable(name).replace("\n", "\\n").replace("\t", "\\t")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_long(path: str) -> bool:
    if len(path) <= NAME_BYTES // 4 and path.count("/") <= DEPTH:
        return False
    encoded = path.encode(errors="surrogateescape")
    parts = encoded.split(b"/")
    return len(encoded) > PATH_BYTES or len(parts) > DEPTH + 1 or max(map(len, parts)) > NAME_BYTES


def _is_reserved(path: str) -> bool:
    return any(RESERVED.fullmatch(part) for part in path.split("/"))


def _refuse_collisions(source: Path | str, paths: list[str]) -> None:
    """Names that differ in case or Unicode form alone are one file on the disks of macOS and Windows."""
    keys = [unicodedata.normalize("NFC", path).casefold() for path in paths]
    times = Counter(keys)
    twice = [path for path, key in zip(paths, keys, strict=True) if times[key] > 1]
    refuse("would overwrite one another (on a disk that ignores case, at least)", source, twice)
    folders = {folder for folder in _folders_of(keys) if folder in times}
    refuse(
        "are files where other members need a folder",
        source,
        [path for path, key in zip(paths, keys, strict=True) if key in folders],
    )


def _folders_of(keys: list[str]) -> Iterator[str]:
    """The folders above each file, those of neighbours once."""
    last = ""
    for key in keys:
        folder = key.rpartition("/")[0]
        if folder != last:
            last = folder
            while folder:
                yield folder
                folder = folder.rpartition("/")[0]
