"""Images that nobody has labelled, classified by trained runs: a table for people, or one for a competition."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from xraylab import tables
from xraylab.data.layouts.listing import is_image, walk
from xraylab.errors import DataError
from xraylab.evaluate.counts import Floats
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import elsewhere


def run(
    given: Params, paths: Paths, names: list[str], place: Path, target: Path, submission: str | None, numbers: bool
) -> Iterator[str]:
    """Classify the image or the folder of images `place` by the mean probabilities of runs, and write a CSV.

    Each name is experiment/repeat, or an experiment with all its repeats. `submission` is the header of a table of two
    columns, file and class, instead of the whole one; `numbers`: classes are written as their place in data.classes,
    from 0. Errors: DataError for a name, place or header that does not fit
    or an image that cannot be read, MissingError for a run that was not trained.
    """
    header = None if submission is None else _header(submission)
    several = elsewhere.runs(paths, names)
    raw, images = _images(place)
    each_p, how = elsewhere.probabilities(given, several, images, raw)
    p = np.mean(each_p, axis=0)
    classes = several[0].model["classes"]
    chosen = p.argmax(axis=1)
    called = pd.Series(chosen if numbers else [classes[number] for number in chosen])
    tables.write(_whole(images, called, p, classes) if header is None else _short(images, called, header), target)
    yield f"{', '.join(each.name for each in several)}: {len(images)} images"
    yield from (f"{label:24} {(chosen == number).sum():6}" for number, label in enumerate(classes))
    yield from how
    yield f"written to {target}"


def _images(place: Path) -> tuple[Path, pd.DataFrame]:
    """The folder, and its images as the columns id and path, in the natural order of their names."""
    if place.is_file() and is_image(place.name):
        folder, found = place.parent, [place.name]
    elif place.is_dir():
        folder, found = place, walk(place).images
    else:
        raise DataError(f"{place} is neither an image nor a folder of images")
    if not found:
        raise DataError(f"{place} holds no images")
    return folder, pd.DataFrame({"id": found, "path": found})


def _header(text: str) -> tuple[str, str]:
    """Two names of columns."""
    first, comma, second = (part.strip() for part in text.partition(","))
    if not (first and comma and second) or "," in second or first == second:
        raise DataError(f"--submission {text!r}: write the names of its two columns, such as Id,Label")
    return first, second


def _whole(images: pd.DataFrame, called: pd.Series, p: Floats, classes: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": images["id"], "predicted": called, **{f"p_{label}": p[:, n] for n, label in enumerate(classes)}}
    )


def _short(images: pd.DataFrame, called: pd.Series, header: tuple[str, str]) -> pd.DataFrame:
    """Competitions know an image by its file's name without the suffix."""
    names = [Path(name).stem for name in images["id"]]
    if len(set(names)) < len(names):
        raise DataError("two images have one name, in different folders or with different suffixes: name one folder")
    return pd.DataFrame(dict(zip(header, (names, called), strict=True)))
