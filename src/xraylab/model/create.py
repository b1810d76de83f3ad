"""Networks as a configuration asks for them, the one place for it: head, weights, freezing, normalisation, features."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xraylab.data.image_cache import Normalise
from xraylab.errors import ParamsError
from xraylab.model import bodies, cost, division, features, networks, start
from xraylab.model.heads import Head
from xraylab.params.model import Freeze
from xraylab.params.model import Model as ModelConfig


@dataclass(frozen=True)
class StartingModel:
    """The network that a training starts from, and what of it is frozen."""

    model: nn.Module
    backbone: nn.Sequential
    """The frozen front that runs by itself, without gradients; empty where nothing does."""
    trainable: nn.Module
    """What follows the backbone: the part that the Learner trains. It shares its modules with `model`."""
    frozen_modules: list[nn.Module]
    """Frozen modules inside of `trainable`."""
    frozen_layers: list[str]
    """Names of all frozen layers of `model`, in order."""
    pretrained_id: str
    """Tells the weights that it starts from apart from others."""


def create_model(cfg: ModelConfig, n_classes: int) -> nn.Module:
    """A network from (batch, channels, height, width) float32 to logits (batch, n_classes), randomly initialised.

    Errors: ParamsError where there is no such network, or none for such images or such a head.
    """
    return networks.build(cfg.arch, n_classes, cfg.channels, cfg.dropout, _head(cfg), cfg.pixels)


def create_recorded_model(record: dict[str, Any]) -> nn.Module:
    """The network that a run's model.json describes, randomly initialised."""
    n_classes, head = len(record["classes"]), Head(**record["head"])
    return networks.build(record["arch"], n_classes, record["channels"], record["dropout"], head, record["pixels"])


def create_starting_model(
    cfg: ModelConfig,
    classes: Sequence[str],
    weights_file: Path,
    planned_sha256: str | None,
    tell: Callable[[str], object],
) -> StartingModel:
    """The network with its pretrained weights, frozen as asked; random numbers come from torch's generator.

    `weights_file` is what cfg.pretrained names where it is not none or default, and `tell` hears what became of its
    head. Errors: WeightsError where the file is not the planned one or does not fit, ParamsError as `check`.
    """
    file, pretrained_id = start.pretrained(cfg.pretrained, cfg.arch, weights_file, planned_sha256)
    model = start.network(cfg.arch, classes, cfg.channels, cfg.dropout, file, _head(cfg), cfg.pixels, tell)
    parts = start.divided(model, _choice(cfg.freeze), cfg.freeze.cache, cfg.arch)
    return StartingModel(model, parts.frozen, parts.trained, parts.held, parts.layers, pretrained_id)


def pretrained_id(cfg: ModelConfig, weights_file: Path, planned_sha256: str | None) -> str:
    """The `pretrained_id` of the starting model, without building it. Errors: WeightsError."""
    return start.pretrained(cfg.pretrained, cfg.arch, weights_file, planned_sha256)[1]


def check(cfg: ModelConfig, n_classes: int) -> str | None:
    """Why there is no such network, or why it cannot be frozen so, in words; built without weights."""
    try:
        start.check(cfg.arch, n_classes, cfg.channels, _head(cfg), cfg.pixels, _choice(cfg.freeze), cfg.freeze.cache)
    except ParamsError as error:
        return str(error)
    return None


def normalization(cfg: ModelConfig) -> Normalise:
    """Mean and standard deviation of the images that the network takes."""
    return bodies.normalise(cfg.arch, cfg.channels)


def feature_key(cfg: ModelConfig, pretrained_id: str, image_hashes: list[str], precision: str) -> str:
    """A name for the cached features of the frozen backbone; `image_hashes` are those of the image cache's files."""
    cut = [cfg.head, cfg.freeze.upto, cfg.freeze.layers, cfg.freeze.blocks]
    return features.key(cfg.arch, cfg.channels, cfg.pixels, cut, pretrained_id, image_hashes, precision)


def describe_model(cfg: ModelConfig, n_classes: int) -> dict[str, Any]:
    """What model.json records of the network: enough for `create_recorded_model`, and what it costs."""
    with torch.device("meta"):  # shapes alone: nothing is drawn or computed
        model = create_model(cfg, n_classes)
        multiply_adds = cost.multiply_adds(model, cfg.channels, cfg.pixels)
    return {
        "arch": cfg.arch,
        "channels": cfg.channels,
        "pixels": cfg.pixels,
        "head": asdict(_head(cfg)),
        "dropout": cfg.dropout,
        "normalise": asdict(normalization(cfg)),
        "parameters": cost.parameters(model),
        "multiply_adds": multiply_adds,
        "multiply_adds_counted": cost.COUNTED,
    }


def describe_frozen(starting: StartingModel, freeze: Freeze) -> dict[str, Any]:
    """What model.json records of what was frozen."""
    layers = starting.frozen_layers
    return {
        **freeze.model_dump(exclude={"cache"}),
        "modules": division.collapsed(starting.model, layers),
        "layers_frozen": len(layers),
        "layers_in_all": len(networks.layers(starting.model)),
        "parameters": division.parameters(starting.model, layers),
        "cached": freeze.cache,
    }


def _head(cfg: ModelConfig) -> Head:
    return Head(cfg.head, cfg.head_width, cfg.head_batch_norm)


def _choice(freeze: Freeze) -> division.Choice:
    return division.Choice.of(**freeze.model_dump(exclude={"cache"}))
