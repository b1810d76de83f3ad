"""Backbones by name: the part of a network before its pool and head, as torchvision or timm builds it."""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from xraylab import plugins
from xraylab.data.image_cache import IMAGENET, Normalise
from xraylab.errors import ParamsError
from xraylab.model import lazy_compiler, names

HALVES = (0.5, 0.5, 0.5)
Backbone = Callable[[int], nn.Module]  # from the number of channels


def torchvision_models() -> ModuleType:
    """torchvision.models, imported when a network of it is built."""
    return _of_torchvision("torchvision.models")


def torchvision_ops() -> ModuleType:
    """torchvision.ops, imported when one of its losses is computed."""
    return _of_torchvision("torchvision.ops")


@cache
def _of_torchvision(module: str) -> ModuleType:
    with lazy_compiler.torchvision_does_without():
        return import_module(module)


def torchvision(name: str) -> nn.Module:
    """torchvision's network of that name, as torchvision builds it."""
    model: nn.Module = getattr(torchvision_models(), name)()
    return model


def densenet121(channels: int) -> nn.Module:
    """torchvision's, with maps (n, 1024, h, w) as its output."""
    model = torchvision_models().densenet121()
    model.features.conv0 = _with_channels(model.features.conv0, channels)
    return nn.Sequential(OrderedDict(features=model.features, relu=nn.ReLU()))


def inception_v3(channels: int) -> nn.Module:
    """torchvision's without its auxiliary head, with maps (n, 2048, h, w) as its output."""
    model = torchvision_models().inception_v3(aux_logits=False, init_weights=True)
    model.Conv2d_1a_3x3.conv = _with_channels(model.Conv2d_1a_3x3.conv, channels)
    head = {"avgpool", "dropout", "fc"}
    return nn.Sequential(OrderedDict((name, part) for name, part in model.named_children() if name not in head))


ARCHITECTURES: dict[str, Backbone] = {"densenet121": densenet121, "inception_v3": inception_v3}
"""Besides ResNets and what timm builds: from the number of channels to a module that puts out (n, features, h, w)."""


PATCH16: dict[str, Any] = {"patch_size": 16, "ref_feat_shape": (14, 14)}  # of rotary embeddings at 224 pixels
HIDDEN = 5472 / 1024  # of DINOv2's SwiGLU: twice two thirds of 4 * 1024, rounded up to a multiple of 8


def _swiglu() -> dict[str, Any]:
    from timm.layers.mlp import SwiGLUPacked  # noqa: PLC0415 - takes seconds, as below

    return {"patch_size": 16, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": HIDDEN}


OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "eva02_tiny_patch16": lambda: PATCH16,
    "eva02_small_patch16": lambda: PATCH16,
    "eva02_base_patch16": lambda: PATCH16,
    "vit_large_patch16_reg4_swiglu": _swiglu,
    "vit_so400m_patch14_siglip_gelu_tanh": lambda: {"act_layer": "gelu_tanh"},
}
"""What timm is asked for besides the name in names.VARIANTS."""


def lookup(arch: str) -> Backbone | None:
    """The backbone of that name in ARCHITECTURES or of a plugin. Errors: PluginError where timm has one so called."""
    if arch not in plugins.of_kind("architecture", names.TABLE):
        return ARCHITECTURES.get(arch)
    from timm import is_model  # noqa: PLC0415

    if is_model(arch):
        plugins.of_kind("architecture", [arch])  # refuses it
    backbone = plugins.find("architecture", arch, ARCHITECTURES)
    return lambda channels: plugins.call("architecture", arch, backbone, channels)


def timm(arch: str, pixels: int | None, maps: bool) -> Backbone:
    """timm's network without its last layer; with `maps` without its pool too.

    A network made for images of one size is made for `pixels`; None is the size that its weights were made for.
    """
    from timm import create_model  # noqa: PLC0415 - takes seconds, which torchvision's networks need not wait for

    name, fixed = timm_name(arch), timm_config(arch)["fixed_input_size"]
    options: dict[str, Any] = dict(OPTIONS[arch]()) if arch in OPTIONS else {}
    if fixed and pixels is not None:
        options["img_size"] = pixels
    if maps:
        options["global_pool"] = ""
    return lambda channels: create_model(name, pretrained=False, num_classes=0, in_chans=channels, **options)


