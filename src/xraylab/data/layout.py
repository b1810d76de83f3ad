"""Which files are images, of which class, and of whom: one folder per class."""

import re
from pathlib import Path

import pandas as pd

from xraylab import tables
from xraylab.errors import DataError, MissingError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
PATIENTS_FILE = "patients.csv"


def find(raw: Path, classes: list[str]) -> pd.DataFrame:
    """One row per image: id (path below the data's top), path (below `raw`) and label, in natural order.

    The class folders lie in `raw` or below a chain of single folders, as archives often have it.
    Errors: DataError naming every class folder that is missing or holds no image.
    """
    if not raw.is_dir():
        raise MissingError(f"{raw} does not exist: `dvc repro` makes it")
    top = top_folder(raw, classes)
    problems, rows = [], []
    for label in classes:
        names = sorted(_images(top / label), key=lambda path: natural(path.as_posix()))
        if not names:
            problems.append(_nothing(top / label, raw))
        rows += [(path.relative_to(top).as_posix(), path.relative_to(raw).as_posix(), label) for path in names]
    if problems:
        found = ", ".join(folders_of(top)) or "no folders"
        raise DataError(
            f"data.classes names {', '.join(classes)}; the source has {found}. Rename the folders or set data.classes:",
            problems,
        )
    return pd.DataFrame(rows, columns=["id", "path", "label"])


def top_folder(raw: Path, classes: list[str]) -> Path:
    """The folder that holds the class folders."""
    top = raw
    while not any((top / label).is_dir() for label in classes):
        below = folders_of(top)
        if len(below) != 1:
            break
        top = top / below[0]
    return top


def folders_of(folder: Path) -> list[str]:
    """The names of the folders in `folder`, in natural order."""
    return sorted((path.name for path in folder.iterdir() if path.is_dir()), key=natural)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that reads digits as numbers: h2 before h10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def patients(table: pd.DataFrame, top: Path, pattern: str | None) -> tuple[list[str], str]:
    """Each image's patient ('' where unknown), and how it was told: `pattern`, `patients.csv` or `unknown`.

    Errors: DataError naming the images that the pattern or the file says nothing about.
    """
    if pattern:
        return _by_pattern(table, pattern), "pattern"
    if (top / PATIENTS_FILE).is_file():
        return _by_file(table, top / PATIENTS_FILE), PATIENTS_FILE
    return [""] * len(table), "unknown"


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _nothing(folder: Path, raw: Path) -> str:
    where = folder.relative_to(raw).as_posix()
    if folder.is_dir():
        return f"{where}/ holds no image ({' '.join(IMAGE_SUFFIXES)})"
    return f"{where}/ does not exist"


def _by_pattern(table: pd.DataFrame, pattern: str) -> list[str]:
    found = [re.search(pattern, Path(name).name) for name in table["id"]]
    missed = [name for name, match in zip(table["id"], found, strict=True) if not match]
    if missed:
        raise DataError(f"data.patient: {pattern!r} finds no patient in the name of {_some(missed)}")
    return [match["patient"] or "" for match in found if match]


def _by_file(table: pd.DataFrame, path: Path) -> list[str]:
    listed = tables.read(path, ("image", "patient"))
    if not {"image", "patient"} <= set(listed.columns):
        raise DataError(f"{path.name}: needs the columns image and patient, has {', '.join(listed.columns)}")
    if listed["image"].duplicated().any():
        raise DataError(f"{path.name}: lists {_some(list(listed['image'][listed['image'].duplicated()]))} twice")
    by_image = listed.set_index("image")["patient"]
    missed = [name for name in table["id"] if name not in by_image.index]
    if missed:
        raise DataError(f"{path.name}: says nothing about {_some(missed)}")
    return list(by_image.loc[table["id"]])


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
