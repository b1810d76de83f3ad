"""Classify unlabelled images by trained runs, into a full table or a competition's submission."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import tables
from xraylab.data.layouts.listing import is_image, walk
from xraylab.errors import DataError
from xraylab.evaluate.confusion import Floats
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import checkpoints


def run(
    cfg: Params, paths: Paths, names: list[str], path: Path, target: Path, submission: str | None, numbers: bool
) -> Iterator[str]:
    """Classify the image or the folder of images `path` by the mean probabilities of runs, and write a CSV.

    Each name is experiment/repeat, or an experiment with all its repeats. `submission` is the header of a table of two
    columns, file and class, instead of the whole one; `numbers`: classes are written as their place in data.classes,
    from 0. Errors: DataError for a name, path or header that does not fit, or an image that cannot be read,
    MissingError for a run that was not trained.
    """
    header = None if submission is None else _header(submission)
    runs = checkpoints.find_runs(paths, names)
    raw, images = _images(path)
    per_run, notes = checkpoints.predict_files(runs, images, raw, cfg.predict.tta)
    p = np.mean(per_run, axis=0)
    classes = runs[0].classes
    highest = p.argmax(axis=1)
    predicted = pd.Series(highest if numbers else [classes[number] for number in highest])
    table = (
        _full_table(images, predicted, p, classes) if header is None else _submission_table(images, predicted, header)
    )
    tables.write(table, target)
    yield f"{', '.join(run.name for run in runs)}: {len(images)} images"
    yield from (f"{label:24} {(highest == number).sum():6}" for number, label in enumerate(classes))
    yield from notes
    yield f"written to {target}"


def _images(path: Path) -> tuple[Path, pd.DataFrame]:
    """The folder, and its images as the columns id and path, in the natural order of their names."""
    if path.is_file() and is_image(path.name):
        folder, names = path.parent, [path.name]
    elif path.is_dir():
        folder, names = path, walk(path).images
    else:
        raise DataError(f"{path} is neither an image nor a folder of images")
    if not names:
        raise DataError(f"{path} holds no images")
    return folder, pd.DataFrame({"id": names, "path": names})


def _header(text: str) -> tuple[str, str]:
    """Two names of columns."""
    first, comma, second = (part.strip() for part in text.partition(","))
    if not (first and comma and second) or "," in second or first == second:
        raise DataError(f"--submission {text!r}: write the names of its two columns, such as Id,Label")
    return first, second


def _full_table(images: pd.DataFrame, predicted: pd.Series, p: Floats, classes: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": images["id"], "predicted": predicted, **{f"p_{label}": p[:, n] for n, label in enumerate(classes)}}
    )


def _submission_table(images: pd.DataFrame, predicted: pd.Series, header: tuple[str, str]) -> pd.DataFrame:
    """Competitions know an image by its file's name without the suffix."""
    names = [Path(name).stem for name in images["id"]]
    if len(set(names)) < len(names):
        raise DataError("two images have one name, in different folders or with different suffixes: name one folder")
    return pd.DataFrame(dict(zip(header, (names, predicted), strict=True)))
