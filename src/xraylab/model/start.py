"""The network that a run begins with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xraylab import files
from xraylab.errors import ParamsError, WeightsError
from xraylab.model import division, downloads, networks, weights
from xraylab.model.division import Choice, Division
from xraylab.model.heads import Head


def pretrained(chosen: str, arch: str, file: Path, planned_sha256: str | None) -> tuple[Path | None, str]:
    """Where the weights lie, and what identifies them; `file` is what `chosen` names where it is not none or default.

    Errors: WeightsError where the file is not the one that was planned with.
    """
    if chosen == "none":
        return None, chosen
    if chosen == "default":
        default = downloads.default_file(arch)
        return default, downloads.identity(arch, default)
    if planned_sha256 is None or (file.is_file() and files.sha256(file) != planned_sha256):
        raise WeightsError(
            f"{file} has changed since the plan was made: `dvc repro --force --single-item plan`, then `dvc repro`"
        )
    return file, planned_sha256


def network(
    arch: str,
    classes: Sequence[str],
    channels: int,
    dropout: float,
    file: Path | None,
    head: Head,
    pixels: int,
    say: Callable[[str], object],
) -> nn.Module:
    """Randomly initialised, then with what `file` has of it; `say` is told what became of the file's head.

    Errors: WeightsError where the file does not fit.
    """
    built = networks.build(arch, len(classes), channels, dropout, head, pixels)
    if file is not None:
        say(weights.load_pretrained(built, weights.read(file), str(file), classes, weights.classes_of(file)))
    return built


def divided(network: nn.Module, choice: Choice, cache: bool, arch: str) -> Division:
    """What is frozen and what trains.

    Errors: ParamsError where there are no such blocks, nothing comes of the choice, or nothing runs apart.
    """
    parts = division.divide(network, choice)
    if choice.layers is not None and not parts.layers:
        raise ParamsError(
            f"model.freeze.layers: {choice.layers} of the {len(networks.layers(network))} layers of {arch} is less "
            "than one, so that nothing is frozen: raise it, or set it to null"
        )
    norms = [part for held in parts.held for part in held.modules() if isinstance(part, _BatchNorm)]
    if choice.adapt and not norms:
        raise ParamsError(
            f"model.freeze.batch_norm: what is frozen of {arch} has no batch norm, so that train changes nothing: set "
            "it to eval"
        )
    if cache and len(parts.frozen) == 0:
        raise ParamsError(
            f"model.freeze.cache: {arch} is no plain sequence of modules as far as that, so what is frozen cannot run "
            "apart from the rest: set model.freeze.upto to head, or this to false"
        )
    return parts


def check(arch: str, classes: int, channels: int, head: Head, pixels: int, choice: Choice, cache: bool) -> None:
    """Build and freeze such a network without its weights. Errors: ParamsError where that cannot be done."""
    with torch.device("cpu" if cache else "meta"):  # whether a part runs apart is tried with numbers
        built = networks.build(arch, classes, channels, 0.0, head, pixels)
    divided(built, choice, cache, arch)
