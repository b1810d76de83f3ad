"""The runs of a study as arrays, and what is made of several: folds pooled, probabilities averaged over repeats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab.evaluate import pool
from xraylab.evaluate.counts import Floats
from xraylab.evaluate.units import Sample, joined


@dataclass(frozen=True)
class Run:
    """One experiment and repeat. Samples are by checkpoint, best and last; `valid` is empty where there is no side."""

    experiment: str
    repeat: int
    select_on: str
    ids: npt.NDArray[np.str_]  # of the test images
    test: dict[str, Sample]
    valid: dict[str, Sample]
    history: pd.DataFrame
    epochs: dict[str, int]

    def chosen_on(self, checkpoint: str) -> str:
        return self.select_on if checkpoint == "best" else "none"


def by_experiment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.experiment, []).append(run)
    return found


def mean(runs: Sequence[Run], checkpoint: str) -> tuple[npt.NDArray[np.str_], Sample]:
    """Each test image once, in the order of ids, with the mean of its probabilities over the runs that test it.

    With folds every image is tested by some runs only, so this pools the folds.
    """
    ids, first, place = np.unique(np.concatenate([run.ids for run in runs]), return_index=True, return_inverse=True)
    whole = joined([run.test[checkpoint] for run in runs])
    times = np.bincount(place)
    averaged: Floats = np.column_stack([np.bincount(place, column) / times for column in whole.probabilities.T])
    return ids, replace(whole[first], probabilities=averaged)


def pooled(runs: Sequence[Run], folds: int, checkpoint: str) -> dict[int, Sample]:
    """Round -> the test images of its folds together, each with the probabilities of the one run that tested it."""
    own = {run.repeat: run.test[checkpoint] for run in runs}
    return {
        number: joined([own[repeat] for repeat in members]) for number, members in pool.rounds(list(own), folds).items()
    }
