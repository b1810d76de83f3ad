"""Unpack archives, and name downloaded files, without trusting them: neither names, nor links, nor stated sizes."""

import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xraylab import files, progress
from xraylab.data.layouts.listing import TABLE_SUFFIXES, is_image
from xraylab.data.sources import tars, zips
from xraylab.data.sources.members import MEMBERS, Member, TooManyError, is_hidden, refuse, safe_paths
from xraylab.data.sources.streams import BLOCK, DamagedError, TooLargeError
from xraylab.errors import DataError

SUFFIXES = {"zip": (".zip",), "tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")}
RATIO = 200
"""Largest ratio of unpacked to packed size, above `FLOOR` bytes. X-rays pack to a half or a tenth."""
FLOOR = 100_000_000
TEXTS = (*TABLE_SUFFIXES, ".txt")
"""Files that a layout reads, besides the names of all files."""
DAMAGED = (
    DamagedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    struct.error,
    UnicodeDecodeError,
    NotImplementedError,  # zipfile's, of patched or strongly encrypted members, and versions that it does not know
)


def kind(name: str) -> str | None:
    """`zip`, `tar` or None, by the name."""
    return next((kind for kind, suffixes in SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def bring(file: Path, name: str, target: Path, source: str) -> None:
    """Move the downloaded `file`, originally called `name`, into `target`, unpacked if it is an archive."""
    what = kind(name) or ("zip" if zipfile.is_zipfile(file) else "tar" if tars.is_tar(file) else None)
    if what:
        unpack(what, file, target, source)
        return
    [path] = safe_paths(source, [name])
    shutil.copyfile(file, target / path)


def unpack(what: str, file: Path, target: Path, source: Path | str, sample: int | None = None) -> None:
    """Unpack the zip or tar `file` into the folder `target`; `source` is what errors call it.

    It is read to its end first, and all that it says of itself is checked; then it is written, counting what really
    comes. With `sample` only tables, texts and so many images, evenly spread, get their contents; all others stay
    empty.
    """
    with _errors(what, source, target):
        names, sizes, odd = _listed(what, file)
        paths = safe_paths(source, names)
        refuse("are neither files nor folders", source, odd)
        filled = _sampled([path for path in paths if not is_hidden(path)], sample)
        refuse_overfull(source, sum(size for path, size in zip(paths, sizes, strict=True) if path in filled), target)
        with opened(what, file) as members:
            _write(progress.bar(members, len(names), "unpacking the source"), names, paths, filled, target)


@contextmanager
def _errors(what: str, source: Path | str, target: Path) -> Iterator[None]:
    """Say of the archive what its readers raise."""
    try:
        yield
    except TooLargeError as error:
        raise DataError(
            f"data.source: {source} is refused, since it would unpack to more than {error} bytes, "
            f"{RATIO} times its own size: if you trust it, unpack it yourself, and name the folder"
        ) from None
    except TooManyError:
        raise DataError(
            f"data.source: {source} is refused, since it has more than {MEMBERS} members: unpack it yourself"
        ) from None
    except DAMAGED as error:
        raise DataError(f"data.source: {source} is not a whole {what} archive ({error}): download it again") from None
    except RuntimeError as error:  # encrypted
        raise DataError(f"data.source: {source} cannot be unpacked ({error}): unpack it, and name the folder") from None
    except OSError as error:
        raise DataError(
            f"data.source: {source} cannot be unpacked into {target.parent} ({error.strerror or error})"
        ) from None


@contextmanager
def opened(what: str, file: Path) -> Iterator[Iterable[Member]]:
    """The members of a zip or tar in their order. Errors: TooLargeError, TooManyError, and those of `DAMAGED`."""
    files.require_regular(file)
    allowed = allowed_size(file)
    if what == "zip":
        with zips.opened(file, MEMBERS) as archive:
            members = zips.members(archive)
            if sum(member.size for member in members) > allowed:
                raise TooLargeError(allowed)
            yield members
    else:
        with file.open("rb") as packed:
            yield tars.read(packed, allowed)


def allowed_size(file: Path) -> int:
    """How many bytes an archive may unpack to."""
    return max(FLOOR, RATIO * file.stat().st_size)


def _listed(what: str, file: Path) -> tuple[list[str], list[int], list[str]]:
    """Names and sizes of all members, and the names of those that are no files."""
    names, sizes, odd = list[str](), list[int](), list[str]()
    with opened(what, file) as members:
        for member in members:
            if len(names) == MEMBERS:
                raise TooManyError
            names.append(member.name)
            sizes.append(member.size)
            odd += [] if member.plain else [member.name]
    return names, sizes, odd


def _write(members: Iterable[Member], names: list[str], paths: list[str], filled: set[str], target: Path) -> None:
    for member, name, path in zip(members, names, paths, strict=False):
        if member.name != name:
            raise DamagedError("it changes while it is read")
        if is_hidden(path):
            continue
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with (target / path).open("xb") as plain:
            if path in filled:
                plain.writelines(contents(member))


def contents(member: Member) -> Iterator[bytes]:
    """The member's content in pieces. Errors: DamagedError where it is longer than the archive says."""
    left = member.size
    with member.open() as packed:
        while block := packed.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise DamagedError(f"{member.name!a} is longer than it says")
            yield block


def _sampled(paths: list[str], sample: int | None) -> set[str]:
    """Those that get their contents."""
    if sample is None:
        return set(paths)
    images = [path for path in paths if is_image(path)]
    spread = images[:: -(-len(images) // sample)] if sample and images else []
    return {*spread, *(path for path in paths if path.lower().endswith(TEXTS))}


def refuse_overfull(source: Path | str, size: int, folder: Path) -> None:
    """Errors: DataError where `size` bytes do not fit on the disk of the existing `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"data.source: {source} needs {size} bytes, but the disk of {folder.parent} has {free} free: make room"
        )
