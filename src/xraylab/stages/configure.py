"""configure: each experiment's configuration as it is used; what removed experiments left is pruned."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.params import config
from xraylab.params.config import ExperimentConfig, Params
from xraylab.paths import Paths
from xraylab.registry import weights as registry
from xraylab.studies import presets

NOT_A_FILE = ("none", "default")


def run(params: Params, paths: Paths) -> None:
    if params.study.preset is not None:
        presets.read(params.study.preset)
    configs = {}
    missing = []
    for name in params.experiments:
        experiment = params.experiment(name)
        try:
            file = _weight_file(experiment.model.pretrained, paths)
        except WeightsError as error:
            missing.append(f"{name}: {error}")
            continue
        configs[name] = ExperimentConfig(**dict(experiment), pretrained_sha256=files.sha256(file) if file else None)
    missing += _absent_defaults(list(configs.values()))
    if missing:
        raise WeightsError(
            "model.pretrained names weight files that are not there; put them there, or set it to none:", missing
        )
    for line in [*config.unused_overrides(params), *config.named_weights_remarks(params)]:
        print(f"warning: {line}")
    with files.replacing_folder(paths.configs) as folder:
        for name, cfg in configs.items():
            files.write_yaml(cfg.model_dump(), folder / f"{name}.yaml")
    for stale in _stale(params, paths):
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def _weight_file(pretrained: str, paths: Paths) -> Path | None:
    """The file that model.pretrained names; None where it names none. Errors: WeightsError where it is not there."""
    if pretrained in NOT_A_FILE:
        return None
    if entry := registry.find(pretrained):
        from xraylab.model import named  # noqa: PLC0415 - as below

        return named.find_file(entry)
    file = paths.weights(pretrained)
    if not file.is_file():
        raise WeightsError(f"{file}{registry.nearest(pretrained)}")
    return file


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
