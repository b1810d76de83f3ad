"""features: what frozen parts of networks make of the images, computed once for all experiments that share it."""

import os
import shutil
from pathlib import Path

from xraylab import files
from xraylab.errors import ParamsError
from xraylab.model import names
from xraylab.params import config
from xraylab.params.config import Params, Plan
from xraylab.params.model import Model
from xraylab.paths import Paths


def run(given: Params, paths: Paths) -> None:
    """Write features/<experiment>.json for every experiment, and each array that one of them names.

    It runs before any training, and so is where networks that cannot be built or frozen as planned are refused.
    """
    plans = {name: config.read_plan(paths.plan(name)) for name in given.experiments}
    _refuse_impossible({name: plan.model for name, plan in plans.items()}, len(given.data.classes))
    wanted = {name: plan for name, plan in plans.items() if plan.model.freeze.cache}
    cached = [files.sha256(path) for path in sorted(paths.cache.iterdir())] if wanted else []
    keys = {name: _stored(plan, given, paths, cached) for name, plan in wanted.items()}
    hashes = {key: files.sha256(paths.stored_features(key)) for key in set(keys.values())}
    with files.replacing_folder(paths.features) as folder:
        for name in plans:
            facts = {"key": keys[name], "sha256": hashes[keys[name]]} if name in keys else {"key": None}
            files.write_json(facts, folder / f"{name}.json")
        for key in hashes:
            _link(paths.stored_features(key), folder / f"{key}.npy")
    if paths.home == paths.root:  # not in a temporary checkout, whose parameters say nothing about the others'
        _prune(paths.feature_store, set(hashes))


def _refuse_impossible(models: dict[str, Model], classes: int) -> None:
    problems: dict[str, list[str]] = {}
    for name, model in models.items():
        if not names.surely_fits(model.arch, model.freeze.upto, model.freeze.blocks) and (
            why := _problem(model, classes)
        ):
            problems.setdefault(why, []).append(name)
    if problems:
        listed = [f"{', '.join(experiments)}: {problem}" for problem, experiments in problems.items()]
        raise ParamsError("networks that cannot be made as planned:", listed)


def _problem(model: Model, classes: int) -> str | None:
    from xraylab.model import create  # noqa: PLC0415 - as below

    return create.check(model, classes)


def _stored(plan: Plan, given: Params, paths: Paths, cached: list[str]) -> str:
    """The key of the features that an experiment trains on; they are computed unless they are there."""
    import numpy as np  # noqa: PLC0415

    from xraylab.data import image_cache  # noqa: PLC0415 - torch takes time, and most studies cache no features
    from xraylab.model import create, features, hardware  # noqa: PLC0415

    cfg, weights_file, sha256 = plan.model, paths.weights(plan.model.pretrained), plan.pretrained_sha256
    machine = hardware.choose(plan.train.precision)
    key = create.feature_key(cfg, create.pretrained_id(cfg, weights_file, sha256), cached, machine.precision)
    path = paths.stored_features(key)
    if not path.is_file():
        print(*hardware.first_lines(f"features of {cfg.arch}", machine), sep="\n")
        hardware.deterministic_algorithms()
        images, _ = image_cache.load(paths.cache)
        rows = np.arange(len(images))
        start = create.create_starting_model(cfg, given.data.classes, weights_file, sha256, _unsaid)
        features.write(path, start.backbone, images, rows, create.normalization(cfg), cfg.pixels, machine, print)
    return key


def _unsaid(text: str) -> None:
    """What became of a file's head: it is no part of the features."""


def _link(source: Path, target: Path) -> None:
    """The same bytes at both places, without a second copy where the file system allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _prune(store: Path, keys: set[str]) -> None:
    for path in store.glob("*.npy") if store.is_dir() else ():
        if path.stem.split("-")[0] not in keys:
            path.unlink()
