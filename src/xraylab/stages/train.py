"""train: one experiment, one repeat."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastai.data.core import DataLoaders
from torch import nn

from xraylab import files, params, tables
from xraylab.data.augment import Augmentation
from xraylab.data.batches import Store, TrainingBatches
from xraylab.data.loaders import dataloaders
from xraylab.model import (
    bodies,
    cost,
    division,
    features,
    hardware,
    losses,
    memory,
    networks,
    optimizers,
    schedules,
    start,
    weights,
)
from xraylab.model.division import Choice, Division
from xraylab.model.features import Features
from xraylab.model.hardware import Hardware, deterministic_algorithms
from xraylab.model.heads import Head
from xraylab.params import Params, Plan
from xraylab.paths import Paths
from xraylab.train import callbacks, frozen, inputs, state
from xraylab.train.inputs import Inputs
from xraylab.train.lifetime import end_with_parent
from xraylab.train.run import Run, fit, learner, threads


@dataclass(frozen=True)
class Network:
    """The network that a run begins with, and the parts that it is divided into."""

    whole: nn.Module
    parts: Division
    body: str  # identifies the weights that it began with


def run(given: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Train from the last finished epoch, or from the start, and write models/<experiment>/<repeat>/."""
    end_with_parent()
    memory.keep_freed()
    plan = params.read_plan(paths.plan(experiment))
    machine = hardware.choose(plan.train.precision)
    deterministic_algorithms()
    read = inputs.read(paths.split_of(repeat), paths.cache, given.data.classes, plan.train.select_on)
    network = _network(plan, paths, len(given.data.classes), repeat)
    cached = _hashes(paths.cache.iterdir())
    array = _features(network, read, cached, plan, paths, experiment, machine) if plan.model.freeze.cache else None
    # what the run reads and is made of: a change in any of it starts the run anew
    split, code = paths.split_of(repeat).glob("*.csv"), Path(params.__file__).parent.rglob("*.py")
    sources = [*cached, *_hashes(split), *_hashes(code), array and array.sha256]
    key = state.key(plan.model_dump(), given.data.classes, given.data.positive, sources, machine.record(), repeat)
    name = f"{experiment}-{repeat}"
    folder = paths.state / "runs" / f"{name}-{key}"
    with state.locked(folder):
        progress = Run(folder, f"{plan.train.select_on}_{plan.train.select_by}", plan.train.keep == "all")
        _train(progress, given, plan, machine, read, network, array, repeat, name)
        with files.replacing_folder(paths.model(experiment, repeat)) as output:
            _write(progress, network, output)
            facts = {"experiment": experiment, "repeat": repeat, **_described(plan, given), **_frozen(network, plan)}
            files.write_json({**facts, **_outcome(progress), "hardware": machine.record()}, output / "model.json")
        shutil.rmtree(folder)


def _network(plan: Plan, paths: Paths, classes: int, seed: int) -> Network:
    model = plan.model
    place = paths.weights(model.pretrained)
    file, body = start.pretrained(model.pretrained, model.arch, place, plan.pretrained_sha256)
    torch.manual_seed(seed)
    whole = start.network(model.arch, classes, model.channels, model.dropout, file, _head(plan), model.pixels)
    return Network(whole, start.divided(whole, _choice(plan), model.freeze.cache, model.arch), body)


def _head(plan: Plan) -> Head:
    return Head(plan.model.head, plan.model.head_width, plan.model.head_batch_norm)


def _choice(plan: Plan) -> Choice:
    return Choice.of(**plan.model.freeze.model_dump(exclude={"cache"}))


def _features(
    network: Network, read: Inputs, cached: list[str], plan: Plan, paths: Paths, experiment: str, machine: Hardware
) -> Features:
    """What the stage `features` made for this experiment on such a machine; where that is absent, our own."""
    model, choice = plan.model, _choice(plan)
    cut = [model.head, choice.upto, choice.layers, choice.blocks]
    key = features.key(model.arch, model.channels, model.pixels, cut, network.body, cached, machine.precision)
    everything = np.arange(len(read.images))
    published = files.read_json(paths.feature(experiment)) if paths.feature(experiment).is_file() else {"key": None}
    if published["key"] == key and paths.feature_array(key).is_file():
        return features.read(paths.feature_array(key), everything, published["sha256"])
    stored = paths.stored_features(key)
    if stored.is_file():
        return features.read(stored, everything)
    own = paths.stored_features(features.part(key, read.used))
    if not own.is_file():
        normalise = bodies.normalise(model.arch, model.channels)
        part, images, rows = network.parts.frozen, read.images, read.used
        features.write(own, part, images, rows, model.channels, model.pixels, machine, print, normalise)
    return features.read(own, read.used)


def _hashes(paths: Iterable[Path]) -> list[str]:
    return [files.sha256(path) for path in sorted(paths)]


