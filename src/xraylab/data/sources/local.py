"""Folders, archives and tables on this machine; a table is a source of the images that it names, wherever they lie."""

import os
import re
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from xraylab import files, progress
from xraylab.data.layouts import listing, sheets
from xraylab.data.layouts.sheets import Sheet
from xraylab.data.names import some
from xraylab.data.sources import archives
from xraylab.data.sources.address import UnreachableError
from xraylab.data.sources.members import MAX_NAMED, refuse_names
from xraylab.data.sources.streams import BLOCK
from xraylab.errors import DataError

Record = dict[str, Any]
CONTENT_ADDRESSED = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$|/\.git/annex/objects/")
"""Where links of DVC and git-annex lead, of folders that they check out."""


def kind(source: Path) -> str:
    """`folder`, `table`, `zip` or `tar`. Errors: UnreachableError if it is not there, DataError for anything else."""
    if source.is_dir():
        return "folder"
    if not source.exists():
        remedy = "name a folder, a .zip or .tar archive, a table of images, an address, or demo"
        raise UnreachableError(f"{source} is not on this machine", remedy, source.name)
    files.require_regular(source)
    if is_table(source):
        return "table"
    if archive := archives.kind(source.name):
        return archive
    suffixes = " ".join(suffix for each in archives.SUFFIXES.values() for suffix in each)
    raise DataError(
        f"data.source: {source} is no folder, archive ({suffixes}) or table ({' '.join(listing.TABLE_SUFFIXES)})"
    )


def describe(source: Path, hash_cache: Path) -> Record:
    """Number of files, bytes, and one SHA-256 over names and contents.

    A file whose size and modification time are those in the table `hash_cache` is not read again. The source's
    own path does not enter: the same images elsewhere are the same source.
    """
    what = kind(source)
    names = _names(source, what)
    hashes = _hashes(list(names), hash_cache)
    return _description(source, what, [(name, *hashes[path]) for path, name in names.items()])


def copy(source: Path, target: Path) -> Record:
    """Copy the source's files into the existing folder `target`, archives unpacked; describe what was copied."""
    what = kind(source)
    if what in ("folder", "table"):
        return _description(source, what, _copy_files(_names(source, what), target))
    before, digest = _stamp(source), files.sha256(source)
    archives.unpack(what, source, target, source)
    if _stamp(source) != before:
        raise DataError(
            f"data.source: {source} changed while it was unpacked: run this again when nothing writes to it"
        )
    return _description(source, what, [(source.name, digest, before[0])])


def changes(source: Path, hash_cache: Path) -> list[str]:
    """What is another file, or absent, than when the table `hash_cache` was written, by size and time."""
    stored = _remembered(hash_cache)
    if not source.exists():
        return []
    names = {str(path.absolute()): (path, name) for path, name in _names(source, kind(source)).items()}
    return [
        *(f"{name}: not recorded" for key, (_, name) in names.items() if key not in stored),
        *(
            f"{name}: changed"
            for key, (path, name) in names.items()
            if key in stored and stored[key][:2] != _stamp(path)
        ),
        *(f"{key}: gone" for key in stored if Path(key).is_relative_to(source.absolute()) and key not in names),
    ]


def _description(source: Path, what: str, rows: list[tuple[str, str, int]]) -> Record:
    """Describe files by their names below the source, SHA-256s and bytes."""
    total = sha256()
    for name, digest, _ in rows:
        total.update(f"{digest} {name}\n".encode())
    return {
        "kind": what,
        "name": source.name,
        "files": len(rows),
        "bytes": sum(size for _, _, size in rows),
        "sha256": total.hexdigest(),
    }


def refuse_odd(folder: Path) -> None:
    """Errors: DataError for a folder with names that are not taken, with links out of it, pipes and the like."""
    _names(folder, "folder")


def _names(source: Path, what: str) -> dict[Path, str]:
    """The files of the source, and what each is called below it. Errors: DataError for odd files and names."""
    if what == "table":
        names = table_files(source)
    elif what == "folder":
        names = {path: path.relative_to(source).as_posix() for path in _files_below(source)}
    else:
        names = {source: source.name}
    refuse_names(source, list(names.values()))
    return names


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden, in a fixed order; links to files in the folder count as files."""
    linked, odd = list[Path](), list[str]()
    for top, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked += [Path(top, name) for name in folders if Path(top, name).is_symlink()]
        for path in (Path(top, name) for name in sorted(names) if not name.startswith(".")):
            odd += [f"{path}: {problem}" for problem in _problems(path, folder)]
            yield path
    if linked:
        raise DataError(
            "data.source holds links to folders: put the folders themselves there",
            [f"{link} -> {link.readlink()}" for link in linked[:MAX_NAMED]],
        )
    if odd:
        raise DataError(
            "data.source holds links, pipes or devices that cannot be copied: put files in their place, or remove them "
            "(a table of paths as data.source can name files anywhere)",
            odd[:MAX_NAMED],
        )


def _problems(path: Path, folder: Path) -> Iterator[str]:
    """Why `path` is no file of the folder: opening a pipe waits for ever, and a link can lead to any file."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = os.path.realpath(path)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            yield f"a link to {path.readlink()}, which cannot be read ({error.strerror})"
            return
        if not Path(target).is_relative_to(folder.resolve()) and not CONTENT_ADDRESSED.search(target):
            yield f"a link out of the folder, to {target}"
            return
    if not stat.S_ISREG(mode):
        yield "a pipe, a socket or a device"


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"data.source: {error.filename} cannot be read ({error.strerror}): mend or remove it") from None


