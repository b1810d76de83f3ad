"""The used images as class-per-folder `train/`, `valid/` and `test/`, for other tools.

Where an image may have several findings there is one folder per split, and a table of them.
"""

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd

from xraylab import files, progress, tables, targets
from xraylab.data.names import some
from xraylab.data.split.strategies import SPLITS
from xraylab.errors import DataError, MissingError
from xraylab.paths import Paths


def write(folder: Path, paths: Paths, link: bool, fold: int) -> dict[str, int]:
    """Write <folder>/<split>/<class>/<file name> of data/split, and say how many images each split has.

    With several findings per image it is <folder>/<split>/<file name>, and labels.csv: image, patient, split, and a
    column per finding with 1, 0, -1 (uncertain) or nothing.

    `fold` is 0 where the split has no folds. The images are copies, or with `link` symbolic links to data/raw. Where
    two of one folder share a file name, both get their id, with `__` for `/`. `folder` is written wholly or not at all.

    Errors: DataError where `folder` is not empty, the fold does not exist or a name is still not unique; MissingError
    where an image is not in data/raw.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder: export to a new one")
    _refuse_unknown_fold(fold, paths.folds)
    by_split = {split: tables.read(paths.split_of(fold) / f"{split}_data.csv") for split in SPLITS}
    images = pd.concat([table.assign(split=split) for split, table in by_split.items()], ignore_index=True)
    _refuse_missing(images, paths.raw)
    findings = targets.of_table(images)
    names = _names(images, images["split"] + "/" + ("" if findings else images["label"] + "/"))
    with files.replacing_folder(folder) as target:
        pairs = zip(images["path"], names, strict=True)
        for path, name in progress.bar(pairs, len(names), "exporting images"):
            _put(paths.raw.absolute() / path, target / name, link)
        if findings:
            columns = {column: column.removeprefix(targets.PREFIX) for column in findings}
            table = images[["patient", "split", *findings]].rename(columns=columns)
            tables.write(table.assign(image=names)[["image", *table.columns]], target / "labels.csv")
    return {split: len(table) for split, table in by_split.items()}


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


def _names(images: pd.DataFrame, folder: pd.Series) -> list[str]:
    """The name in its `folder` of every image; names are compared as file systems do that ignore case."""
    plain = folder + images["path"].str.rpartition("/")[2]
    suffix = images["path"].map(lambda path: Path(path).suffix)
    flat = pd.Series(
        [
            name.replace("/", "__") + ("" if name.endswith(end) else end)
            for name, end in zip(images["id"], suffix, strict=True)
        ]
    )
    names = plain.where(~plain.str.casefold().duplicated(keep=False), folder + flat)
    twice = [target for target, count in Counter(names.str.casefold()).items() if count > 1]
    if twice:
        raise DataError(f"several images would be written to {some(twice)}: rename them in the source")
    return list(names)


def _put(image: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            target.symlink_to(image)
        except OSError as error:  # Windows lets only administrators and developers make links
            raise DataError(f"{target}: no link can be made there ({error.strerror}): leave out --link") from None
    else:
        shutil.copyfile(image, target)
