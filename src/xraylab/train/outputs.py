"""Outputs of a finished run: models/<experiment>/<repeat>/, and the metric that DVC shows."""

import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from xraylab import files, plugins, tables
from xraylab.model import create, weights
from xraylab.train import lr_find
from xraylab.train.generations import KEPT
from xraylab.train.learner import XrayLearner
from xraylab.train.run import TrainingRun
from xraylab.train.state import LR_CURVE, TrainingState

DECIMALS = 6  # of the metric that DVC shows


def require_room(learn: XrayLearner, run: TrainingRun, state: TrainingState) -> None:
    """Refuse before training what could not be written in the end; sizes are lower bounds, without the optimizer's.

    Errors: DiskError.
    """
    folder, start = run.paths.model(run.experiment, run.repeat).parent, learn.starting_model
    files.require_writable(folder)
    # of each generation the weights to resume from and those that are scored; in the end those of best and last
    files.refuse_full(state.folder, KEPT * 2 * _size(start.trainable), f"the state of {run.name}")
    files.refuse_full(folder, 2 * _size(start.model), f"models/{run.name}")


def _size(module: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(each.nbytes for each in module.state_dict().values())


def write(learn: XrayLearner, run: TrainingRun, state: TrainingState) -> None:
    """Write the weights, the history and model.json, all or nothing; then the metric."""
    with files.replacing_folder(run.paths.model(run.experiment, run.repeat)) as folder:
        _write_weights(learn, run, state, folder)
        tables.write(pd.DataFrame(state.rows), folder / "history.csv")
        if (state.folder / LR_CURVE).is_file():
            shutil.copyfile(state.folder / LR_CURVE, folder / LR_CURVE)
        frozen = create.describe_frozen(learn.starting_model, run.cfg.model.freeze)
        record = {**describe(run), "frozen": frozen, **_outcome(state), "hardware": run.hardware.record()}
        files.write_json(record, folder / "model.json")
    files.write_json({run.name: _metric(state)}, run.paths.run_metric(run.experiment, run.repeat))


def describe(run: TrainingRun) -> dict[str, Any]:
    """Describe a run for model.json, as far as known before training."""
    return {
        "experiment": run.experiment,
        "repeat": run.repeat,
        **create.describe_model(run.cfg.model, len(run.classes), run.paths.weights(run.cfg.model.pretrained)),
        "task": run.params.data.task,
        "classes": run.classes,
        "positive": run.params.data.positive,
        "images": run.params.images.model_dump(),
        "augment": run.augmentation,
        "monitor": run.cfg.train.monitor,
        "plugins": plugins.fingerprints(run.plugins),
    }


def _write_weights(learn: XrayLearner, run: TrainingRun, state: TrainingState, folder: Path) -> None:
    """The whole network after each kept epoch, put together from what was frozen and what was trained."""
    names = {"best": state.best, "last": state.last}
    more_epochs = state.kept_epochs if state.policy.keep_all else state.averaged.values()
    names |= {state.weights(epoch).stem: epoch for epoch in more_epochs}
    for name, epoch in names.items():
        weights.restore(learn.starting_model.trainable, state.weights(epoch))
        weights.save(learn.starting_model.model, folder / f"{name}.safetensors", run.classes)


def _metric(state: TrainingState) -> dict[str, float | None]:
    """The metric that chose the best epoch; on validation images it is f1 and the like, on test images test_f1."""
    monitor = state.policy.monitor
    value = state.rows[state.best][monitor]
    return {monitor.removeprefix("valid_"): None if math.isnan(value) else round(value, DECIMALS)}


def _outcome(state: TrainingState) -> dict[str, Any]:
    curve = state.folder / LR_CURVE
    return {
        "lr_found": lr_find.suggestion(tables.read(curve)) if curve.is_file() else None,
        "best_epoch": state.best,
        "last_epoch": state.last,
        "kept_epochs": state.kept_epochs,
        "averaged": {name: {"epoch": epoch, "of": state.averaged_from(name)} for name, epoch in state.averaged.items()},
        "scoring_batch": state.scoring_batch,
        "train_seconds": round(state.seconds, 1),
    }
