"""train: one experiment, one repeat."""

import math
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from fastai.learner import Learner

from xraylab import files, tables
from xraylab.data.sampling import EpochSampler
from xraylab.model import create, features, hardware, memory, weights
from xraylab.model.create import StartingModel, create_starting_model
from xraylab.model.features import Features
from xraylab.model.hardware import Hardware, deterministic_algorithms
from xraylab.model.optimizers import create_optimizer
from xraylab.params import config
from xraylab.params.config import Params, Plan
from xraylab.params.train import phases
from xraylab.paths import Paths
from xraylab.train import asked, callbacks, finder, inputs, state, steps, trackers
from xraylab.train.callbacks import Starts
from xraylab.train.inputs import Inputs
from xraylab.train.lifetime import end_with_dvc
from xraylab.train.record import Run
from xraylab.train.run import enough_memory, fit, held, learner, threads

DECIMALS = 6  # of the figure that DVC shows
FOUND = "lr_find.csv"  # the learning rate finder's curve


Begun = tuple[Plan, Hardware, Inputs, StartingModel, list[str], Features | None]


def run(given: Params, paths: Paths, experiment: str, repeat: int) -> None:
    """Train from the last finished epoch, or from the start, and write models/<experiment>/<repeat>/."""
    end_with_dvc()
    memory.keep_freed()
    plan, machine, read, network, cached, array = _begun(given, paths, experiment, repeat)
    # what the run reads and is made of: a change in any of it starts the run anew
    split, code = paths.split_of(repeat).glob("*.csv"), Path(files.__file__).parent.rglob("*.py")
    sources = [*cached, *_hashes(split), *_hashes(code), array and array.sha256]
    key = state.key(plan.model_dump(), given.data.classes, given.data.positive, sources, machine.record(), repeat)
    name = _name(experiment, repeat)
    folder = paths.state / "runs" / f"{name}-{key}"
    with state.locked(folder):
        progress = Run(folder, asked.choice(plan), plan.train.keep == "all")
        _train(progress, given, plan, machine, read, network, array, repeat, name, paths.state)
        with files.replacing_folder(paths.model(experiment, repeat)) as output:
            _write(progress, network, given.data.classes, output)
            facts = {
                "experiment": experiment,
                "repeat": repeat,
                **_described(plan, given),
                "frozen": create.describe_frozen(network, plan.model.freeze),
            }
            files.write_json({**facts, **_outcome(progress), "hardware": machine.record()}, output / "model.json")
        files.write_json({name: _metric(progress)}, paths.run_metric(experiment, repeat))
        shutil.rmtree(folder)


def _name(experiment: str, repeat: int) -> str:
    return f"{experiment}-{repeat}"


def find_rate(given: Params, paths: Paths, experiment: str, repeat: int) -> tuple[pd.DataFrame, float]:
    """The learning rate finder's curve for an experiment, and its suggestion, whatever train.lr says."""
    memory.keep_freed()
    plan, machine, read, network, _, array = _begun(given, paths, experiment, repeat)
    learn, drawn, _, _ = _prepared(given, plan, machine, read, network, array, repeat)
    head_alone = asked.parts(plan, 1.0)[0].phase.frozen
    with _computing(plan, machine, array):
        curve = finder.curve(learn, held(learn, head_alone), repeat, drawn)
    return curve, finder.suggestion(curve)


def _begun(given: Params, paths: Paths, experiment: str, repeat: int) -> Begun:
    """What a run begins with; the last two are the hashes of the image cache, and features where they are cached."""
    plan = config.read_plan(paths.plan(experiment))
    machine = hardware.choose(plan.train.precision)
    print(*hardware.first_lines(_name(experiment, repeat), machine), sep="\n")
    deterministic_algorithms()
    read = inputs.read(paths.split_of(repeat), paths.cache, given.data.classes, plan.train.select_on)
    network = _network(plan, paths, given.data.classes, repeat)
    cached = _hashes(paths.cache.iterdir())
    array = _features(network, read, cached, plan, paths, experiment, machine) if plan.model.freeze.cache else None
    return plan, machine, read, network, cached, array


def _network(plan: Plan, paths: Paths, classes: list[str], seed: int) -> StartingModel:
    place = paths.weights(plan.model.pretrained)
    torch.manual_seed(seed)
    return create_starting_model(plan.model, classes, place, plan.pretrained_sha256, print)


def _features(
    network: StartingModel,
    read: Inputs,
    cached: list[str],
    plan: Plan,
    paths: Paths,
    experiment: str,
    machine: Hardware,
) -> Features:
    """What the stage `features` made for this experiment on such a machine; where that is absent, our own."""
    key = create.feature_key(plan.model, network.pretrained_id, cached, machine.precision)
    everything = np.arange(len(read.images))
    published = files.read_json(paths.feature(experiment)) if paths.feature(experiment).is_file() else {"key": None}
    if published["key"] == key and paths.feature_array(key).is_file():
        return features.read(paths.feature_array(key), everything, published["sha256"])
    stored = paths.stored_features(key)
    if stored.is_file():
        return features.read(stored, everything)
    own = paths.stored_features(features.part(key, read.used))
    if not own.is_file():
        part, images, rows = network.backbone, read.images, read.used
        features.write(own, part, images, rows, create.normalization(plan.model), plan.model.pixels, machine, print)
    return features.read(own, read.used)


