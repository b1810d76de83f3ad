"""Networks as a configuration asks for them, the one place for it: head, weights, freezing, normalisation, features."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xraylab import shards
from xraylab.data.image_cache import Normalise
from xraylab.errors import ParamsError
from xraylab.model import (
    backbones,
    features,
    freezing,
    grad_checkpointing,
    hardware,
    named,
    networks,
    pretrained,
    weights,
)
from xraylab.model.freezing import FreezeSpec, FrozenModel
from xraylab.model.heads import Head
from xraylab.params.config import ExperimentConfig
from xraylab.params.model import Freeze
from xraylab.params.model import Model as ModelConfig
from xraylab.paths import Paths
from xraylab.registry import weights as registry


@dataclass(frozen=True)
class StartingModel(FrozenModel):
    """The network that a training starts from, and what of it is frozen."""

    pretrained_id: str
    """Tells the weights that it starts from apart from others."""


def create_model(cfg: ModelConfig, n_classes: int) -> nn.Module:
    """A network from (batch, channels, height, width) float32 to logits (batch, n_classes), randomly initialised.

    Errors: ParamsError where there is no such network, or none for such images or such a head.
    """
    return networks.build(cfg.arch, n_classes, cfg.channels, cfg.dropout, _head(cfg), cfg.img_size)


def create_recorded_model(record: dict[str, Any]) -> nn.Module:
    """The network that a run's model.json describes, randomly initialised."""
    n_classes, head = len(record["classes"]), Head(**record["head"])
    return networks.build(record["arch"], n_classes, record["channels"], record["dropout"], head, record["img_size"])


def create_starting_model(
    cfg: ModelConfig,
    classes: Sequence[str],
    weights_file: Path,
    pretrained_sha256: str | None,
    tell: Callable[[str], object],
) -> StartingModel:
    """The network with its pretrained weights, frozen as asked; random numbers come from torch's generator.

    `weights_file` is what cfg.pretrained names where it is a file or a folder, and `tell` hears what became of its
    head. Errors: WeightsError where the file is not that of the config or does not fit, ParamsError as `check`.
    """
    file, identity = _find(cfg, weights_file, pretrained_sha256)
    model = create_model(cfg, len(classes))
    if (entry := registry.find(cfg.pretrained)) and file is not None:
        named.load(model, entry, file, classes, tell)
    elif file is not None:
        state, earlier = weights.read(file), weights.classes_of(file)
        tell(pretrained.load_pretrained(model, state, str(file), classes, earlier))
    return StartingModel(**vars(freeze_model(model, cfg)), pretrained_id=identity)


def pretrained_id(cfg: ModelConfig, weights_file: Path, pretrained_sha256: str | None) -> str:
    """The `pretrained_id` of the starting model, without building it. Errors: WeightsError."""
    return _find(cfg, weights_file, pretrained_sha256)[1]


def check(cfg: ModelConfig, n_classes: int, checkpointed: bool = False) -> str | None:
    """Why there is no such network, or why it cannot be frozen or checkpointed so, in words; built without weights."""
    try:
        with torch.device("cpu" if cfg.freeze.cache else "meta"):  # whether a backbone runs by itself is tried
            model = create_model(cfg, n_classes)
        frozen = freeze_model(model, cfg)
        if checkpointed:
            grad_checkpointing.enable(frozen.trainable, cfg.arch)
    except ParamsError as error:
        return str(error)
    return None


def normalization(cfg: ModelConfig, weights_file: Path) -> Normalise:
    """Mean and standard deviation of the images that the network takes: those that its weights were trained with.

    `weights_file` is what cfg.pretrained names where it is a file or a folder; an earlier run recorded its own.
    """
    if entry := registry.find(cfg.pretrained):
        return named.for_channels(Normalise(entry.mean, entry.std), cfg.channels)
    if recorded := pretrained.recorded_normalization(cfg.pretrained, weights_file):
        return named.for_channels(recorded, cfg.channels)
    return backbones.normalization(cfg.arch, cfg.channels)


def feature_key(cfg: ModelConfig, pretrained_id: str, image_hashes: list[str], precision: str) -> str:
    """A name for the cached features of the frozen backbone; `image_hashes` are those of the image cache's files."""
    cut = [cfg.head, cfg.freeze.until, cfg.freeze.layer_fraction, cfg.freeze.n_blocks]
    return features.key(cfg.arch, cfg.channels, cfg.img_size, cut, pretrained_id, image_hashes, precision)


