"""features: what frozen parts of networks make of the images, computed once for all experiments that share it."""

import os
import shutil
from pathlib import Path

from xraylab import files, params
from xraylab.params import Params, Plan
from xraylab.paths import Paths


def run(given: Params, paths: Paths) -> None:
    """Write features/<experiment>.json for every experiment, and each array that one of them names."""
    plans = {name: params.read_plan(paths.plan(name)) for name in given.experiments}
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


def _stored(plan: Plan, given: Params, paths: Paths, cached: list[str]) -> str:
    """The key of the features that an experiment trains on; they are computed unless they are there."""
    import numpy as np  # noqa: PLC0415

    from xraylab.data import batches  # noqa: PLC0415 - torch takes time, and most studies cache no features
    from xraylab.model import features, hardware, networks, start  # noqa: PLC0415

    model = plan.model
    machine = hardware.choose(plan.train.precision)
    place = paths.from_home(model.pretrained)
    file, body = start.pretrained(model.pretrained, model.arch, place, plan.pretrained_sha256)
    upto = model.freeze.upto
    key = features.key(model.arch, model.channels, model.pixels, upto, body, cached, machine.precision)
    path = paths.stored_features(key)
    if not path.is_file():
        hardware.deterministic_algorithms()
        images, _ = batches.load(paths.cache)
        rows = np.arange(len(images))
        network = start.network(model.arch, len(given.data.classes), model.channels, model.dropout, file)
        frozen, _ = networks.divided(network, upto)
        features.write(path, frozen, images, rows, model.channels, model.pixels, machine, print)
    return key


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
