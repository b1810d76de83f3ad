"""What of a network is frozen, and how it is divided, so that the frozen part can run once for all epochs."""

import difflib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from xraylab.errors import ParamsError
from xraylab.model import names, networks
from xraylab.model.networks import Network

Parts = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Choice:
    """`model.freeze`: at most one of the first three, and whether frozen batch norms adapt their statistics."""

    upto: str | None
    layers: float | None
    blocks: int | None
    adapt: bool

    @classmethod
    def of(cls, upto: str | None, layers: float | None, blocks: int | None, batch_norm: str) -> "Choice":
        """From the keys of `model.freeze`."""
        return cls(upto, layers, blocks, adapt=batch_norm == "train")


@dataclass(frozen=True)
class Division:
    """`frozen` runs by itself, without gradients, and hands on to `trained`; `held` is what is frozen within that.

    `layers` names all that is frozen, in order.
    """

    frozen: nn.Sequential
    trained: nn.Module
    held: list[nn.Module]
    layers: list[str]


def divide(network: nn.Module, choice: Choice) -> Division:
    """Freeze what is chosen: no gradients for its parameters. With `adapt` nothing runs by itself.

    All parts are the network's own modules. Errors: ParamsError where it has no such blocks.
    """
    layers = frozen_layers(network, choice)
    for name in layers:
        for parameter in network.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)
    if choice.adapt or not layers:
        return Division(nn.Sequential(), network, _held(network, layers), layers)
    before, after = _split(sequence(network), set(layers), network, "")
    if not before:
        return Division(nn.Sequential(), network, _held(network, layers), layers)
    frozen = nn.Sequential(before).eval()
    trained = (
        Network(after, network.layers, network.input_shape) if isinstance(network, Network) else nn.Sequential(after)
    )
    apart = set(map(id, frozen.modules()))
    within = [name for name in layers if id(network.get_submodule(name)) not in apart]
    return Division(frozen, trained, _held(network, within), layers)


def frozen_layers(network: nn.Module, choice: Choice) -> list[str]:
    """Names of the modules whose own parameters are frozen. Errors: ParamsError where it has no such blocks."""
    everything, head = networks.layers(network), networks.head_of(network) + "."
    body = [name for name in everything if not name.startswith(head)]
    if choice.layers is not None:
        return body[: int(choice.layers * len(everything))]
    if choice.blocks is not None:
        return body[: _count(network, body, choice.blocks)]
    if choice.upto is not None and choice.upto != names.HEAD:
        return body[: _last(body, _within(network, choice.upto)) + 1]
    return body if choice.upto == names.HEAD else []


def blocks(network: nn.Module) -> list[str]:
    """Names of the body's blocks, in order: what stands in a list or sequence, holds layers, and holds no block itself.

    Those are a ResNet's residual blocks, a transformer's layers, a DenseNet's dense layers and transitions.
    """
    lists = nn.Sequential | nn.ModuleList | nn.ModuleDict
    head = networks.head_of(network)
    found = [
        f"{name}.{child}".removeprefix(".")
        for name, module in network.named_modules()
        if isinstance(module, lists) and not isinstance(module, Network) and name.split(".")[0] != head
        for child, part in module.named_children()
        if any(True for _ in part.children()) and _learns(part)
    ]
    innermost = [name for name in found if not any(other.startswith(name + ".") for other in found)]
    order = networks.layers(network)
    return sorted(innermost, key=lambda name: _first(order, name))


def sequence(network: nn.Module) -> nn.Sequential:
    """The network as modules that run one after the other, as far as it is known to be that.

    A timm body is one where its children, one after the other, give its answer to the bit.
    """
    if not isinstance(network, Network):
        modules = {**dict(network.named_children()), "flatten": nn.Flatten(1)}
        return nn.Sequential(OrderedDict((name, modules[name]) for name in networks.ORDER))
    parts = OrderedDict(network.named_children())
    chain = nn.Sequential(OrderedDict(parts["body"].named_children()))
    if not _runs_in_order(parts["body"]) and _same(parts["body"], chain, network.input_shape):
        parts["body"] = chain
    return nn.Sequential(parts)


