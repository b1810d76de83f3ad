"""Names that somebody else chose, from an archive or a remote: where below a folder they may be written."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xraylab.errors import DataError

SHOWN = 20


def places(source: Path | str, names: Sequence[str]) -> list[PurePosixPath]:
    """The relative path of each file. Errors: DataError if any would leave the folder or take another's place."""
    refuse("have names that are not UTF-8", source, [_printable(name) for name in names if _printable(name) != name])
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    refuse("would be written outside the study", source, [str(path) for path in paths if _escapes(path)])
    _refuse_collisions(source, [path for path in paths if not hidden(path)])
    return paths


def hidden(path: PurePosixPath) -> bool:
    """Hidden files, and what macOS adds to its archives, are left out."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def refuse(what: str, source: Path | str, members: Sequence[str]) -> None:
    """Errors: DataError that names the first of `members`, if there are any."""
    if members:
        more = [f"and {len(members) - SHOWN} more"] if len(members) > SHOWN else []
        raise DataError(f"data.source: {source} is refused, since members of it {what}:", [*members[:SHOWN], *more])


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _escapes(path: PurePosixPath) -> bool:
    return not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]


def _refuse_collisions(source: Path | str, paths: list[PurePosixPath]) -> None:
    """Names that differ in case or Unicode form alone are one file on the disks of macOS and Windows."""
    keys = [unicodedata.normalize("NFC", str(path)).casefold() for path in paths]
    times = Counter(keys)
    twice = [str(path) for path, key in zip(paths, keys, strict=True) if times[key] > 1]
    refuse("would overwrite one another (on a disk that ignores case, at least)", source, twice)
    folders = _folders(keys)
    both = [str(path) for path, key in zip(paths, keys, strict=True) if key in folders]
    refuse("are files where other members need a folder", source, both)


def _folders(keys: list[str]) -> set[str]:
    found: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
