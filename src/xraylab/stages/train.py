"""train: one experiment, one repeat."""

import shutil

import pandas as pd

from xraylab.model import distributed, hardware, memory
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.train import launch, lr_find, outputs
from xraylab.train.fit import find_rate as find_lr
from xraylab.train.fit import fit
from xraylab.train.learner import dataloaders, learner
from xraylab.train.run import TrainingRun
from xraylab.train.state import locked


def run(params: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Train from the last finished epoch, or from the start, and write models/<experiment>/<repeat>/."""
    if launch.is_one_of_several():
        launch.take_part(lambda: train(params, paths, experiment, repeat))
        return
    devices = launch.count_devices(config.read_config(paths.config(experiment)).train)
    if devices > 1:
        for line in launch.describe(devices):
            print(line)
        launch.start(paths.root, experiment, repeat, devices)
    else:
        train(params, paths, experiment, repeat)


def train(params: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Train in this process, alone or as one of several, of which the main one writes."""
    cfg = _load(params, paths, experiment, repeat)
    dls = dataloaders(cfg)
    learn = learner(cfg, dls)
    state = cfg.state(dls.train_ds.inputs)
    if not distributed.is_main():
        fit(learn, cfg, state)
        return
    with locked(state.folder):
        state.refuse_other_devices()
        outputs.require_room(learn, cfg, state)
        fit(learn, cfg, state)
        outputs.write(learn, cfg, state)
        shutil.rmtree(state.folder)


def find_rate(params: Params, paths: Paths, experiment: str, repeat: int) -> tuple[pd.DataFrame, float]:
    """The learning rate finder's curve for an experiment, and its suggestion, whatever train.lr says."""
    cfg = _load(params, paths, experiment, repeat)
    curve = find_lr(learner(cfg, dataloaders(cfg)), cfg)
    return curve, lr_find.suggestion(curve)


def _load(params: Params, paths: Paths, experiment: str, repeat: int) -> TrainingRun:
    memory.keep_freed()
    cfg = TrainingRun.load(params, paths, experiment, repeat)
    print(*hardware.first_lines(cfg.name, cfg.hardware), sep="\n")
    return cfg