def cache_features(
    cfg: ExperimentConfig, classes: Sequence[str], paths: Paths, image_hashes: list[str], tell: Callable[[str], object]
) -> str:
    """The key of the features of all cached images for an experiment; they are computed unless they are there, whole.

    Errors: as `create_starting_model` and `features.write`.
    """
    model, weights_file, pretrained_sha256 = cfg.model, paths.weights(cfg.model.pretrained), cfg.pretrained_sha256
    machine = hardware.choose(cfg.train.precision)
    key = feature_key(model, pretrained_id(model, weights_file, pretrained_sha256), image_hashes, machine.precision)
    path = paths.stored_features(key)
    if features.stored(path, tell) is None:
        for line in hardware.first_lines(f"features of {model.arch}", machine):
            tell(line)
        hardware.deterministic_algorithms()
        images, _ = shards.load(paths.cache)
        start = create_starting_model(model, classes, weights_file, pretrained_sha256, tell=lambda _: None)
        rows, means = np.arange(len(images)), normalization(model, weights_file)
        features.write(path, start.backbone, images, rows, means, model.img_size, machine, tell)
    return key


def describe_model(cfg: ModelConfig, n_classes: int, weights_file: Path) -> dict[str, Any]:
    """What model.json records of the network: enough for `create_recorded_model`, and what it costs.

    `weights_file`: as for `normalization`.
    """
    with torch.device("meta"):  # shapes alone: nothing is drawn or computed
        model = create_model(cfg, n_classes)
        multiply_adds = networks.count_multiply_adds(model, cfg.channels, cfg.img_size)
    return {
        "arch": cfg.arch,
        "channels": cfg.channels,
        "img_size": cfg.img_size,
        "head": asdict(_head(cfg)),
        "dropout": cfg.dropout,
        "normalise": asdict(normalization(cfg, weights_file)),
        "parameters": networks.count_parameters(model),
        "multiply_adds": multiply_adds,
        "multiply_adds_counted": networks.COUNTED,
    }


def describe_frozen(starting: StartingModel, freeze: Freeze) -> dict[str, Any]:
    """Describe the frozen layers for model.json."""
    layers = starting.frozen_layers
    return {
        **freeze.model_dump(exclude={"cache"}),
        "modules": freezing.frozen_module_names(starting.model, layers),
        "layers_frozen": len(layers),
        "layers_in_all": len(networks.layers(starting.model)),
        "parameters": freezing.count_parameters(starting.model, layers),
        "cached": freeze.cache,
    }


def _find(cfg: ModelConfig, weights_file: Path, pretrained_sha256: str | None) -> tuple[Path | None, str]:
    """Where the weights lie, and what identifies them. Errors: WeightsError."""
    if entry := registry.find(cfg.pretrained):
        return named.find(entry, pretrained_sha256)
    return pretrained.find(cfg.pretrained, cfg.arch, weights_file, pretrained_sha256)


def _head(cfg: ModelConfig) -> Head:
    return Head(cfg.head, cfg.head_hidden, cfg.head_batch_norm)


def freeze_model(model: nn.Module, cfg: ModelConfig) -> FrozenModel:
    """Errors: ParamsError where there are no such blocks, nothing comes of the choice, or nothing runs by itself."""
    freeze, arch = cfg.freeze, cfg.arch
    spec = FreezeSpec(
        freeze.until, freeze.layer_fraction, freeze.n_blocks, adapt_batch_norm=freeze.batch_norm == "train"
    )
    frozen = freezing.freeze(model, spec)
    if freeze.layer_fraction is not None and not frozen.frozen_layers:
        raise ParamsError(
            f"model.freeze.layer_fraction: {freeze.layer_fraction} of the {len(networks.layers(model))} layers of "
            f"{arch} is less than one, so that nothing is frozen: raise it, or set it to null"
        )
    norms = [part for module in frozen.frozen_modules for part in module.modules() if isinstance(part, _BatchNorm)]
    if spec.adapt_batch_norm and not norms:
        raise ParamsError(
            f"model.freeze.batch_norm: what is frozen of {arch} has no batch norm, so that train changes nothing: set "
            "it to eval"
        )
    if freeze.cache and len(frozen.backbone) == 0:
        raise ParamsError(
            f"model.freeze.cache: {arch} is no plain sequence of modules as far as that, so what is frozen cannot run "
            "apart from the rest: set model.freeze.until to head, or this to false"
        )
    return frozen
