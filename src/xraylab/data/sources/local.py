"""Folders, archives and tables on this machine; a table is a source of the images that it names, wherever they lie."""

import os
import shutil
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
from xraylab.errors import DataError


def kind(source: Path) -> str:
    """`folder`, `table`, `zip` or `tar`. Errors: UnreachableError if it is not there, DataError for anything else."""
    if source.is_dir():
        return "folder"
    if not source.exists():
        remedy = "name a folder, a .zip or .tar archive, a table of images, an address, or demo"
        raise UnreachableError(f"{source} is not on this machine", remedy, source.name)
    if is_table(source):
        return "table"
    if archive := archives.kind(source.name):
        return archive
    suffixes = " ".join(suffix for each in archives.SUFFIXES.values() for suffix in each)
    raise DataError(
        f"data.source: {source} is no folder, archive ({suffixes}) or table ({' '.join(listing.TABLE_SUFFIXES)})"
    )


def describe(source: Path, hash_cache: Path) -> dict[str, Any]:
    """Number of files, bytes, and one SHA-256 over names and contents.

    A file whose size and modification time are those in the table `hash_cache` is not read again. The source's
    own path does not enter: the same images elsewhere are the same source.
    """
    what = kind(source)
    names = _names(source, what)
    hashes = _hashes(list(names), hash_cache)
    total = sha256()
    for path, name in names.items():
        total.update(f"{hashes[path]} {name}\n".encode())
    return {
        "kind": what,
        "name": source.name,
        "files": len(names),
        "bytes": sum(path.stat().st_size for path in names),
        "sha256": total.hexdigest(),
    }


def copy(source: Path, target: Path) -> None:
    """Copy the source's files into the existing folder `target`, archives unpacked."""
    what = kind(source)
    if what == "folder":
        _copy_folder(source, target)
    elif what == "table":
        copy_table(source, target)
    else:
        archives.unpack(what, source, target, source)


def _names(source: Path, what: str) -> dict[Path, str]:
    """The files of the source, and what each is called below it."""
    if what == "table":
        return table_files(source)
    paths = list(_files_below(source)) if what == "folder" else [source]
    top = source if what == "folder" else source.parent
    return {path: path.relative_to(top).as_posix() for path in paths}


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


def _hashes(names: list[Path], hash_cache: Path) -> dict[Path, str]:
    stored = files.read_json(hash_cache) if hash_cache.exists() else {}

    def hash_file(name: Path) -> tuple[str, list[Any]]:
        try:
            status = name.stat()
        except OSError as error:
            _refuse_unreadable(error)
        key, stamp = str(name.absolute()), [status.st_size, status.st_mtime_ns]
        row = stored.get(key)
        return key, row if row and row[:2] == stamp else [*stamp, files.sha256(name)]

    fresh = dict(progress.thread_map(hash_file, names, "hashing the source"))
    if any(stored.get(key) != row for key, row in fresh.items()):
        files.write_json(stored | fresh, hash_cache)
    return {name: fresh[str(name.absolute())][2] for name in names}


def _copy_folder(source: Path, target: Path) -> None:
    names = list(_files_below(source))
    for name in progress.bar(names, len(names), "copying the source"):
        copy = target / name.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, copy)


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


def copy_table(table: Path, target: Path, link: bool = False) -> None:
    """The table and its images below the existing folder `target`, or links to them."""
    for path, name in table_files(table).items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if link:
            copy.symlink_to(path.absolute())
        else:
            shutil.copyfile(path, copy)


def _paths_in(sheet: Sheet, name: str, folder: Path) -> dict[str, Path]:
    """Each cell of a column that looks like a path, and the file that it would be."""
    cells = dict.fromkeys(row.cells.get(name, "") for row in sheet.rows)
    return {cell: Path(os.path.normpath(folder / Path(cell.replace("\\", "/")).expanduser())) for cell in cells if cell}
