"""TensorBoard and Weights & Biases through fastai's own callbacks, where the environment asks for them.

They watch a run and change nothing of it, so they are no parameter: a run is not trained again to be watched.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from fastai.callback.core import Callback

from xraylab.errors import TrainingError
from xraylab.train.state import Row

VARIABLE = "XRAYLAB_TRACKERS"  # names with commas between them


class _Count(Callback):  # type: ignore[misc]
    """Numbers batches through all phases, also after an interruption; fastai begins anew in each."""

    order = -9

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def before_train(self) -> None:
        self.learn.train_iter = len(self.rows) * len(self.dls.train)


def callbacks(rows: list[Row], folder: Path, title: str) -> list[Callback]:
    """Callbacks of the requested trackers, for a run with these finished epochs; none by default.

    Errors: TrainingError for a tracker that is unknown or not installed.
    """
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return [_Count(rows), *(_find(name)(folder, title) for name in names)] if names else []


def _find(name: str) -> Callable[[Path, str], Callback]:
    if name not in TRACKERS:
        raise TrainingError(f"{VARIABLE} names {name!r}; there is {', '.join(TRACKERS)}")
    try:
        import_module(name)
    except ImportError as error:
        raise TrainingError(
            f"{VARIABLE} asks for {name}, which cannot be imported ({error}): pip install 'xraylab[{name}]', or"
            f" pip install {name}"
        ) from None
    return TRACKERS[name]


def _tensorboard(folder: Path, title: str) -> Callback:
    base = import_module("fastai.callback.tensorboard").TensorBoardCallback

    class Board(base):  # type: ignore[misc, valid-type]
        """Logs only the learning rate of the optimizer's settings, since some of torch's are no numbers."""

        run_valid = False

        def after_batch(self) -> None:
            self.writer.add_scalar("train_loss", self.smooth_loss, self.train_iter)
            self.writer.add_scalar("lr", self.opt.hypers[-1]["lr"], self.train_iter)

    return Board(log_dir=folder / "tensorboard" / title, trace_model=False, log_preds=False)


def _wandb(folder: Path, title: str) -> Callback:
    folder.mkdir(parents=True, exist_ok=True)
    import_module("wandb").init(project="xraylab", name=title, dir=str(folder), reinit="finish_previous")
    return import_module("fastai.callback.wandb").WandbCallback(log_preds=False)


TRACKERS: dict[str, Callable[[Path, str], Callback]] = {"tensorboard": _tensorboard, "wandb": _wandb}
