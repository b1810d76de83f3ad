"""torchvision's ResNets, with the first and the last layer made to fit."""

from collections import OrderedDict
from collections.abc import Callable

import torchvision.models as tv
from torch import nn

NETWORKS: dict[str, Callable[[], tv.ResNet]] = {
    "resnet18": tv.resnet18,
    "resnet34": tv.resnet34,
    "resnet50": tv.resnet50,
}

ORDER = (
    "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc",
)  # fmt: skip
PARTS = 3
RATES = (("conv1", "bn1", "layer1", "layer2"), ("layer3", "layer4"), ("fc",))


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


def divided(network: nn.Module, upto: str | None) -> tuple[nn.Sequential, nn.Module]:
    """What is frozen, up to the end of the block `upto` or (`head`) to the pooled vector, and the rest, which trains.

    Both are made of the network's own modules under their own names. The frozen part takes no gradient, and its batch
    norm uses stored statistics. With None nothing is frozen, and the rest is the network itself.
    """
    if upto is None:
        return nn.Sequential(), network
    modules = {**dict(network.named_children()), "flatten": nn.Flatten(1)}
    cut = ORDER.index("flatten" if upto == "head" else upto) + 1
    frozen, trained = (
        nn.Sequential(OrderedDict((name, modules[name]) for name in names)) for names in (ORDER[:cut], ORDER[cut:])
    )
    return frozen.requires_grad_(False).eval(), trained


def groups(network: nn.Module) -> list[list[nn.Module]]:
    """The network in `PARTS` parts with rates of their own, split as fastai splits ResNets; the last is the head.

    Of a trained rest, parts that are frozen are empty: what is left keeps its rate.
    """
    modules = dict(network.named_children())
    return [[modules[name] for name in names if name in modules] for names in RATES]


def parameter_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each part: fastai's `splitter`."""
    return [[p for module in modules for p in module.parameters()] for modules in groups(network)]
