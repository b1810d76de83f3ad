"""train: one experiment, one repeat."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torchvision.models import ResNet

from xraylab import files, params, tables
from xraylab.data.augment import Augmentation
from xraylab.data.batches import MEAN, STD, TrainingBatches, load
from xraylab.data.loaders import dataloaders
from xraylab.errors import WeightsError
from xraylab.model import cost, hardware, losses, networks, optimizers, schedules, weights
from xraylab.model.hardware import Hardware, deterministic_algorithms
from xraylab.params import Params, Plan
from xraylab.paths import Paths
from xraylab.train import callbacks, state
from xraylab.train.lifetime import end_with_parent
from xraylab.train.run import Run, fit, learner

Rows = NDArray[np.int64]


def run(given: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Train from the last finished epoch, or from the start, and write models/<experiment>/<repeat>/."""
    end_with_parent()
    plan = params.read_plan(paths.plan(experiment))
    machine = hardware.choose(plan.train.precision)
    deterministic_algorithms()
    key = state.key(
        plan.model_dump(), given.data.classes, given.data.positive, _inputs(paths, repeat), machine.record(), repeat
    )
    folder = paths.state / "runs" / f"{experiment}-{repeat}-{key}"
    with state.locked(folder):
        finished = _train(given, paths, plan, machine, folder, repeat, f"{experiment}-{repeat}")
        with files.replacing_folder(paths.model(experiment, repeat)) as output:
            _write(finished, plan, machine, output, experiment, repeat, given)
        shutil.rmtree(folder)


def _train(given: Params, paths: Paths, plan: Plan, machine: Hardware, folder: Path, repeat: int, title: str) -> Run:
    classes = given.data.classes
    sides = {name: tables.read(paths.split_of(repeat) / f"{name}_data.csv") for name in ("train", "valid", "test")}
    scored = _scored(sides, plan.train.select_on)
    images, row_of = load(paths.cache)
    rows, labels = _rows(sides["train"], row_of, classes)
    torch.manual_seed(repeat)
    network = networks.build(plan.model.arch, len(classes), plan.model.channels, plan.model.dropout)
    _load_pretrained(network, plan, paths)
    augmentation = Augmentation(**plan.augment.model_dump())
    batches = TrainingBatches(images, rows, labels, plan.model.channels, plan.model.pixels, augmentation, repeat)
    dls = dataloaders(batches, *_rows(scored, row_of, classes), plan.train.batch_size, machine.device)
    loss = losses.cross_entropy(losses.class_weights(plan.loss.class_weights, labels, len(classes))).to(machine.device)
    penalty = [callbacks.L2Penalty(plan.loss.l2)] if plan.loss.l2 > 0 else []
    opt_func = optimizers.factory(plan.train.optimizer, plan.train.weight_decay, plan.train.momentum)
    learn = learner(dls, network, loss, opt_func, machine, penalty)
    progress = Run(folder, f"{plan.train.select_on}_{plan.train.select_by}", plan.train.keep == "all")
    positive = classes.index(given.data.positive) if given.data.positive else None
    history = callbacks.History(progress.rows, scored["side"].to_numpy(str), len(classes), positive)
    fit(learn, _phases(plan), progress, history, batches, repeat, title)
    return progress


def _phases(plan: Plan) -> list[schedules.Phase]:
    train = plan.train
    own = {"freeze_epochs": train.freeze_epochs, "lr_mult": train.lr_mult} if train.schedule == "fine_tune" else {}
    cycle_momentum = train.momentum is None
    return schedules.SCHEDULES[train.schedule](train.epochs, train.lr, networks.PARTS, cycle_momentum, **own)


def _scored(sides: dict[str, pd.DataFrame], select_on: str) -> pd.DataFrame:
    """What is scored after every epoch: the validation side, and the test side in published mode alone."""
    names = ["valid", "test"] if select_on == "test" else ["valid"]
    return pd.concat([sides[name].assign(side=name) for name in names], ignore_index=True)


def _rows(table: pd.DataFrame, row_of: dict[str, int], classes: list[str]) -> tuple[Rows, Rows]:
    """Each image's row in the cache, and its class number."""
    return (
        np.array([row_of[name] for name in table["id"]], np.int64),
        np.array([classes.index(label) for label in table["label"]], np.int64),
    )


def _load_pretrained(network: ResNet, plan: Plan, paths: Paths) -> None:
    chosen = plan.model.pretrained
    if chosen == "none":
        return
    file = weights.default_file(plan.model.arch) if chosen == "default" else paths.from_home(chosen)
    state_dict = weights.read(file)
    if chosen != "default" and files.sha256(file) != plan.pretrained_sha256:
        raise WeightsError(
            f"{file} has changed since the plan was made: `dvc repro --force --single-item plan`, then `dvc repro`"
        )
    weights.load_pretrained(network, state_dict, str(file))


def _inputs(paths: Paths, repeat: int) -> list[str]:
    """What the run reads and is made of: a change in any of it starts the run anew."""
    data = [*sorted(paths.split_of(repeat).glob("*.csv")), *sorted(paths.cache.iterdir())]
    code = sorted(Path(params.__file__).parent.rglob("*.py"))
    return [files.sha256(path) for path in [*data, *code]]


def _write(
    finished: Run, plan: Plan, machine: Hardware, folder: Path, experiment: str, repeat: int, given: Params
) -> None:
    shutil.copyfile(finished.weights(finished.best), folder / "best.safetensors")
    shutil.copyfile(finished.weights(finished.last), folder / "last.safetensors")
    if finished.keep_all:
        for epoch in finished.kept:
            shutil.copyfile(finished.weights(epoch), folder / finished.weights(epoch).name)
    tables.write(pd.DataFrame(finished.rows), folder / "history.csv")
    facts = {"experiment": experiment, "repeat": repeat, **_described(plan, given), **_outcome(finished)}
    files.write_json({**facts, "hardware": machine.record()}, folder / "model.json")


def _described(plan: Plan, given: Params) -> dict[str, Any]:
    model, classes = plan.model, given.data.classes
    network = networks.build(model.arch, len(classes), model.channels, model.dropout)
    return {
        "arch": model.arch,
        "classes": classes,
        "positive": given.data.positive,
        "channels": model.channels,
        "pixels": model.pixels,
        "dropout": model.dropout,
        "normalise": {"mean": MEAN[model.channels], "std": STD[model.channels]},
        "parameters": cost.parameters(network),
        "multiply_adds": cost.multiply_adds(network, model.channels, model.pixels),
        "multiply_adds_counted": cost.COUNTED,
        "select_on": plan.train.select_on,
        "select_by": plan.train.select_by,
    }


def _outcome(finished: Run) -> dict[str, Any]:
    return {
        "best_epoch": finished.best,
        "last_epoch": finished.last,
        "kept_epochs": finished.kept,
        "train_seconds": round(finished.seconds, 1),
    }
