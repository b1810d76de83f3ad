"""Figures of any kept epoch, on request."""

from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.errors import DataError
from xraylab.evaluate import counts
from xraylab.paths import Paths
from xraylab.predict import kept, table


def epoch(paths: Paths, experiment: str, repeat: int, number: int | None, side: str, copies: int = 0) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 and confusion of one epoch (None: the best) on one side.

    `copies` augmented ones join each image, as in `predict`.

    Errors: MissingError where the experiment was not trained, WeightsError where the epoch was not kept, DataError
    where the side is empty or of other classes.
    """
    folder = paths.model(experiment, repeat)
    model = files.read_json(folder / "model.json")
    chosen = kept.epoch_of(model, "best") if number is None else number
    images = tables.read(paths.split_of(repeat) / f"{side}_data.csv")[["id", "label"]]
    _refuse_other_data(images, model["classes"], side)
    (scored,), notes = table.probabilities(folder, model, [chosen], images, paths.cache, copies)
    classes = model["classes"]
    actual = np.array([classes.index(label) for label in scored["label"]], np.int64)
    predicted = scored[[f"p_{label}" for label in classes]].to_numpy().argmax(axis=1)
    confusion = counts.confusion(actual, predicted, len(classes))
    positive = classes.index(model["positive"]) if model["positive"] else None
    return {
        "epoch": chosen,
        "images": len(images),
        "accuracy": counts.accuracy(confusion),
        "precision": counts.precision(confusion, positive),
        "recall": counts.recall(confusion, positive),
        "f1": counts.f1(confusion, positive),
        "confusion": confusion.tolist(),
        "computed": "; ".join([*table.first_lines(model), *notes]),
    }


def _refuse_other_data(images: pd.DataFrame, classes: list[str], side: str) -> None:
    if images.empty:
        raise DataError(f"the {side} side has no images (split.valid is 0): score the other side")
    others = sorted(set(images["label"]) - set(classes))
    if others:
        raise DataError(
            f"the experiment was trained on {', '.join(classes)}, the data now hold {', '.join(others)}: "
            "`dvc repro` trains it anew"
        )
