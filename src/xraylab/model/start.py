"""The network that a run begins with."""

from pathlib import Path

from torchvision.models import ResNet

from xraylab import files
from xraylab.errors import WeightsError
from xraylab.model import networks, weights


def pretrained(chosen: str, arch: str, file: Path, planned_sha256: str | None) -> tuple[Path | None, str]:
    """Where the weights lie, and what identifies them; `file` is what `chosen` names where it is not none or default.

    Errors: WeightsError where the file is not the one that was planned with.
    """
    if chosen == "none":
        return None, chosen
    if chosen == "default":
        default = weights.default_file(arch)
        return default, default.name  # its name holds the hash that was checked
    if planned_sha256 is None or (file.is_file() and files.sha256(file) != planned_sha256):
        raise WeightsError(
            f"{file} has changed since the plan was made: `dvc repro --force --single-item plan`, then `dvc repro`"
        )
    return file, planned_sha256


def network(arch: str, classes: int, channels: int, dropout: float, file: Path | None) -> ResNet:
    """Randomly initialised, then with what `file` has of it. Errors: WeightsError where the file does not fit."""
    built = networks.build(arch, classes, channels, dropout)
    if file is not None:
        weights.load_pretrained(built, weights.read(file), str(file))
    return built
