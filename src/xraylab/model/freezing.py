"""Freezing: which layers do not train, and the frozen backbone that can run by itself, once for all epochs.

timm's freeze and group_modules know timm's own models alone, and turn frozen batch norms into another kind of module.
"""

import copy
import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import nn

from xraylab.errors import ParamsError
from xraylab.model import names, networks
from xraylab.model.networks import Network


@dataclass(frozen=True)
class FreezeSpec:
    """`model.freeze`: at most one of the first three, and whether frozen batch norms adapt their statistics."""

    until: str | None = None
    layer_fraction: float | None = None
    n_blocks: int | None = None
    adapt_batch_norm: bool = False


@dataclass(frozen=True)
class FrozenModel:
    """A network of which some layers are frozen; all parts share the modules of `model`."""

    model: nn.Module
    backbone: nn.Sequential
    """The frozen front that runs by itself, without gradients; empty where nothing does."""
    trainable: nn.Module
    """The network without the backbone, whose output it takes: the part that the Learner trains."""
    frozen_modules: list[nn.Module]
    """Frozen modules inside of `trainable`."""
    frozen_layers: list[str]
    """Names of all frozen layers of `model`, in order."""


def freeze(model: nn.Module, spec: FreezeSpec) -> FrozenModel:
    """Freeze layers: no gradients for their parameters. With `adapt_batch_norm` nothing runs by itself.

    Errors: ParamsError where the network has no such blocks.
    """
    layers = frozen_layers(model, spec)
    for name in layers:
        for parameter in model.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)
    front = _front(model, layers) if layers and not spec.adapt_batch_norm else []
    within = [name for name in layers if not any(_is_in(name, module) for module in front)]
    modules = dict(model.named_modules())
    frozen_modules = [modules[name] for name in frozen_module_names(model, within) if name in modules]
    backbone, trainable = _split(model, front)
    return FrozenModel(model, backbone, trainable, frozen_modules, layers)


def frozen_layers(model: nn.Module, spec: FreezeSpec) -> list[str]:
    """Names of the layers that are frozen. Errors: ParamsError where the network has no such blocks."""
    layers, head = networks.layers(model), networks.head_of(model)
    body = [name for name in layers if not _is_in(name, head)]
    if spec.layer_fraction is not None:
        return body[: int(spec.layer_fraction * len(layers))]
    if spec.n_blocks is not None:
        return body[: _end_of_blocks(model, body, spec.n_blocks)]
    if spec.until is None or spec.until == names.HEAD:
        return body if spec.until else []
    return body[: _last(body, _module_name(model, spec.until)) + 1]


def blocks(model: nn.Module) -> list[str]:
    """Names of the body's blocks, in order: what stands in a list or sequence, holds layers, and holds no block itself.

    Those are a ResNet's residual blocks, a transformer's layers, a DenseNet's dense layers and transitions.
    """
    lists, head = nn.Sequential | nn.ModuleList | nn.ModuleDict, networks.head_of(model)
    listed = [
        f"{name}.{child}".removeprefix(".")
        for name, module in model.named_modules()
        if isinstance(module, lists) and not isinstance(module, Network) and not _is_in(name, head)
        for child, part in module.named_children()
        if any(True for _ in part.children()) and _has_parameters(part)
    ]
    innermost = [name for name in listed if not any(_is_in(other, name) for other in listed if other != name)]
    layers = networks.layers(model)
    return sorted(innermost, key=lambda name: _first(layers, name))


