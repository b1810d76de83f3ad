"""configure: each experiment's configuration as it is used; what removed experiments left is pruned."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from xraylab import files
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.paths import Paths
from xraylab.studies import presets, weights


def run(params: Params, paths: Paths) -> None:
    if params.study.preset is not None:
        presets.read(params.study.preset)
    hashes = {name: files.sha256(file) if file else None for name, file in weights.find(params, paths).items()}
    for line in [*config.unused_overrides(params), *config.named_weights_remarks(params)]:
        print(f"warning: {line}")
    with files.replacing_folder(paths.configs) as folder:
        for name, sha256 in hashes.items():
            cfg = ExperimentConfig(**dict(params.experiment(name)), pretrained_sha256=sha256)
            files.write_yaml(cfg.model_dump(), folder / f"{name}.yaml")
    for stale in _stale(params, paths):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _stale(params: Params, paths: Paths) -> Iterator[Path]:
    """What experiments and repeats left that the study no longer has; DVC's cache still holds it."""
    repeats = {str(repeat) for repeat in params.study.repeats}
    for folder in (paths.models, paths.run_metrics, paths.predictions):
        for experiment in folder.iterdir() if folder.is_dir() else ():
            if experiment.name not in params.experiments:
                yield experiment
            elif experiment.is_dir():
                yield from (path for path in experiment.iterdir() if path.stem not in repeats)
