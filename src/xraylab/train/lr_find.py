"""fastai's learning rate finder, with draws of its own and nothing left behind."""

from copy import deepcopy

import numpy as np
import pandas as pd
from fastai.callback import schedule
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.schedule import valley
from fastai.learner import Learner

from xraylab import progress
from xraylab.errors import TrainingError

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100  # fastai's
DIVERGED = 4  # times the lowest smoothed loss
SMOOTH = 0.98  # of fastai's Recorder


class LRFinder(schedule.LRFinder):  # type: ignore[misc]
    """fastai's finder, which raises the rate from batch to batch until the smoothed loss diverges.

    It keeps the network in memory, not below models/, which is DVC's; a loss that is no number ends it; and it smooths
    in float64, so that equal losses are equal.
    """

    def __init__(self) -> None:
        super().__init__(LOWEST, HIGHEST, STEPS)
        self.rows: list[dict[str, float]] = []
        self.sum = 0.0
        self.pace = progress.Pace(STEPS)

    def before_fit(self) -> None:
        self.hps: dict[str, list[float]] = {"lr": []}
        self.weights = deepcopy(self.model.state_dict())

    def after_batch(self) -> None:
        self.sum = self.sum * SMOOTH + float(self.loss.detach()) * (1 - SMOOTH)
        loss = self.sum / (1 - SMOOTH ** (len(self.rows) + 1))
        self.rows.append({"lr": float(self.opt.hypers[-1]["lr"]), "loss": loss})
        progress.tick(self.pace, "finding a learning rate, batch")
        lowest = min(row["loss"] for row in self.rows)
        if not loss <= DIVERGED * lowest or len(self.rows) >= STEPS:
            raise CancelFitException

    def after_fit(self) -> None:
        self.learn.model.load_state_dict(self.weights)


def lr_curve(learn: Learner, cbs: list[Callback]) -> pd.DataFrame:
    """The smoothed training loss while the rate rises (columns lr, loss); the network is left as it was."""
    finder = LRFinder()
    learn.create_opt()
    with learn.no_bar(), learn.no_logging():
        learn.fit(-(-STEPS // len(learn.dls.train)), cbs=[finder, *cbs])
    learn.opt = None
    return pd.DataFrame(finder.rows)


def suggestion(curve: pd.DataFrame) -> float:
    """fastai's `valley`: a place a third down the longest fall of the loss. Errors: TrainingError without a fall."""
    finite = curve[np.isfinite(curve["loss"])]
    trimmed = finite.iloc[STEPS // 10 : -5]  # as fastai: the first tenth and the last five say little
    if len(trimmed) < 3 or trimmed["loss"].min() >= trimmed["loss"].iloc[0]:
        raise TrainingError(
            "train.lr: find saw no rate at which the loss falls: set train.lr to a number (1e-3 is a good first try)"
        )
    rate, _ = valley(list(trimmed["lr"]), list(trimmed["loss"]), len(trimmed))
    return float(rate)
