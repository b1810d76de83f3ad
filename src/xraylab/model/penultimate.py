"""The features that a network classifies by: the input of its head."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from xraylab.model.networks import head_of


class WithFeatures:
    """Runs a network once for both its logits (n, classes) and its features (n, width), side by side in one tensor."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._features = threading.local()  # threads may share the network
        network.get_submodule(head_of(network)).register_forward_pre_hook(self._keep)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._network(images)
        features: Tensor = self._features.__dict__.pop("batch")
        return torch.cat([logits.float(), features.float()], dim=1)

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._features.batch = inputs[0]