def _remembered(hash_cache: Path) -> dict[str, list[Any]]:
    """Path -> size, time and SHA-256 of files hashed before; what is no such row is forgotten."""
    try:
        stored = files.read_json(hash_cache) if hash_cache.exists() else {}
    except DataError:
        progress.say(f"{hash_cache} is damaged, and is made anew")
        return {}
    rows = stored.items() if isinstance(stored, dict) else ()
    return {key: row for key, row in rows if _is_row(row) and key == key.encode(errors="replace").decode()}


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and [type(cell) for cell in row] == [int, int, str]


def _hashes(names: list[Path], hash_cache: Path) -> dict[Path, tuple[str, int]]:
    """SHA-256 and bytes of each file."""
    stored = _remembered(hash_cache)

    def hash_file(name: Path) -> tuple[str, list[Any]]:
        try:
            key, stamp = str(name.absolute()), _stamp(name)
        except OSError as error:
            _refuse_unreadable(error)
        row = stored.get(key)
        return key, row if row and row[:2] == stamp else [*stamp, files.sha256(name)]

    fresh = dict(progress.thread_map(hash_file, names, "hashing the source"))
    if any(stored.get(key) != row for key, row in fresh.items()):
        files.write_json(stored | fresh, hash_cache)
    rows = {name: fresh[str(name.absolute())] for name in names}
    return {name: (digest, size) for name, (size, _, digest) in rows.items()}


def _stamp(path: Path) -> list[int]:
    """Size and time of a file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _copy_files(names: dict[Path, str], target: Path) -> list[tuple[str, str, int]]:
    """Copy each file to its name below `target`, hashing what is written: names, SHA-256s and bytes."""

    def copy_file(job: tuple[Path, str]) -> tuple[str, str, int]:
        path, name = job
        copy, digest = target / name, sha256()
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            original = path.open("rb")
        except OSError as error:
            _refuse_unreadable(error)
        with original, copy.open("xb") as written:
            while block := original.read(BLOCK):
                digest.update(block)
                written.write(block)
            return name, digest.hexdigest(), written.tell()

    return list(progress.thread_map(copy_file, list(names.items()), "copying the source"))


def is_table(source: Path) -> bool:
    return source.is_file() and listing.is_table(source.name)


def table_files(table: Path) -> dict[Path, str]:
    """The table and each file that it names, with its path below data/raw: as below the folder that holds them all.

    Paths are absolute, or relative to the table's folder. Errors: DataError where no column names files that are there,
    and for those of its files that are not.
    """
    sheet = sheets.read(table)
    columns = {name: _paths_in(sheet, name, table.parent) for name in sheet.header}
    best = max(columns, key=lambda name: sum(path.is_file() for path in columns[name].values()), default="")
    existing = [path for path in columns[best].values() if path.is_file()] if best else []
    if not existing:
        example = next((f" (such as {cell})" for paths in columns.values() for cell in paths), "")
        raise DataError(
            f"data.source: none of the columns of {table} names images that are there: {some(sheet.header, 20)}"
            f"{example}; write absolute paths, or such from {table.parent} on, or name the folder of the images instead"
        )
    missing = [cell for cell, path in columns[best].items() if not path.is_file()]
    if missing:
        raise DataError(
            f"data.source: {len(missing)} of {len(columns[best])} files in the column {best} of {table.name} are not "
            "there; mend the paths, or take the rows out:",
            missing[:20],
        )
    top = os.path.commonpath([path.parent for path in existing])
    return {table: table.name} | {path: Path(os.path.relpath(path, top)).as_posix() for path in dict.fromkeys(existing)}


def link_table(table: Path, target: Path) -> None:
    """Link the table and its images below the existing folder `target`."""
    for path, name in table_files(table).items():
        link = target / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())


def _paths_in(sheet: Sheet, name: str, folder: Path) -> dict[str, Path]:
    """Each cell of a column that looks like a path, and the file that it would be."""
    cells = dict.fromkeys(row.cells.get(name, "") for row in sheet.rows)
    return {cell: Path(os.path.normpath(folder / Path(cell.replace("\\", "/")).expanduser())) for cell in cells if cell}
