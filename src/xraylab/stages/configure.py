"""configure: each experiment's configuration as it is used; what removed experiments left is pruned."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.paths import Paths
from xraylab.studies import presets

NOT_A_FILE = ("none", "default")


def run(params: Params, paths: Paths) -> None:
    if params.study.preset is not None:
        presets.read(params.study.preset)
    configs = {}
    missing = []
    for name in params.experiments:
        experiment = params.experiment(name)
        weights = experiment.model.pretrained
        file = None if weights in NOT_A_FILE else paths.weights(weights)
        if file and not file.is_file():
            missing.append(f"{name}: {file}")
            continue
        configs[name] = ExperimentConfig(**dict(experiment), pretrained_sha256=files.sha256(file) if file else None)
    missing += _absent_defaults(list(configs.values()))
    if missing:
        raise WeightsError(
            "model.pretrained names weight files that are not there; put them there, or set it to none:", missing
        )
    for line in config.unused_overrides(params):
        print(f"warning: {line}")
    with files.replacing_folder(paths.configs) as folder:
        for name, cfg in configs.items():
            files.write_yaml(cfg.model_dump(), folder / f"{name}.yaml")
    for stale in _stale(params, paths):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _absent_defaults(configs: list[ExperimentConfig]) -> list[str]:
    """Why the library's own weights cannot be had, once for each network; those that can are downloaded."""
    archs = dict.fromkeys(cfg.model.arch for cfg in configs if cfg.model.pretrained == "default")
    if not archs:
        return []
    from xraylab.model import pretrained  # noqa: PLC0415 - torch takes time, and most studies need no such weights

    absent = []
    for arch in archs:
        try:
            pretrained.default_file(arch)
        except WeightsError as error:
            absent.append(str(error))
    return absent


def _stale(params: Params, paths: Paths) -> Iterator[Path]:
    """What experiments and repeats left that the study no longer has; DVC's cache still holds it."""
    repeats = {str(repeat) for repeat in params.study.repeats}
    for folder in (paths.models, paths.run_metrics, paths.predictions):
        for experiment in folder.iterdir() if folder.is_dir() else ():
            if experiment.name not in params.experiments:
                yield experiment
            elif experiment.is_dir():
                yield from (path for path in experiment.iterdir() if path.stem not in repeats)
