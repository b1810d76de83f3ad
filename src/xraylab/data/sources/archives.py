"""Unpack archives, and name downloaded files, without trusting them: neither names, nor links, nor stated sizes."""

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from xraylab import progress
from xraylab.data.layouts.listing import TABLE_SUFFIXES, is_image
from xraylab.errors import DataError

SUFFIXES = {"zip": (".zip",), "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")}
RATIO = 200
"""Largest ratio of unpacked to packed size, above `FLOOR` bytes. X-rays pack to a half or a tenth."""
FLOOR = 100_000_000
MEMBERS = 5_000_000
BLOCK = 1 << 20
MAX_NAMED = 20
TEXTS = (*TABLE_SUFFIXES, ".txt")
"""Files that a layout reads, besides the names of all files."""
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class Member:
    """One entry that is not a folder; `plain` is false for links, devices and the like."""

    name: str
    size: int
    plain: bool
    open: Callable[[], AbstractContextManager[IO[bytes]]]


def kind(name: str) -> str | None:
    """`zip`, `tar` or None, by the name."""
    return next((kind for kind, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def bring(file: Path, name: str, target: Path, source: str) -> None:
    """Move the downloaded `file`, originally called `name`, into `target`, unpacked if it is an archive."""
    what = kind(name) or ("zip" if zipfile.is_zipfile(file) else "tar" if tarfile.is_tarfile(file) else None)
    if what:
        unpack(what, file, target, source)
        return
    [path] = safe_paths(source, [name])
    shutil.copyfile(file, target / path)


def unpack(what: str, file: Path, target: Path, source: Path | str, sample: int | None = None) -> None:
    """Unpack the zip or tar `file` into the folder `target`; `source` is what errors call it.

    With `sample` only tables, texts and so many images, evenly spread, get their contents; all others stay empty.
    """
    try:
        OPENERS[what](file, target, source, sample)
    except DAMAGED as error:
        raise DataError(f"data.source: {source} is not a whole {what} archive ({error}): download it again") from None
    except RuntimeError as error:  # encrypted, or packed by a method that zipfile does not know
        raise DataError(f"data.source: {source} cannot be unpacked ({error}): unpack it, and name the folder") from None
    except OSError as error:
        raise DataError(
            f"data.source: {source} cannot be unpacked into {target.parent} ({error.strerror or error})"
        ) from None


def _unpack_zip(file: Path, target: Path, source: Path | str, sample: int | None) -> None:
    with zipfile.ZipFile(file) as archive:
        members = [
            Member(entry.filename, entry.file_size, is_plain(entry), partial(archive.open, entry))
            for entry in archive.infolist()
            if not entry.is_dir()
        ]
        _write_all(members, file, target, source, sample)


def is_plain(entry: zipfile.ZipInfo) -> bool:
    """Return whether a zip's entry is a file: the upper half of its attributes is a Unix mode, or 0."""
    return stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)


def _unpack_tar(file: Path, target: Path, source: Path | str, sample: int | None) -> None:
    members: list[Member] = []
    size, allowed = 0, allowed_size(file)
    with tarfile.open(file) as archive:
        for entry in archive:  # read as far as the limits, since a tar has no table of contents
            size += entry.size
            _refuse_bomb(source, len(members), size, allowed)
            if not entry.isdir():
                members.append(Member(entry.name, entry.size, entry.isfile(), partial(_opened, archive, entry)))
        _write_all(members, file, target, source, sample)


def _opened(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(entry)
    if opened is None:
        raise tarfile.ReadError(f"{entry.name} has no content")
    return opened


OPENERS = {"zip": _unpack_zip, "tar": _unpack_tar}


def _write_all(members: list[Member], file: Path, target: Path, source: Path | str, sample: int | None) -> None:
    """Check everything that the archive says of itself, then write, counting what really comes."""
    allowed = allowed_size(file)
    _refuse_bomb(source, len(members), sum(member.size for member in members), allowed)
    paths = safe_paths(source, [member.name for member in members])
    refuse_members("are neither files nor folders", source, [member.name for member in members if not member.plain])
    visible = [(member, path) for member, path in zip(members, paths, strict=True) if not is_hidden(path)]
    filled = _sampled([path for _, path in visible], sample)
    refuse_overfull(source, sum(member.size for member, path in visible if path in filled), target)
    written = 0
    for member, path in progress.bar(visible, len(visible), "unpacking the source"):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if path not in filled:
            (target / path).touch(exist_ok=False)
            continue
        with member.open() as packed, (target / path).open("xb") as plain:
            while block := packed.read(BLOCK):
                written += len(block)
                _refuse_bomb(source, len(members), written, allowed)
                plain.write(block)


def _sampled(paths: list[PurePosixPath], sample: int | None) -> set[PurePosixPath]:
    """Those that get their contents."""
    if sample is None:
        return set(paths)
    images = [path for path in paths if is_image(path.name)]
    spread = images[:: -(-len(images) // sample)] if sample and images else []
    return {*spread, *(path for path in paths if path.name.lower().endswith(TEXTS))}


def allowed_size(file: Path) -> int:
    """How many bytes an archive may unpack to."""
    return max(FLOOR, RATIO * file.stat().st_size)


def _refuse_bomb(source: Path | str, count: int, size: int, allowed: int) -> None:
    if count > MEMBERS:
        raise DataError(
            f"data.source: {source} is refused, since it has more than {MEMBERS} members: unpack it yourself"
        )
    if size > allowed:
        raise DataError(
            f"data.source: {source} is refused, since it would unpack to more than {allowed} bytes, "
            f"{RATIO} times its own size: if you trust it, unpack it yourself, and name the folder"
        )


def refuse_overfull(source: Path | str, size: int, folder: Path) -> None:
    """Errors: DataError where `size` bytes do not fit on the disk of the existing `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"data.source: {source} needs {size} bytes, but the disk of {folder.parent} has {free} free: make room"
        )


def safe_paths(source: Path | str, names: Sequence[str]) -> list[PurePosixPath]:
    """The relative path of each file. Errors: DataError if any would leave the folder or overwrite another."""
    refuse_members(
        "have names that are not UTF-8", source, [printable(name) for name in names if printable(name) != name]
    )
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    refuse_members("would be written outside the study", source, [str(path) for path in paths if escapes(path)])
    _refuse_collisions(source, [path for path in paths if not is_hidden(path)])
    return paths


def is_hidden(path: PurePosixPath) -> bool:
    """Hidden files, and what macOS adds to its archives, are left out."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def refuse_members(what: str, source: Path | str, members: Sequence[str]) -> None:
    """Errors: DataError that names the first of `members`, if there are any."""
    if members:
        more = [f"and {len(members) - MAX_NAMED} more"] if len(members) > MAX_NAMED else []
        raise DataError(f"data.source: {source} is refused, since members of it {what}:", [*members[:MAX_NAMED], *more])


def printable(name: str) -> str:
    """The name, with escapes for what is not UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def escapes(path: PurePosixPath) -> bool:
    """Return whether the path leads out of the folder that it is below."""
    return not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]


def _refuse_collisions(source: Path | str, paths: list[PurePosixPath]) -> None:
    """Names that differ in case or Unicode form alone are one file on the disks of macOS and Windows."""
    keys = [unicodedata.normalize("NFC", str(path)).casefold() for path in paths]
    times = Counter(keys)
    twice = [str(path) for path, key in zip(paths, keys, strict=True) if times[key] > 1]
    refuse_members("would overwrite one another (on a disk that ignores case, at least)", source, twice)
    folders = _folders_of(keys)
    both = [str(path) for path, key in zip(paths, keys, strict=True) if key in folders]
    refuse_members("are files where other members need a folder", source, both)


def _folders_of(keys: list[str]) -> set[str]:
    folders: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
