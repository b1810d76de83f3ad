"""torchvision's ResNets, with the first and the last layer made to fit."""

from collections.abc import Callable

import torchvision.models as tv
from torch import nn

NETWORKS: dict[str, Callable[[], tv.ResNet]] = {
    "resnet18": tv.resnet18,
    "resnet34": tv.resnet34,
    "resnet50": tv.resnet50,
}


PARTS = 3


def build(arch: str, classes: int, channels: int, dropout: float) -> tv.ResNet:
    """A network from (batch, channels, height, width) float32 to logits (batch, classes), randomly initialised.

    The last layer is always dropout then linear, so that weights fit whatever the dropout.
    """
    network = NETWORKS[arch]()
    first, last = network.conv1, network.fc
    if channels != first.in_channels:
        network.conv1 = nn.Conv2d(channels, first.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(last.in_features, classes))
    return network


def groups(network: tv.ResNet) -> list[list[nn.Module]]:
    """The network in `PARTS` parts with rates of their own, split as fastai splits ResNets; the last is the head."""
    return [
        [network.conv1, network.bn1, network.layer1, network.layer2],
        [network.layer3, network.layer4],
        [network.fc],
    ]


def parameter_groups(network: tv.ResNet) -> list[list[nn.Parameter]]:
    """The parameters of each part: fastai's `splitter`."""
    return [[p for module in modules for p in module.parameters()] for modules in groups(network)]
