"""Unpacking archives without trusting them: neither their names, nor their links, nor the sizes they state."""

import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from xraylab import progress
from xraylab.data.layouts.listing import TABLE_SUFFIXES, is_image
from xraylab.data.sources import members
from xraylab.errors import DataError

SUFFIXES = {"zip": (".zip",), "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")}
RATIO = 200
"""So many times its own size an archive may unpack to, above `FLOOR` bytes. X-rays pack to a half or a tenth."""
FLOOR = 100_000_000
MEMBERS = 5_000_000
BLOCK = 1 << 20
TEXTS = (*TABLE_SUFFIXES, ".txt")
"""What a layout reads of a source, besides the names of its files."""
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
    """Put the downloaded `file`, called `name` where it came from, into `target`, unpacked if it is an archive."""
    what = kind(name) or ("zip" if zipfile.is_zipfile(file) else "tar" if tarfile.is_tarfile(file) else None)
    if what:
        unpack(what, file, target, source)
        return
    [place] = members.places(source, [name])
    shutil.copyfile(file, target / place)


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
        found = [
            Member(entry.filename, entry.file_size, _plain(entry), partial(archive.open, entry))
            for entry in archive.infolist()
            if not entry.is_dir()
        ]
        _write_all(found, file, target, source, sample)


def _plain(entry: zipfile.ZipInfo) -> bool:
    """Whether a zip's entry is a file: the upper half of its attributes is a Unix mode, or nothing."""
    return stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG)


def _unpack_tar(file: Path, target: Path, source: Path | str, sample: int | None) -> None:
    found: list[Member] = []
    size, allowed = 0, _allowed(file)
    with tarfile.open(file) as archive:
        for entry in archive:  # read as far as the limits, since a tar has no table of contents
            size += entry.size
            _refuse_bomb(source, len(found), size, allowed)
            if not entry.isdir():
                found.append(Member(entry.name, entry.size, entry.isfile(), partial(_opened, archive, entry)))
        _write_all(found, file, target, source, sample)


def _opened(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    opened = archive.extractfile(entry)
    if opened is None:
        raise tarfile.ReadError(f"{entry.name} has no content")
    return opened


OPENERS = {"zip": _unpack_zip, "tar": _unpack_tar}


def _write_all(found: list[Member], file: Path, target: Path, source: Path | str, sample: int | None) -> None:
    """Check everything that the archive says of itself, then write, counting what really comes."""
    allowed = _allowed(file)
    _refuse_bomb(source, len(found), sum(member.size for member in found), allowed)
    places = members.places(source, [member.name for member in found])
    members.refuse("are neither files nor folders", source, [member.name for member in found if not member.plain])
    wanted = [pair for pair in zip(found, places, strict=True) if not members.hidden(pair[1])]
    filled = _filled([place for _, place in wanted], sample)
    refuse_overfull(source, sum(member.size for member, place in wanted if place in filled), target)
    written = 0
    for member, place in progress.bar(wanted, len(wanted), "unpacking the source"):
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        if place not in filled:
            (target / place).touch(exist_ok=False)
            continue
        with member.open() as packed, (target / place).open("xb") as plain:
            while block := packed.read(BLOCK):
                written += len(block)
                _refuse_bomb(source, len(found), written, allowed)
                plain.write(block)


def _filled(places: list[PurePosixPath], sample: int | None) -> set[PurePosixPath]:
    """Those whose contents are wanted."""
    if sample is None:
        return set(places)
    images = [place for place in places if is_image(place.name)]
    spread = images[:: -(-len(images) // sample)] if sample and images else []
    return {*spread, *(place for place in places if place.name.lower().endswith(TEXTS))}


def _allowed(file: Path) -> int:
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
