"""Several runs as one: the mean of their class probabilities."""

from pathlib import Path
from typing import Any

import numpy as np

from xraylab import tables
from xraylab.errors import DataError, MissingError
from xraylab.evaluate import figures as of_one
from xraylab.evaluate import predictions
from xraylab.paths import Paths


def figures(
    paths: Paths, runs: list[str], classes: list[str], positive: str | None, checkpoint: str, side: str
) -> dict[str, Any]:
    """The figures of `runs` together, each an experiment or experiment/repeat, and how many they are.

    Errors: MissingError for a run without predictions, DataError where two do not predict the same images.
    """
    files = list(dict.fromkeys(file for run in runs for file in _files(paths, run)))
    read = [tables.read(file) for file in files]
    images = [predictions.by_image(table, checkpoint, side, classes)[["id", "actual"]] for table in read]
    for file, shown in zip(files, images, strict=True):
        if not shown.equals(images[0]):
            raise DataError(
                f"{_name(files[0])} and {_name(file)} predict other {side} images, as runs of different folds do: "
                "name runs of one fold"
            )
    if images[0].empty:
        raise DataError(f"the {side} side has no images: score the other side")
    actual, _ = predictions.arrays(read[0], checkpoint, side, classes)
    means = np.mean([predictions.arrays(table, checkpoint, side, classes)[1] for table in read], axis=0)
    number = None if positive is None else classes.index(positive)
    return {"runs": len(files), **of_one.figures(actual, means, number)}


def _files(paths: Paths, run: str) -> list[Path]:
    experiment, _, repeat = run.partition("/")
    found = sorted((paths.predictions / experiment).glob(f"{repeat or '*'}.csv"))
    if not found:
        raise MissingError(f"{run} has no predictions: `dvc repro` makes those of the experiments in params.yaml")
    return found


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"