def frozen_module_names(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """The largest modules that are frozen as a whole, and parameters that a module with other parts holds itself."""
    frozen, everything = set(layers), networks.layers(model)

    def largest(module: nn.Module, name: str) -> Iterator[str]:
        inside = {layer for layer in everything if _is_in(layer, name)}
        if name and inside and inside <= frozen:
            yield name
        elif inside & frozen:
            if name in frozen:
                yield from (f"{name}.{parameter}" for parameter, _ in module.named_parameters(recurse=False))
            for child, part in module.named_children():
                yield from largest(part, f"{name}.{child}".removeprefix("."))

    return list(largest(model, ""))


def count_parameters(model: nn.Module, layers: Sequence[str]) -> int:
    """The number of parameters of those layers."""
    return sum(p.numel() for name in layers for p in model.get_submodule(name).parameters(recurse=False))


def _front(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """Names of the frozen modules that run one after the other before anything that trains.

    Of a timm body, whose code calls its modules in any way, they are that if backbone and rest give its answer to the
    bit; if not, only the whole body is.
    """
    front = _frozen_first(model, layers, within_body=True)
    plain = not front or not isinstance(model, Network) or _is_plain(model.get_submodule("body"))
    if plain or _same_output(model, front):
        return front
    return _frozen_first(model, layers, within_body=False)


def _frozen_first(model: nn.Module, layers: Sequence[str], within_body: bool) -> list[str]:
    """The first modules of the network, up to one that trains or draws; those without parameters join the others."""
    everything, frozen = networks.layers(model), set(layers)

    def runs_frozen(name: str) -> bool:
        drops = isinstance(module := model.get_submodule(name), nn.modules.dropout._DropoutNd) and module.p > 0
        return not drops and frozen.issuperset(layer for layer in everything if _is_in(layer, name))

    head = networks.head_of(model)
    front = list(takewhile(runs_frozen, _chain(model, "", {head} if within_body else {head, "body"})))
    return front if any(_has_parameters(model.get_submodule(name)) for name in front) else []


def _chain(module: nn.Module, prefix: str, atomic: set[str]) -> Iterator[str]:
    """Names of a module's children in order, and in place of a plain sequence or a body, unless `atomic`, of theirs."""
    for child, part in module.named_children():
        name = f"{prefix}{child}"
        if name not in atomic and (name == "body" or _is_plain(part)):
            yield from _chain(part, f"{name}.", atomic)
        else:
            yield name


def _split(model: nn.Module, front: Sequence[str]) -> tuple[nn.Sequential, nn.Module]:
    """The modules of these names one after the other, and a copy of the network that does nothing in their place.

    The copy shares all its other modules with the network.
    """
    modules = dict(model.named_modules())
    backbone = nn.Sequential(*(modules[name] for name in front)).eval()
    if "avgpool" in front:
        backbone.append(nn.Flatten(1))  # which torchvision's ResNets do without a module

    def is_left_out(name: str) -> bool:
        children = [f"{name}.{child}" for child, _ in modules[name].named_children()]
        return name in front or (bool(children) and all(map(is_left_out, children)))

    copies: dict[int, object] = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    for name, module in modules.items():
        if name and is_left_out(name):
            copies[id(module)] = nn.Identity()
        elif not any(_is_in(other, name) for other in front):
            copies[id(module)] = module
    return backbone, copy.deepcopy(model, copies)


def _same_output(model: nn.Module, front: Sequence[str]) -> bool:
    """Return whether backbone and rest give the network's output; never where the body has parameters of its own."""
    if not isinstance(model, Network) or next(model.get_submodule("body").parameters(recurse=False), None) is not None:
        return False
    image = torch.linspace(-1, 1, math.prod(model.input_shape)).reshape(1, *model.input_shape)
    was_training = model.training
    backbone, trainable = _split(model.eval(), front)
    try:
        with torch.no_grad():
            return torch.equal(trainable(backbone(image)), model(image))
    except Exception:  # modules that do not fit one after the other may raise anything
        return False
    finally:
        model.train(was_training)


def _is_plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _module_name(model: nn.Module, until: str) -> str:
    """The full name of a module of the body."""
    prefix, head = "body." if isinstance(model, Network) else "", networks.head_of(model)
    body = {
        name.removeprefix(prefix)
        for name, module in model.named_modules()
        if name.startswith(prefix) and not _is_in(name, head) and _has_parameters(module)
    } - {""}
    if until not in body:
        near = difflib.get_close_matches(until, sorted(body), n=5, cutoff=0.3)
        raise ParamsError(
            f"model.freeze.until: the network has no block {until!r}; there is {', '.join([*near, 'head'])}"
        )
    return prefix + until


def _end_of_blocks(model: nn.Module, body: list[str], number: int) -> int:
    """The number of layers up to the end of the first `number` blocks, or, if negative, before the last ones."""
    all_blocks = blocks(model)
    if abs(number) > len(all_blocks):
        raise ParamsError(f"model.freeze.n_blocks: the network has {len(all_blocks)} blocks, got {number}")
    return _last(body, all_blocks[number - 1]) + 1 if number > 0 else _first(body, all_blocks[number])


def _is_in(name: str, module: str) -> bool:
    """Return whether `name` is the module or inside of it; '' is the whole network."""
    return not module or f"{name}.".startswith(f"{module}.")


def _first(layers: Sequence[str], block: str) -> int:
    return next(index for index, name in enumerate(layers) if _is_in(name, block))


def _last(layers: Sequence[str], block: str) -> int:
    return max(index for index, name in enumerate(layers) if _is_in(name, block))
