"""Figures of any kept epoch, on request."""

from typing import Any

import numpy as np

from xraylab import files, tables
from xraylab.evaluate import counts
from xraylab.params import Params
from xraylab.paths import Paths
from xraylab.predict import kept, table


def epoch(given: Params, paths: Paths, experiment: str, repeat: int, number: int | None, side: str) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 and confusion of one epoch (None: the best) on one side.

    Errors: MissingError where the experiment was not trained, WeightsError where the epoch was not kept.
    """
    folder = paths.model(experiment, repeat)
    model = files.read_json(folder / "model.json")
    chosen = kept.epoch_of(model, "best") if number is None else number
    images = tables.read(paths.split / f"{side}_data.csv")[["id", "label"]]
    scored = table.probabilities(folder, model, chosen, images, paths.cache)
    classes = model["classes"]
    actual = np.array([classes.index(label) for label in scored["label"]], np.int64)
    predicted = scored[[f"p_{label}" for label in classes]].to_numpy().argmax(axis=1)
    confusion = counts.confusion(actual, predicted, len(classes))
    positive = classes.index(given.data.positive) if given.data.positive else None
    return {
        "epoch": chosen,
        "images": len(images),
        "accuracy": counts.accuracy(confusion),
        "precision": counts.precision(confusion, positive),
        "recall": counts.recall(confusion, positive),
        "f1": counts.f1(confusion, positive),
        "confusion": confusion.tolist(),
    }
