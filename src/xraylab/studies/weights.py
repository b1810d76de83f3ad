"""The weight files that a study's experiments begin with."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from xraylab.errors import WeightsError
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.registry import weights as registry

NOT_A_FILE = ("none", "default")


def find(params: Params, paths: Paths) -> dict[str, Path | None]:
    """Experiment -> the file that its model.pretrained names; None where it names none.

    The library's own weights are downloaded where they can be had. Errors: WeightsError with every one that cannot.
    """
    weight_files: dict[str, Path | None] = {}
    missing = []
    for name in params.experiments:
        try:
            weight_files[name] = _file(params.experiment(name).model.pretrained, paths)
        except WeightsError as error:
            missing.append(f"{name}: {error}")
    models = [params.experiment(name).model for name in weight_files]
    missing += _absent_defaults(model.arch for model in models if model.pretrained == "default")
    if missing:
        raise WeightsError(
            "model.pretrained names weight files that are not there; put them there, or set it to none:", missing
        )
    return weight_files


def _file(pretrained: str, paths: Paths) -> Path | None:
    """Errors: WeightsError where it is not there."""
    if pretrained in NOT_A_FILE:
        return None
    if entry := registry.find(pretrained):
        from xraylab.model import named  # noqa: PLC0415 - as below

        return named.find_file(entry)
    file = paths.weights(pretrained)
    if not file.is_file():
        raise WeightsError(f"{file}{registry.nearest(pretrained)}")
    return file


def _absent_defaults(archs: Iterable[str]) -> Iterator[str]:
    """Why the library's own weights cannot be had, once for each network."""
    for arch in dict.fromkeys(archs):
        from xraylab.model import pretrained  # noqa: PLC0415 - torch takes time, and most studies need no such weights

        try:
            pretrained.default_file(arch)
        except WeightsError as error:
            yield str(error)
