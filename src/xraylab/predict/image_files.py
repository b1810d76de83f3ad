"""The image files that paths, folders, patterns and archives name, one after another, however many they are.

Archives are read in the order of their members, and nothing of them is written to disk. Folders and archives give their
images, and files without a suffix that are DICOM; a file that is named itself is always tried.
"""

import glob
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xraylab.data.layouts.listing import NO_SUFFIX, is_image, last, walk
from xraylab.data.names import natural
from xraylab.data.pixels import DICOM_PREAMBLE
from xraylab.data.sources import archives, tars, zips
from xraylab.data.sources.members import Member, TooManyError, escapes, is_hidden, path_of, printable
from xraylab.data.sources.streams import TooLargeError
from xraylab.errors import DataError
from xraylab.files import require_regular

LARGEST = 256 << 20
"""Bytes of one image file: no radiograph comes near it, and several are in memory at a time."""
NO_IMAGE = {"DICOMDIR"}
"""DICOM without pixels, which lists other files."""


@dataclass(frozen=True)
class ImageFile:
    """One file to read; `open` gives its bytes, from which one can seek."""

    id: str
    open: Callable[[], BinaryIO]
    """Errors: whatever the file system or the archive raises, or ValueError that says why it is not read."""
    held: int = 0
    """Bytes that it keeps in memory before it is opened."""


@dataclass(frozen=True)
class Input:
    """The images that one path names."""

    path: str
    files: Callable[[], Iterator[ImageFile]]
    n_files: int | None
    """None: it takes reading all to know."""


def find(patterns: Sequence[str]) -> list[Input]:
    """The images that paths and patterns name, in their order; what a pattern names in natural order.

    Ids are the paths of files below a folder or in an archive, or a file's name; with several paths they begin with the
    path as it is written. Errors: DataError for what does not exist, names no image, or is no whole archive.
    """
    paths = [path for pattern in patterns for path in _expand(pattern)]
    return [_input(path, alone=paths == list(patterns) and len(paths) == 1) for path in paths]


def read_all(inputs: Iterable[Input]) -> Iterator[ImageFile]:
    """The files of all inputs."""
    for each in inputs:
        yield from each.files()


def _expand(pattern: str) -> list[str]:
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    matches = sorted(glob.glob(pattern, recursive=True), key=natural)
    paths = [path for path in matches if _fits_pattern(path, pattern)]
    if not paths:
        raise DataError(f"{pattern} matches no image, folder or archive")
    return paths


def _fits_pattern(path: str, pattern: str) -> bool:
    """Return whether a match is read: with ** the files in a folder match themselves."""
    if os.path.isdir(path):
        return "**" not in pattern
    return archives.kind(path) is not None or _may_be_image(path, partial(_first_bytes, path))


def _input(path: str, alone: bool) -> Input:
    prefix, where = "" if alone else Path(path).as_posix().rstrip("/") + "/", Path(path)
    if where.is_dir():
        return _of_folder(where, prefix)
    if not where.exists():
        raise DataError(f"{path} does not exist: name X-rays, folders of them or archives")
    kind = archives.kind(where.name)
    if kind:
        require_regular(where)
    match kind:
        case "zip":
            return _of_zip(where, prefix)
        case "tar":
            return _of_tar(where, prefix)
        case _:
            file = ImageFile(printable(where.name if alone else where.as_posix()), partial(_open_file, where))
            return Input(path, partial(iter, [file]), 1)


def _of_folder(folder: Path, prefix: str) -> Input:
    names = [name for name in walk(folder).paths if _may_be_image(name, partial(_first_bytes, folder / name))]
    if not names:
        raise DataError(f"{folder} holds no images")

    def files() -> Iterator[ImageFile]:
        for name in names:
            yield ImageFile(printable(prefix + name), partial(_open_file, folder / name))

    return Input(str(folder), files, len(names))


def _open_file(path: Path) -> BinaryIO:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a file with content")
    _refuse_large(status.st_size)
    return path.open("rb")


def _of_zip(file: Path, prefix: str) -> Input:
    with _whole_archive(file, "zip"):
        members = zips.members(zips.opened(file))
    readable = [member for member in members if _is_readable(member)]
    if not readable:
        raise DataError(f"{file} holds no images")
    size, allowed = sum(member.size for member in members), archives.allowed_size(file)

    def files() -> Iterator[ImageFile]:
        if size > allowed:
            yield _failing(file.name, prefix, _bomb(allowed))
            return
        for member in readable:
            yield ImageFile(printable(prefix + member.name), partial(_open_member, member))

    return Input(str(file), files, len(readable))


def _of_tar(file: Path, prefix: str) -> Input:
    with _whole_archive(file, "tar"):
        tars.require(file)

    def files() -> Iterator[ImageFile]:
        try:
            yield from _tar_members(file, prefix)
        except TooLargeError as error:
            yield _failing(file.name, prefix, _bomb(error))
        except (*archives.DAMAGED, TooManyError, OSError) as error:
            yield _failing(file.name, prefix, f"is not a whole tar archive ({error}): what follows is missing")

    return Input(str(file), files, None)


def _tar_members(file: Path, prefix: str) -> Iterator[ImageFile]:
    with archives.opened("tar", file) as members:
        for member in members:
            is_small = member.plain and member.size <= LARGEST
            packed = b"".join(archives.contents(member)) if is_small else b""
            held = replace(member, open=partial(io.BytesIO, packed))
            if _is_readable(held):
                yield ImageFile(printable(prefix + member.name), partial(_open_member, held), len(packed))


def _is_readable(member: Member) -> bool:
    """Return whether a member is an image by its name or, without a suffix, by its first bytes."""
    path = path_of(member.name)

    def first_bytes() -> bytes:
        with member.open() as file:
            return file.read(DICOM_PREAMBLE + 4)

    is_left_out = is_hidden(path) and not escapes(path)  # .. begins with a dot, and gets a reason
    return not is_left_out and _may_be_image(path, first_bytes)


def _open_member(member: Member) -> BinaryIO:
    """The member's bytes in memory, since decoders seek."""
    if escapes(path_of(member.name)):
        raise ValueError("has a name that leads out of its archive")
    if not member.plain:
        raise ValueError("is not a file with content")
    _refuse_large(member.size)
    return io.BytesIO(b"".join(archives.contents(member)))


def _may_be_image(path: str, first_bytes: Callable[[], bytes]) -> bool:
    name = last(path)
    if is_image(name):
        return True
    if name in NO_IMAGE or not NO_SUFFIX.fullmatch(name):
        return False
    try:
        return first_bytes()[DICOM_PREAMBLE:] == b"DICM"
    except Exception:  # what cannot be read, and is no image by its name, is none
        return False


def _first_bytes(path: Path | str) -> bytes:
    with _open_file(Path(path)) as file:
        return file.read(DICOM_PREAMBLE + 4)


def _refuse_large(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"is larger than {LARGEST >> 20} MiB")


def _bomb(allowed: object) -> str:
    ratio = archives.RATIO
    return f"would unpack to more than {allowed} bytes, {ratio} times its own size: unpack it yourself if you trust it"


def _failing(name: str, prefix: str, problem: str) -> ImageFile:
    """A place in the sequence where nothing can be read."""

    def fail() -> BinaryIO:
        raise ValueError(problem)

    return ImageFile(printable(prefix.rstrip("/") or name), fail)


@contextmanager
def _whole_archive(file: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (*archives.DAMAGED, OSError) as error:
        reason = str(error).partition(":")[0]  # tarfile goes on with every kind of compression that it tried
        raise DataError(f"{file} is not a whole {kind} archive ({reason})") from None