def _train(
    progress: Run,
    given: Params,
    plan: Plan,
    machine: Hardware,
    read: Inputs,
    network: Network,
    array: Features | None,
    seed: int,
    title: str,
) -> None:
    """Train to the end of the last phase; `progress` knows how far it is."""
    classes, train = given.data.classes, plan.train
    batches, dls = _batches(plan, machine, read, array, seed)
    weighting = losses.class_weights(plan.loss.class_weights, read.training.labels, len(classes))
    loss = losses.cross_entropy(weighting).to(machine.device)
    cbs = [callbacks.L2Penalty(plan.loss.l2)] if plan.loss.l2 > 0 else []
    parts = network.parts
    if array is None and len(parts.frozen) > 0:
        cbs.append(frozen.FrozenPart(parts.frozen))
    if parts.held:
        cbs.append(frozen.Held(parts.held, _choice(plan).adapt))
    opt_func = optimizers.factory(train.optimizer, train.weight_decay, train.momentum)
    learn = learner(dls, parts.trained, loss, opt_func, machine, cbs)
    positive = classes.index(given.data.positive) if given.data.positive else None
    history = callbacks.History(progress.rows, read.sides, len(classes), positive)
    vectors = array is not None and array.array.ndim == 2
    with threads(1 if vectors else machine.threads):  # what a head computes is less than what dividing it costs
        fit(learn, _phases(plan), progress, history, batches, seed, title)


def _batches(
    plan: Plan, machine: Hardware, read: Inputs, array: Features | None, seed: int
) -> tuple[TrainingBatches | None, DataLoaders]:
    """Batches of features where there are any, for which nothing is drawn; else of images."""
    training, scored, size = read.training, read.scored, plan.train.batch_size
    if array is not None:
        return None, inputs.feature_loaders(array, training, scored, size, machine.device)
    augmentation = Augmentation(**plan.augment.model_dump())
    normalise = bodies.normalise(plan.model.arch, plan.model.channels)
    store = Store(read.images, plan.model.channels, plan.model.pixels, machine.device, normalise)
    batches = TrainingBatches(store, training.rows, training.labels, augmentation, seed)
    return batches, dataloaders(batches, scored.rows, scored.labels, size, machine.device)


def _phases(plan: Plan) -> list[schedules.Phase]:
    train = plan.train
    own = {"freeze_epochs": train.freeze_epochs, "lr_mult": train.lr_mult} if train.schedule == "fine_tune" else {}
    cycle_momentum = train.momentum is None
    return schedules.SCHEDULES[train.schedule](train.epochs, train.lr, networks.PARTS, cycle_momentum, **own)


def _write(finished: Run, network: Network, folder: Path) -> None:
    """The whole network after each kept epoch, put together from what was frozen and what was trained; the history."""
    names = {"best": finished.best, "last": finished.last}
    if finished.keep_all:
        names |= {finished.weights(epoch).stem: epoch for epoch in finished.kept}
    for name, epoch in names.items():
        weights.restore(network.parts.trained, finished.weights(epoch))
        weights.save(network.whole, folder / f"{name}.safetensors")
    tables.write(pd.DataFrame(finished.rows), folder / "history.csv")


def _described(plan: Plan, given: Params) -> dict[str, Any]:
    model, classes = plan.model, given.data.classes
    with torch.device("meta"):  # shapes alone: nothing is drawn or computed
        network = networks.build(model.arch, len(classes), model.channels, model.dropout, _head(plan), model.pixels)
        multiply_adds = cost.multiply_adds(network, model.channels, model.pixels)
    return {
        "arch": model.arch,
        "classes": classes,
        "positive": given.data.positive,
        "channels": model.channels,
        "pixels": model.pixels,
        "head": asdict(_head(plan)),
        "dropout": model.dropout,
        "normalise": asdict(bodies.normalise(model.arch, model.channels)),
        "parameters": cost.parameters(network),
        "multiply_adds": multiply_adds,
        "multiply_adds_counted": cost.COUNTED,
        "select_on": plan.train.select_on,
        "select_by": plan.train.select_by,
    }


def _frozen(network: Network, plan: Plan) -> dict[str, Any]:
    layers = network.parts.layers
    facts = {
        **plan.model.freeze.model_dump(exclude={"cache"}),
        "modules": division.collapsed(network.whole, layers),
        "layers_frozen": len(layers),
        "layers_in_all": len(networks.layers(network.whole)),
        "parameters": division.parameters(network.whole, layers),
        "cached": plan.model.freeze.cache,
    }
    return {"frozen": facts}


def _outcome(finished: Run) -> dict[str, Any]:
    return {
        "best_epoch": finished.best,
        "last_epoch": finished.last,
        "kept_epochs": finished.kept,
        "train_seconds": round(finished.seconds, 1),
    }
