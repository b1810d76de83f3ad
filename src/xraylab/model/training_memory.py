"""What a training keeps in memory at least: a lower bound from the network's shapes, without weights or images.

`python -m xraylab.model.training_memory CLASSES GPUS CONFIG...` prints it as JSON: path of the config -> bytes.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from xraylab.model import create, grad_checkpointing
from xraylab.params import config
from xraylab.params.config import ExperimentConfig
from xraylab.params.train import Train, phases

STATES = {"adam": 8, "adamw": 8, "lamb": 8, "ranger": 12, "sgd": 0, "rmsprop": 4, "adafactor": 2}
"""Bytes of optimizer state per trained weight; momentum of sgd and rmsprop takes 4 more."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on each device. Work space, copies for mixed precision and the CUDA context come on top."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return sum(astuple(self))


def estimate(cfg: ExperimentConfig, n_classes: int, devices: int = 1) -> TrainingMemory:
    """At least so much with the config's batch size, which is shared where `train.devices` says so of `devices`."""
    train = cfg.train
    model = cfg.model
    sharing = train.devices if isinstance(train.devices, int) else devices if train.devices == "all" else 1
    batch = math.ceil(train.batch_size / sharing)
    with torch.device("cpu" if model.freeze.cache else "meta"):  # as in create.check
        frozen = create.freeze_model(create.create_model(model, n_classes), model)
        if train.grad_checkpointing:
            grad_checkpointing.enable(frozen.trainable, model.arch)
        images = torch.empty(batch, model.channels, model.img_size, model.img_size)
        with torch.no_grad():
            inputs = frozen.backbone(images)
        saved = _saved(frozen.trainable.train(), inputs)
    module = frozen.trainable if model.freeze.cache else frozen.model
    weights = sum(each.numel() for each in module.parameters())
    trained = sum(each.numel() for each in frozen.trainable.parameters() if each.requires_grad)
    return TrainingMemory(
        4 * weights, 4 * trained, _state(train) * trained, 4 * weights if train.ema_decay else 0,
        0 if train.compile else saved // (1 if train.precision in ("float32", "tf32") else 2),
    )  # fmt: skip


def _state(train: Train) -> int:
    """Bytes per weight of the phase whose optimizer takes most."""
    return max(STATES[phase.optimizer] + (4 if phase.momentum else 0) for phase in phases(train))


def _saved(network: nn.Module, inputs: Tensor) -> int:
    """Bytes that the forward pass keeps for the backward pass, besides the weights."""
    known = {_storage(each) for each in network.parameters()}
    kept: dict[int, Tensor] = {}  # the tensors live on, so that no two storages have the same address

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            kept[_storage(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), _fused_attention():
        network(inputs)
    return sum(each.untyped_storage().nbytes() for each in kept.values())


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


class _Attention(torch.autograd.Function):
    """Keeps what fused kernels keep, and not the matrix of all pairs, as torch does where there is no device."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        *batch, heads, length, _ = query.shape
        output = query.new_empty(*batch, length, heads, value.shape[-1]).transpose(-3, -2)  # in their order
        context.save_for_backward(query, key, value, output)
        return output


@contextmanager
def _fused_attention() -> Iterator[None]:
    original: Callable[..., Tensor] = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, key, value, *_, **__: _Attention.apply(query, key, value)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


def main(arguments: list[str]) -> None:
    n_classes, devices, *paths = arguments
    needs = {path: estimate(config.read_config(Path(path)), int(n_classes), int(devices)).total for path in paths}
    print(json.dumps(needs))  # noqa: T201 - for the process that asked


if __name__ == "__main__":
    main(sys.argv[1:])
