"""fastai's learning rate finder, with draws of its own and nothing left behind."""

from copy import deepcopy

import numpy as np
import pandas as pd
from fastai.callback.core import Callback, CancelFitException, CancelValidException
from fastai.callback.schedule import SchedExp, valley
from fastai.learner import Learner

from xraylab import progress
from xraylab.errors import TrainingError
from xraylab.train.callbacks import Reseed, Starts

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100  # fastai's
DIVERGED = 4  # times the lowest smoothed loss
SMOOTH = 0.98  # of fastai's Recorder
EPOCH = 2**31  # numbers the finder's draws apart from those of any epoch


class _Rise(Callback):  # type: ignore[misc]
    """Raises the rate from batch to batch, and writes down the smoothed loss, until that diverges."""

    order, run_valid = 60, False

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.sum = 0.0
        self.rate = SchedExp(LOWEST, HIGHEST)
        self.pace = progress.Pace(STEPS)

    def before_batch(self) -> None:
        self.opt.set_hyper("lr", self.rate(len(self.rows) / STEPS))

    def after_batch(self) -> None:
        self.sum = self.sum * SMOOTH + float(self.loss.detach()) * (1 - SMOOTH)
        loss = self.sum / (1 - SMOOTH ** (len(self.rows) + 1))
        self.rows.append({"lr": float(self.opt.hypers[-1]["lr"]), "loss": loss})
        progress.tick(self.pace, "finding a learning rate, batch")
        lowest = min(row["loss"] for row in self.rows)
        if not loss <= DIVERGED * lowest or len(self.rows) >= STEPS:
            raise CancelFitException

    def before_validate(self) -> None:
        raise CancelValidException


def curve(learn: Learner, cbs: list[Callback], seed: int, drawn: Starts) -> pd.DataFrame:
    """The smoothed training loss while the rate rises (columns lr, loss); the network is left as it was."""
    before = deepcopy(learn.model.state_dict())
    rise = _Rise()
    learn.create_opt()
    learn.fit(-(-STEPS // len(learn.dls.train)), cbs=[Reseed(seed, EPOCH, drawn), rise, *cbs])
    learn.opt = None
    learn.model.load_state_dict(before)
    return pd.DataFrame(rise.rows)


def suggestion(curve: pd.DataFrame) -> float:
    """fastai's `valley`: a place a third down the longest fall of the loss. Errors: TrainingError without a fall."""
    finite = curve[np.isfinite(curve["loss"])]
    shown = finite.iloc[STEPS // 10 : -5]  # as fastai: the first tenth and the last five say little
    if len(shown) < 3 or shown["loss"].min() >= shown["loss"].iloc[0]:
        raise TrainingError(
            "train.lr: find saw no rate at which the loss falls: set train.lr to a number (1e-3 is a good first try)"
        )
    rate, _ = valley(list(shown["lr"]), list(shown["loss"]), len(shown))
    return float(rate)
