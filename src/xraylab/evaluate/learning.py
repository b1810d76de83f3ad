"""What the epochs tell: when accuracy was highest, and how far training is ahead of the test."""

import pandas as pd

from xraylab.evaluate.estimates import Row

HIGHEST, GAP = "epochs_to_highest_accuracy", "train_test_gap"


def epochs_to_highest(history: pd.DataFrame, side: str) -> int:
    """How many epochs it took to the first with the highest accuracy on `side`, which chose the epoch."""
    accuracy = pd.to_numeric(history[f"{side}_accuracy"], errors="coerce")
    return int(accuracy.to_numpy().argmax()) + 1


def gap(history: pd.DataFrame, epoch: int, accuracy: Row) -> Row:
    """Training accuracy of the epoch less test accuracy, with the interval that the latter gives it.

    Training accuracy is the running mean over the epoch's batches, augmentation and dropout at work.
    """
    train = float(history.loc[history["epoch"] == epoch, "train_accuracy"].iloc[0])
    ends = [None if accuracy[end] is None else train - accuracy[end] for end in ("high", "low")]
    return accuracy | {"figure": GAP, "value": train - accuracy["value"], "low": ends[0], "high": ends[1]}
