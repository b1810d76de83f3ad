"""A table as the source: the images that it names, wherever on this machine they lie."""

import os
import shutil
from pathlib import Path

from xraylab.data.layouts import sheets
from xraylab.data.layouts.listing import is_table as has_table_suffix
from xraylab.data.layouts.sheets import Sheet
from xraylab.data.names import some
from xraylab.errors import DataError


def is_table(source: Path) -> bool:
    return source.is_file() and has_table_suffix(source.name)


def places(table: Path) -> dict[Path, str]:
    """The table and each file that it names, with its path below data/raw: as below the folder that holds them all.

    Paths are absolute, or relative to the table's folder. Errors: DataError where no column names files that are there,
    and for those of its files that are not.
    """
    sheet = sheets.read(table)
    named = {name: _files(sheet, name, table.parent) for name in sheet.header}
    best = max(named, key=lambda name: sum(path.is_file() for path in named[name].values()), default="")
    there = [path for path in named[best].values() if path.is_file()] if best else []
    if not there:
        cells = next((f" (such as {cell})" for files in named.values() for cell in files), "")
        raise DataError(
            f"data.source: none of the columns of {table} names images that are there: {some(sheet.header, 20)}"
            f"{cells}; write absolute paths, or such from {table.parent} on, or name the folder of the images instead"
        )
    missing = [cell for cell, path in named[best].items() if not path.is_file()]
    if missing:
        raise DataError(
            f"data.source: {len(missing)} of {len(named[best])} files in the column {best} of {table.name} are not "
            "there; mend the paths, or take the rows out:",
            missing[:20],
        )
    top = os.path.commonpath([path.parent for path in there])
    return {table: table.name} | {path: Path(os.path.relpath(path, top)).as_posix() for path in dict.fromkeys(there)}


def copy(table: Path, target: Path, link: bool = False) -> None:
    """The table and its images below the existing folder `target`, or links to them."""
    for path, name in places(table).items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if link:
            place.symlink_to(path.absolute())
        else:
            shutil.copyfile(path, place)


def _files(sheet: Sheet, name: str, folder: Path) -> dict[str, Path]:
    """Each cell of a column that looks like a path, and the file that it would be."""
    cells = dict.fromkeys(row.cells.get(name, "") for row in sheet.rows)
    return {cell: Path(os.path.normpath(folder / Path(cell.replace("\\", "/")).expanduser())) for cell in cells if cell}