def normalization(arch: str, channels: int) -> Normalise:
    """Mean and standard deviation that the library's weights were trained with; of gray, their means over the colours.

    torchvision's are ImageNet's, which its inception_v3 itself turns into halves: ours leaves that to the caller.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]
    if arch == "inception_v3":
        mean, std = HALVES, HALVES
    elif arch in names.RESNETS or lookup(arch):
        return IMAGENET[channels]
    else:
        config = timm_config(arch)
        mean, std = tuple(config["mean"]), tuple(config["std"])
    if (mean, std) == (IMAGENET[3].mean, IMAGENET[3].std):
        return IMAGENET[channels]
    if channels == 1:
        return Normalise((sum(mean) / len(mean),), (sum(std) / len(std),))
    return Normalise(mean, std)


def timm_name(arch: str) -> str:
    """timm's name of it, with a tag where one was given. Errors: ParamsError with the nearest names there are."""
    from timm import is_model, list_models, list_pretrained  # noqa: PLC0415

    name = names.TIMM.get(arch) or names.VARIANTS.get(arch, arch)
    base, _, tag = name.partition(".")
    if not is_model(base):
        raise unknown(arch, [*names.TABLE, *plugins.of_kind("architecture"), *list_models()])
    if tag and name not in list_pretrained(f"{base}.*"):
        raise unknown(arch, [base, *list_pretrained(f"{base}.*")])
    return name


def timm_config(arch: str) -> dict[str, Any]:
    """timm's configuration of a network: input size, mean and standard deviation, location of the weights."""
    from timm import get_pretrained_cfg  # noqa: PLC0415

    config = get_pretrained_cfg(timm_name(arch))
    if config is None:
        raise ParamsError(f"model.arch: timm says nothing of what {arch} takes: choose another")
    return dict(vars(config))


def unknown(arch: str, names: Sequence[str]) -> ParamsError:
    """The error for an unknown name."""
    near = difflib.get_close_matches(arch, list(dict.fromkeys(names)), n=5, cutoff=0.5)
    nearest = f"nearest are {', '.join(near)}" if near else "docs/models.md lists the usual ones"
    return ParamsError(f"model.arch: neither torchvision's table nor timm has {arch!r}; {nearest}")


def _with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The same convolution for another number of channels."""
    old = convolution
    if old.in_channels == channels:
        return old
    shape: Any = {"kernel_size": old.kernel_size, "stride": old.stride, "padding": old.padding}
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **shape)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def trace(build: Backbone, channels: int, pixels: int) -> tuple[list[str], torch.Size]:
    """Names of the modules with parameters of their own, in the order in which an image meets them; its output's shape.

    Tried on the meta device, where nothing is drawn or computed. A module that is never called as one stands with the
    nearest module around it that is. Errors: ValueError where patches would leave pixels out, and whatever the network
    raises for images of this size.
    """
    order: dict[str, int] = {}

    def note(name: str, *_: Any) -> None:
        order.setdefault(name, len(order))

    def called(name: str) -> int:
        return order[name] if name in order else called(name.rpartition(".")[0])

    with torch.device("meta"), torch.no_grad():
        backbone = build(channels).eval()
        for name, module in backbone.named_modules():
            module.register_forward_pre_hook(partial(note, name))
        output = backbone(torch.zeros(1, channels, pixels, pixels))
    first = next((part for name in order if isinstance(part := backbone.get_submodule(name), nn.Conv2d)), None)
    if first is not None and first.kernel_size == first.stride and pixels % first.stride[0]:
        raise ValueError(f"it cuts them into patches of {first.stride[0]} pixels, which leaves some out")
    layers = [name for name, part in backbone.named_modules() if next(part.parameters(recurse=False), None) is not None]
    return sorted(layers, key=called), output.shape