def _hashes(paths: Iterable[Path]) -> list[str]:
    return [files.sha256(path) for path in sorted(paths)]


def _train(
    progress: Run,
    given: Params,
    plan: Plan,
    machine: Hardware,
    read: Inputs,
    network: StartingModel,
    array: Features | None,
    seed: int,
    title: str,
    tracked: Path,
) -> None:
    """Train to the end of the last phase; `progress` knows how far it is."""
    train, classes = plan.train, given.data.classes
    learn, drawn, order, average = _prepared(given, plan, machine, read, network, array, seed)
    positive = classes.index(given.data.positive) if given.data.positive else None
    history = callbacks.History(progress.rows, read.sides, len(classes), positive, order, read.names)
    sides = dict.fromkeys(read.sides.tolist())
    watching, figures = trackers.callbacks(history, [f"{side}_f1" for side in sides], tracked, title)
    learn.metrics += figures
    with _computing(plan, machine, array):
        found = _found_rate(plan, progress.folder, learn, drawn, seed)
        fit(learn, asked.parts(plan, found), progress, history, drawn, seed, title, train.early_stop, average, watching)


def _prepared(
    given: Params,
    plan: Plan,
    machine: Hardware,
    read: Inputs,
    network: StartingModel,
    array: Features | None,
    seed: int,
) -> tuple[Learner, Starts, EpochSampler, steps.Average | None]:
    """The Learner, what is drawn for every epoch, the order of images, and the moving average where there is one."""
    train, classes = plan.train, len(given.data.classes)
    order = asked.order(plan, read, seed)
    drawn, dls = asked.batches(plan, machine, read, array, order, seed)
    loss = asked.loss(plan, read, classes).to(machine.device)
    cbs = asked.step_callbacks(plan, order, network if array is None else None)
    cbs += asked.of_sources(plan, read, order, classes, machine.device)
    first = phases(train)[0]
    learn = learner(dls, network.trainable, loss, create_optimizer(first), machine, cbs)
    average = None if train.ema is None else steps.Average(network.trainable.to(machine.device), train.ema)
    return learn, drawn, order, average


@contextmanager
def _computing(plan: Plan, machine: Hardware, array: Features | None) -> Iterator[None]:
    """In as many threads as pay: what a head computes is less than what dividing it costs."""
    vectors = array is not None and array.array.ndim == 2
    with threads(1 if vectors else machine.threads), enough_memory(plan.train.batch_size, plan.train.accumulate):
        yield


def _found_rate(plan: Plan, folder: Path, learn: Learner, drawn: Starts, seed: int) -> float | None:
    """What the finder suggests, where a phase asks for it; its curve is kept with the run, which goes on with it."""
    if "find" not in {phase.lr for phase in phases(plan.train)}:
        return None
    path = folder / FOUND
    if not path.is_file():
        head_alone = asked.parts(plan, 1.0)[0].phase.frozen
        tables.write(finder.curve(learn, held(learn, head_alone), seed, drawn), path)
    return finder.suggestion(tables.read(path))


def _write(finished: Run, network: StartingModel, classes: list[str], folder: Path) -> None:
    """The whole network after each kept epoch, put together from what was frozen and what was trained; the history."""
    names = {"best": finished.best, "last": finished.last}
    others = finished.kept if finished.keep_all else finished.averaged.values()
    names |= {finished.weights(epoch).stem: epoch for epoch in others}
    for name, epoch in names.items():
        weights.restore(network.trainable, finished.weights(epoch))
        weights.save(network.model, folder / f"{name}.safetensors", classes)
    tables.write(pd.DataFrame(finished.rows), folder / "history.csv")
    if (finished.folder / FOUND).is_file():
        shutil.copyfile(finished.folder / FOUND, folder / FOUND)


def _described(plan: Plan, given: Params) -> dict[str, Any]:
    return {
        **create.describe_model(plan.model, len(given.data.classes)),
        "classes": given.data.classes,
        "positive": given.data.positive,
        "images": given.images.model_dump(),
        "augment": asked.augmentation(plan),
        "select_on": plan.train.select_on,
        "select_by": plan.train.select_by,
    }


def _metric(finished: Run) -> dict[str, float | None]:
    """The figure that chose the best epoch; on validation images it is f1 and the like, on test images test_f1."""
    select = finished.choice.select
    value = finished.rows[finished.best][select]
    return {select.removeprefix("valid_"): None if math.isnan(value) else round(value, DECIMALS)}


def _outcome(finished: Run) -> dict[str, Any]:
    curve = finished.folder / FOUND
    return {
        "lr_found": finder.suggestion(tables.read(curve)) if curve.is_file() else None,
        "best_epoch": finished.best,
        "last_epoch": finished.last,
        "kept_epochs": finished.kept,
        "averaged": {name: {"epoch": epoch, "of": finished.sources(name)} for name, epoch in finished.averaged.items()},
        "scoring_batch": finished.scoring_batch,
        "train_seconds": round(finished.seconds, 1),
    }
