"""The figures of one prediction table: what is right, and how well the probabilities order the images."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from xraylab.evaluate import counts
from xraylab.evaluate.counts import Floats, Ints
from xraylab.evaluate.ranking import areas, ranking


def figures(actual: Ints, probabilities: Floats, positive: int | None) -> dict[str, Any]:
    """Every figure of n images, from their classes (n,) and class probabilities (n, classes).

    The prediction is the class with the highest probability, the first of equals. precision, recall, f1 and auroc
    speak of the class `positive`; None: they are the mean over classes.
    """
    confusion = counts.confusion(actual, probabilities.argmax(axis=1), probabilities.shape[1])
    return {
        "n": len(actual),
        "accuracy": counts.accuracy(confusion),
        "precision": counts.precision(confusion, positive),
        "recall": counts.recall(confusion, positive),
        "f1": counts.f1(confusion, positive),
        "auroc": auroc(actual, probabilities, positive),
        "log_loss": log_loss(actual, probabilities),
        "confusion": confusion.tolist(),
    }


def auroc(actual: Ints, probabilities: Floats, positive: int | None) -> float | None:
    """The area under the ROC curve of `positive` against the rest; None: the mean over every class against the rest.

    None where a class it needs has no image, or has them all: there is no curve then.
    """
    wanted = range(probabilities.shape[1]) if positive is None else [positive]
    if not all(has_curve(actual, label) for label in wanted):
        return None
    return float(np.mean([areas(ranking(actual == label, probabilities[:, label]))[0] for label in wanted]))


def has_curve(actual: Ints, label: int) -> bool:
    """Whether some images are of the class and some are not."""
    return 0 < int((actual == label).sum()) < len(actual)


def roc(actual: Ints, probabilities: Floats, label: int) -> pd.DataFrame:
    """The ROC curve of one class against the rest: fpr, tpr, and the probability from which an image counts as it."""
    fpr, tpr, threshold = roc_curve(actual == label, probabilities[:, label])
    return pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": threshold})


def log_loss(actual: Ints, probabilities: Floats) -> float:
    """The mean of -ln p, p being the probability of the actual class, at least float32's smallest normal number.

    Unlike the loss in history.csv it knows no class weights, so experiments with different ones can be compared.
    """
    own = probabilities[np.arange(len(actual)), actual]
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())
