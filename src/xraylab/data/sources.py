"""Where images come from: what a source holds now, and a copy of it under data/raw."""

import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from xraylab import files, progress
from xraylab.errors import DataError

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
COPY_BLOCK = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.ReadError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def kind(source: Path) -> str:
    """`folder`, `zip` or `tar`. Errors: DataError for anything else."""
    if source.is_dir():
        return "folder"
    if not source.exists():
        raise DataError(f"data.source: {source} does not exist: name a folder, a .zip or .tar archive, or demo")
    for name, suffixes in (("zip", ZIP_SUFFIXES), ("tar", TAR_SUFFIXES)):
        if source.name.lower().endswith(suffixes):
            return name
    raise DataError(
        f"data.source: {source} is neither a folder nor an archive ({' '.join(ZIP_SUFFIXES + TAR_SUFFIXES)})"
    )


def describe(source: Path, known_hashes: Path) -> dict[str, Any]:
    """What the source holds now: kind, name, number of files, bytes, and one SHA-256 over names and contents.

    A file whose size and modification time are those in the table `known_hashes` is not read again. The source's
    own path does not enter: the same images elsewhere are the same source.
    """
    what = kind(source)
    names = list(_files_below(source)) if what == "folder" else [source]
    hashes = _hashes(names, known_hashes)
    total = sha256()
    for name in names:
        total.update(
            f"{hashes[name]} {name.relative_to(source.parent if what != 'folder' else source).as_posix()}\n".encode()
        )
    return {
        "kind": what,
        "name": source.name,
        "files": len(names),
        "bytes": sum(name.stat().st_size for name in names),
        "sha256": total.hexdigest(),
    }


def copy(source: Path, target: Path) -> None:
    """Copy the source's files into the existing folder `target`, archives unpacked."""
    match kind(source):
        case "folder":
            _copy_folder(source, target)
        case "zip":
            _unpack_zip(source, target)
        case _:
            _unpack_tar(source, target)


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden, in a fixed order; links to files count as files."""
    linked = []
    for top, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked += [Path(top, name) for name in folders if Path(top, name).is_symlink()]
        yield from (Path(top, name) for name in sorted(names) if not name.startswith("."))
    if linked:
        raise DataError(
            "data.source holds links to folders: put the folders themselves there",
            [f"{link} -> {link.readlink()}" for link in linked],
        )


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"data.source: {error.filename} cannot be read ({error.strerror}): mend or remove it") from None


def _hashes(names: list[Path], known_hashes: Path) -> dict[Path, str]:
    known = files.read_json(known_hashes) if known_hashes.exists() else {}

    def look(name: Path) -> tuple[str, list[Any]]:
        try:
            status = name.stat()
        except OSError as error:
            _refuse_unreadable(error)
        key, stamp = str(name.absolute()), [status.st_size, status.st_mtime_ns]
        row = known.get(key)
        return key, row if row and row[:2] == stamp else [*stamp, files.sha256(name)]

    with ThreadPoolExecutor() as pool:
        fresh = dict(progress.bar(pool.map(look, names), len(names), "hashing the source"))
    if any(known.get(key) != row for key, row in fresh.items()):
        files.write_json(known | fresh, known_hashes)
    return {name: fresh[str(name.absolute())][2] for name in names}


def _copy_folder(source: Path, target: Path) -> None:
    names = list(_files_below(source))
    for name in progress.bar(names, len(names), "copying the source"):
        place = target / name.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, place)


def _unpack_zip(source: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _refuse_escapes(source, [member.filename for member in members])
            for member in progress.bar(members, len(members), "unpacking the source"):
                place = target / member.filename
                if _hidden(member.filename):
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, place.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, COPY_BLOCK)
    except DAMAGED as error:
        raise DataError(f"data.source: {source} is not a whole zip archive ({error}): download it again") from None
    except RuntimeError as error:  # encrypted, or packed by a method that zipfile does not know
        raise DataError(f"data.source: {source} cannot be unpacked ({error}): unpack it, and name the folder") from None


def _unpack_tar(source: Path, target: Path) -> None:
    try:
        with tarfile.open(source) as archive:
            members = [member for member in archive.getmembers() if not member.isdir()]
            _refuse_escapes(source, [member.name for member in members])
            _refuse("are neither files nor folders", source, [m.name for m in members if not m.isfile()])
            wanted = [member for member in members if not _hidden(member.name)]
            for member in progress.bar(wanted, len(wanted), "unpacking the source"):
                archive.extract(member, target, filter="data")
    except DAMAGED as error:
        raise DataError(f"data.source: {source} is not a whole tar archive ({error}): download it again") from None


def _refuse_escapes(source: Path, names: list[str]) -> None:
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    escaping = [str(path) for path in paths if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]]
    _refuse("would be written outside the study", source, escaping)


def _refuse(what: str, source: Path, members: list[str]) -> None:
    if members:
        raise DataError(f"data.source: {source} is refused, since members of it {what}:", members)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
