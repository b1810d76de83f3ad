"""Which test images to look at: right and wrong ones of each kind, and those with the greatest loss."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from xraylab import targets
from xraylab.targets import Values

WRONG = ("false positive", "false negative")


@dataclass(frozen=True)
class Cell:
    """Images of one kind. `rows` has the columns id, actual, predicted, probability (of the predicted) and loss."""

    kind: str
    label: str  # the class of which they are true or false positives or negatives
    rows: pd.DataFrame
    total: int  # how many there are in all


def with_losses(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """One row per image of a prediction table (id, label, p_<class>): see `Cell`. The loss is -ln p of the actual."""
    p = predictions[[f"p_{label}" for label in classes]].to_numpy(float)
    actual = predictions["label"].map(classes.index).to_numpy(int)
    of_actual = np.maximum(p[np.arange(len(p)), actual], np.finfo(np.float32).tiny)
    return pd.DataFrame(
        {
            "id": predictions["id"].to_numpy(),
            "actual": predictions["label"].to_numpy(),
            "predicted": [classes[number] for number in p.argmax(axis=1)],
            "probability": p.max(axis=1),
            "loss": -np.log(of_actual),
        }
    )


def most_frequent(truth: Values, findings: list[str], count: int) -> list[str]:
    """The `count` findings that are present in most images (n, findings); none that is present in none."""
    positive = (truth == 1).sum(axis=0)
    order = np.argsort(-positive, kind="stable")[:count]
    return [findings[number] for number in order if positive[number]]


def of_findings(predictions: pd.DataFrame, truth: Values, thresholds: dict[str, float]) -> pd.DataFrame:
    """One row per image and finding that is known there: see `Cell`, and the column `finding`.

    A finding is predicted from its threshold on; what is not there is called `not <finding>`.
    """
    return pd.concat(
        [_of_finding(predictions, truth[:, number], *each) for number, each in enumerate(thresholds.items())],
        ignore_index=True,
    )


def _of_finding(predictions: pd.DataFrame, label: Values, finding: str, threshold: float) -> pd.DataFrame:
    known = targets.known(label)
    p, present = predictions[f"p_{finding}"].to_numpy(float)[known], label[known] == 1
    names = np.array([f"not {finding}", finding], dtype=object)
    predicted = p >= threshold
    of_actual = np.maximum(np.where(present, p, 1 - p), np.finfo(np.float32).tiny)
    return pd.DataFrame(
        {
            "id": predictions["id"].to_numpy()[known],
            "finding": finding,
            "actual": names[present.astype(int)],
            "predicted": names[predicted.astype(int)],
            "probability": np.where(predicted, p, 1 - p),
            "loss": -np.log(of_actual),
        }
    )


def confusion_cells(images: pd.DataFrame, classes: list[str], positive: str | None, count: int) -> list[Cell]:
    """True and false positives and negatives of the positive class, at most `count` images of each.

    With more than two classes, of each class against the rest, without true negatives, which would be shown as the true
    positives of other classes. Right ones run from the surest to the least sure, of wrong ones the surest come first.
    """
    kinds = ("true positive", "false negative", "false positive")
    cells = [(kind, label) for label in classes for kind in kinds]
    if positive is not None:
        cells = [(kind, positive) for kind in (*kinds, "true negative")]
    rows = [(kind, label, _rows(images, kind, label)) for kind, label in cells]
    return [Cell(kind, label, _shown(every, kind in WRONG, count), len(every)) for kind, label, every in rows]


def top_losses(images: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` images with the greatest loss, the greatest first; each with its own greatest."""
    return images.sort_values("loss", ascending=False, kind="stable").drop_duplicates("id").head(count)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers from 0 to `count` - 1, evenly spread, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())) if count else []


def _rows(images: pd.DataFrame, kind: str, label: str) -> pd.DataFrame:
    right, says = kind.split()
    predicted = (images["predicted"] == label) == (says == "positive")
    rows = images[predicted & ((images["actual"] == images["predicted"]) == (right == "true"))]
    if kind == "false negative":  # of several classes, those of this one alone
        rows = rows[rows["actual"] == label]
    return rows.sort_values("probability", ascending=False, kind="stable")


def _shown(ordered: pd.DataFrame, wrong: bool, count: int) -> pd.DataFrame:
    return ordered.head(count) if wrong else ordered.iloc[evenly(len(ordered), count)]
