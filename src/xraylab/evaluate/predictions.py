"""A prediction table against the split that it was made for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab.errors import DataError
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.units import Sample

CHECKPOINTS = ("best", "last")


def check(table: pd.DataFrame, sides: dict[str, pd.DataFrame], classes: list[str], path: Path, split: str) -> None:
    """Errors: DataError unless `table` has every image of every side once per checkpoint, with probabilities.

    `split` names the folder of the sides in the message.
    """
    columns = ["checkpoint", "side", "id", "label", *_columns(classes)]
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: `dvc repro` makes it anew")
    problems = [
        f"{checkpoint}, {side}: {problem}"
        for checkpoint in CHECKPOINTS
        for side, split in sides.items()
        for problem in _differences(_part(table, checkpoint, side), split)
    ]
    if problems:
        raise DataError(f"{path} does not match {split}; `dvc repro` makes it anew:", problems)
    numbers = table[_columns(classes)].apply(pd.to_numeric, errors="coerce")
    if not numbers.stack(future_stack=True).between(0, 1).all():
        raise DataError(f"{path} holds a probability that is not a number from 0 to 1: `dvc repro` makes it anew")


def arrays(table: pd.DataFrame, checkpoint: str, side: str, classes: list[str]) -> tuple[Ints, Floats]:
    """The actual class numbers (n,) and the class probabilities (n, classes) of one checkpoint and side."""
    part = _part(table, checkpoint, side)
    actual = part["label"].map(classes.index).to_numpy(int)
    return actual, part[_columns(classes)].to_numpy(float)


def sample(
    table: pd.DataFrame, checkpoint: str, side: str, classes: list[str], images: pd.DataFrame, source: str | None = None
) -> Sample:
    """The same with the patients, which `images`, the side's own table, knows; `source` where it is one source's."""
    patients = images.set_index("id")["patient"].astype(str)
    own = patients.reindex(ids(table, checkpoint, side).tolist())
    sources = None if source is None else np.full(len(own), source)
    return Sample(*arrays(table, checkpoint, side, classes), own.to_numpy(str), sources)


def ids(table: pd.DataFrame, checkpoint: str, side: str) -> npt.NDArray[np.str_]:
    """The images in the order of `arrays`."""
    return _part(table, checkpoint, side)["id"].to_numpy(str)


def by_image(table: pd.DataFrame, checkpoint: str, side: str, classes: list[str]) -> pd.DataFrame:
    """One row per image: id, actual and predicted class, and the probability of the predicted one."""
    part = _part(table, checkpoint, side)
    _, probabilities = arrays(table, checkpoint, side, classes)
    return pd.DataFrame(
        {
            "id": part["id"].to_numpy(),
            "actual": part["label"].to_numpy(),
            "predicted": [classes[label] for label in probabilities.argmax(axis=1)],
            "probability": probabilities.max(axis=1),
        }
    )


def _columns(classes: list[str]) -> list[str]:
    return [f"p_{label}" for label in classes]


def _part(table: pd.DataFrame, checkpoint: str, side: str) -> pd.DataFrame:
    return table[(table["checkpoint"] == checkpoint) & (table["side"] == side)]


def _differences(part: pd.DataFrame, split: pd.DataFrame) -> Iterator[str]:
    predicted = Counter(zip(part["id"], part["label"], strict=True))
    expected = Counter(zip(split["id"], split["label"], strict=True))
    yield from _count(expected - predicted, "has no prediction", "have no prediction")
    yield from _count(predicted - expected, "is predicted but not in the split", "are predicted but not in the split")


def _count(images: Counter[tuple[str, str]], one: str, many: str) -> Iterator[str]:
    if images:
        name, label = min(images)
        number = images.total()
        yield f"{number} image{'s' * (number > 1)} {many if number > 1 else one}, such as {name} ({label})"
