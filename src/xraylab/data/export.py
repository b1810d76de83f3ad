"""The used images as class-per-folder `train/`, `valid/` and `test/`, for other tools."""

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd

from xraylab import files, progress, tables
from xraylab.data.names import some
from xraylab.data.split.sides import SIDES
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths


def write(folder: Path, paths: Paths, link: bool, fold: int) -> dict[str, int]:
    """Write <folder>/<side>/<class>/<file name> of data/split, and say how many images each side has.

    `fold` is 0 where the split has no folds. The images are copies, or with `link` symbolic links to data/raw. Where
    two of one folder share a file name, both get their id, with `__` for `/`. `folder` is written wholly or not at all.

    Errors: DataError where `folder` is not empty, the fold does not exist or a name is still not unique; MissingError
    where an image is not in data/raw.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder: export to a new one")
    _refuse_unknown_fold(fold, paths.folds)
    read = {side: tables.read(paths.split_of(fold) / f"{side}_data.csv") for side in SIDES}
    images = pd.concat([table.assign(side=side) for side, table in read.items()], ignore_index=True)
    _refuse_missing(images, paths.raw)
    places = _places(images)
    with files.replacing_folder(folder) as target:
        pairs = zip(images["path"], places, strict=True)
        for path, place in progress.bar(pairs, len(places), "exporting images"):
            _put(paths.raw.absolute() / path, target / place, link)
    return {side: len(table) for side, table in read.items()}


def _refuse_unknown_fold(fold: int, folds: int | None) -> None:
    if folds is None and fold != 0:
        raise DataError(f"there is no fold {fold}, since the split has no folds (split.strategy)")
    if folds is not None and fold not in range(folds):
        raise DataError(f"there is no fold {fold}: the split has folds 0 to {folds - 1}")


def _refuse_missing(images: pd.DataFrame, raw: Path) -> None:
    missing = [path for path in images["path"] if not (raw / path).is_file()]
    if missing:
        raise MissingError(
            f"{len(missing)} of {len(images)} images are not in {raw}: `dvc repro` brings them: {some(missing)}"
        )


def _places(images: pd.DataFrame) -> list[str]:
    """<side>/<class>/<name> of every image; names are compared as file systems do that ignore case."""
    folder = images["side"] + "/" + images["label"] + "/"
    plain = folder + images["path"].str.rpartition("/")[2]
    suffix = images["path"].map(lambda path: Path(path).suffix)
    flat = pd.Series(
        [
            name.replace("/", "__") + ("" if name.endswith(end) else end)
            for name, end in zip(images["id"], suffix, strict=True)
        ]
    )
    places = plain.where(~plain.str.casefold().duplicated(keep=False), folder + flat)
    twice = [place for place, count in Counter(places.str.casefold()).items() if count > 1]
    if twice:
        raise DataError(f"several images would be written to {some(twice)}: rename them in the source")
    return list(places)


def _put(image: Path, place: Path, link: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            place.symlink_to(image)
        except OSError as error:  # Windows lets only administrators and developers make links
            raise DataError(f"{place}: no link can be made there ({error.strerror}): leave out --link") from None
    else:
        shutil.copyfile(image, place)