def collapsed(network: nn.Module, layers: Sequence[str]) -> list[str]:
    """The largest modules that are frozen as a whole, and parameters that a module with other parts holds itself."""
    frozen, everything = set(layers), networks.layers(network)
    found: list[str] = []

    def visit(module: nn.Module, name: str) -> None:
        inside = [layer for layer in everything if layer == name or layer.startswith(f"{name}.".lstrip("."))]
        if name and inside and frozen.issuperset(inside):
            found.append(name)
        elif frozen.intersection(inside):
            if name in frozen:
                found.extend(f"{name}.{own}" for own, _ in module.named_parameters(recurse=False))
            for child, part in module.named_children():
                visit(part, f"{name}.{child}".removeprefix("."))

    visit(network, "")
    return found


def parameters(network: nn.Module, layers: Sequence[str]) -> int:
    """How many numbers those layers hold."""
    return sum(p.numel() for name in layers for p in network.get_submodule(name).parameters(recurse=False))


def _split(part: nn.Module, frozen: set[str], network: nn.Module, path: str) -> tuple[Parts, Parts]:
    """What runs before the cut and what after, under the same names; what has no parameters goes with what precedes."""
    before, after = OrderedDict[str, nn.Module](), OrderedDict[str, nn.Module]()
    for name, module in part.named_children():
        own = [inside for inside in networks.layers(network) if f"{inside}.".startswith(f"{path}{name}.")]
        if not after and frozen.issuperset(own) and not _random(module):
            before[name] = module
        elif not after and isinstance(module, nn.Sequential) and _runs_in_order(module) and frozen.intersection(own):
            first, rest = _split(module, frozen, network, f"{path}{name}.")
            before |= {name: nn.Sequential(first)} if first else {}
            after[name] = nn.Sequential(rest)
        else:
            after[name] = module
    return before, after


def _runs_in_order(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _random(module: nn.Module) -> bool:
    """Whether it is a dropout that acts."""
    return isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0


def _same(body: nn.Module, chain: nn.Sequential, input_shape: tuple[int, int, int]) -> bool:
    """Whether both answer alike; never where the body has parameters of its own, which may be zeros as yet."""
    if next(body.parameters(recurse=False), None) is not None:
        return False
    image = torch.linspace(-1, 1, math.prod(input_shape)).reshape(1, *input_shape)
    body.eval()
    try:
        with torch.no_grad():
            return torch.equal(body(image), chain(image))
    except Exception:  # children that do not fit one after the other may raise anything
        return False
    finally:
        body.train()


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _held(network: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    modules = dict(network.named_modules())
    return [modules[name] for name in collapsed(network, layers) if name in modules]


def _within(network: nn.Module, upto: str) -> str:
    """The full name of a module of the body."""
    prefix = "body." if isinstance(network, Network) else ""
    body = {
        name.removeprefix(prefix)
        for name, module in network.named_modules()
        if name.startswith(prefix) and name.split(".")[0] != networks.head_of(network) and _learns(module)
    } - {""}
    if upto not in body:
        near = difflib.get_close_matches(upto, sorted(body), n=5, cutoff=0.3)
        raise ParamsError(
            f"model.freeze.upto: the network has no block {upto!r}; there is {', '.join([*near, 'head'])}"
        )
    return prefix + upto


def _count(network: nn.Module, body: list[str], number: int) -> int:
    """How many layers the first `number` blocks end with, or, where it is negative, precede the last ones."""
    there = blocks(network)
    if abs(number) > len(there):
        raise ParamsError(f"model.freeze.blocks: the network has {len(there)} blocks, got {number}")
    return _last(body, there[number - 1]) + 1 if number > 0 else _first(body, there[number])


def _first(order: Sequence[str], block: str) -> int:
    return next(place for place, name in enumerate(order) if f"{name}.".startswith(f"{block}."))


def _last(order: Sequence[str], block: str) -> int:
    return max(place for place, name in enumerate(order) if f"{name}.".startswith(f"{block}."))
