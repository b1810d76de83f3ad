"""Networks by name: torchvision's ResNets as they are, every other as a body and a head; their layers and groups."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from xraylab.errors import ParamsError
from xraylab.model import backbones, heads, names
from xraylab.model.heads import LINEAR, Head

NETWORKS: dict[str, Callable[[], nn.Module]] = {name: partial(backbones.torchvision, name) for name in names.RESNETS}

PARTS = 3
SECOND_GROUP = ("layer3.", "layer4.")  # of ResNets
DEFAULT_PIXELS = 224  # of a network that is built for no size in particular
COUNTED = "multiply-adds of convolutions, fully connected layers and the matrix products of attention"


class Network(nn.Sequential):
    """`body`, `pool` where the body has none of its own, and `head`.

    `layers` are the whole body's modules with parameters of their own, in the order in which an image meets them, and
    `input_shape` is (channels, height, width).
    """

    def __init__(
        self, parts: "OrderedDict[str, nn.Module]", layers: Sequence[str], input_shape: tuple[int, int, int]
    ) -> None:
        super().__init__(parts)
        self.layers, self.input_shape = tuple(layers), input_shape


def build(
    arch: str, classes: int, channels: int, dropout: float, head: Head = LINEAR, pixels: int | None = None
) -> nn.Module:
    """A network from (batch, channels, height, width) float32 to logits (batch, classes), randomly initialised.

    `pixels` is the size of its images, which some are made for; None is the size that their weights were made for.
    Errors: ParamsError where there is no such network, or none for such images or such a head.
    """
    if arch in NETWORKS:
        return _resnet(NETWORKS[arch](), classes, channels, dropout, head)
    if builder := backbones.lookup(arch):
        backbone, size = builder, pixels or DEFAULT_PIXELS
    else:
        backbone = backbones.timm(arch, pixels, maps=head.kind == "concat")
        size = pixels or backbones.timm_config(arch)["input_size"][-1]
    layers, shape = _traced(backbone, arch, channels, size)
    maps = len(shape) == 4 and shape[2] == shape[3]
    if not maps and (head.kind == "concat" or len(shape) != 2):
        raise ParamsError(
            f"model.head: {head.kind} wants maps of features (channels, height, width), and {arch} puts out "
            f"{tuple(shape[1:])}: choose another head or network"
        )
    parts: OrderedDict[str, nn.Module] = OrderedDict(body=backbone(channels))
    if maps:
        parts["pool"] = nn.Sequential(heads.pool(head), nn.Flatten(1))
    parts["head"] = heads.build(shape[1], classes, dropout, head)
    return Network(parts, [f"body.{name}" if name else "body" for name in layers], (channels, size, size))


def _resnet(network: nn.Module, classes: int, channels: int, dropout: float, head: Head) -> nn.Module:
    """A ResNet with torchvision's module names; dropout always precedes the last layer, so that weights fit."""
    first, last = network.get_submodule("conv1"), network.get_submodule("fc")
    if not isinstance(first, nn.Conv2d) or not isinstance(last, nn.Linear):
        raise TypeError(f"{type(network).__name__} is no ResNet")
    if channels != first.in_channels:
        network.conv1 = nn.Conv2d(channels, first.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if head.kind == "concat":
        network.avgpool = heads.pool(head)
    network.fc = heads.build(last.in_features, classes, dropout, head)
    return network


def _traced(backbone: backbones.Backbone, arch: str, channels: int, pixels: int) -> tuple[list[str], Sequence[int]]:
    try:
        return backbones.trace(backbone, channels, pixels)
    except ParamsError:
        raise
    except Exception as error:  # a library's network may refuse a size in any way
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ParamsError(
            f"model.img_size: {arch} takes no images of {pixels} pixels ({reason}): set it to another size, such as 224"
        ) from None


def head_of(network: nn.Module) -> str:
    """The name of its head."""
    return "head" if isinstance(network, Network) else "fc"


def layers(network: nn.Module) -> list[str]:
    """Names of all modules with parameters of their own, in the order in which an image meets them; the head's last."""
    with_parameters = [
        name for name, part in network.named_modules() if next(part.parameters(recurse=False), None) is not None
    ]
    if not isinstance(network, Network):
        return with_parameters  # torchvision's ResNets name theirs in that order
    return [*network.layers, *(name for name in with_parameters if name.startswith("head."))]


def groups(network: nn.Module) -> list[list[nn.Module]]:
    """The layers in `PARTS` groups with learning rates of their own; the last is the head.

    ResNets are split as fastai splits them. Of any other body the first half of the layers is the first group. Where a
    frozen backbone is left out its groups are empty or shorter: what is left keeps its rate.
    """
    modules, head = dict(network.named_modules()), head_of(network)
    body = [name for name in layers(network) if name.split(".")[0] != head]
    second = body[len(body) // 2 :] if isinstance(network, Network) else [n for n in body if n.startswith(SECOND_GROUP)]
    parts = [name for name in body if name not in second], second, [n for n in layers(network) if n not in body]
    return [[modules[name] for name in part if name in modules] for part in parts]


def parameter_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each group: fastai's `splitter`. A layer that holds others in another group gives its own."""
    return [[p for layer in group for p in layer.parameters(recurse=False)] for group in groups(network)]


def count_parameters(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(p.numel() for p in network.parameters())


def count_multiply_adds(network: nn.Module, channels: int, pixels: int) -> int:
    """Multiply-adds for one image (channels, pixels, pixels), of what `COUNTED` says.

    torch's counter counts a multiply-add as two operations; batch norm, activations and pooling are left out.
    """
    was_training = network.training
    network.eval()
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - imports triton

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, channels, pixels, pixels))
    network.train(was_training)
    return int(counter.get_total_flops()) // 2
