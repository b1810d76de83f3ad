"""What inside a network is laid out in space, found by running it: convolutional nets and transformers alike."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xraylab.errors import ParamsError

MOST_PREFIX = 8  # class, distillation and register tokens that may come before those of the picture


@dataclass(frozen=True)
class Call:
    """One call of one module: the `number`-th, counted from 0, of the module `name`."""

    name: str
    number: int


@dataclass(frozen=True)
class Output:
    """What a call put out."""

    call: Call
    output: Tensor
    weighs: bool
    """Whether the module itself multiplies by weights, as convolutions and linear layers do."""


def grid(output: Tensor) -> Tensor:
    """An output that `layout` knows as (n, channels, height, width).

    Tokens are a transformer's: (n, prefix + height * width, channels), the picture's row by row after the prefix.
    """
    match layout(output):
        case "tokens":
            side = isqrt(output.shape[1])
            picture = output[:, output.shape[1] - side * side :]
            return picture.transpose(1, 2).reshape(len(output), -1, side, side)
        case "channels last":
            return output.permute(0, 3, 1, 2)
        case _:
            return output


def layout(output: Tensor) -> str | None:
    """How an output of a square image is laid out in space: `channels first`, `channels last`, `tokens` or not."""
    shape = output.shape
    if output.ndim == 4 and shape[2] == shape[3] > 1:
        return "channels first"
    if output.ndim == 4 and shape[1] == shape[2] > 1:
        return "channels last"
    if output.ndim == 3 and isqrt(shape[1]) > 1 and shape[1] - isqrt(shape[1]) ** 2 <= MOST_PREFIX:
        return "tokens"
    return None


def target(network: nn.Module, image: Tensor) -> Call:
    """Where Grad-CAM looks: the last output of the network's own kind, laid out in space, that the logits depend on.

    For a convolutional net that is the end of its last block. For a transformer that answers from its class token it is
    the first norm of its last block, since what comes after no longer takes anything from the picture's tokens.
    `image` is (1, channels, height, width). Errors: ParamsError where nothing is laid out in space.
    """
    logits, outputs = run(network, image)
    if not outputs:
        raise ParamsError(
            f"Grad-CAM: no layer of {type(network).__name__} puts out what is laid out in space: "
            "take grad-cam out of explain.methods"
        )
    kind = [each for each in outputs if _kind(each.output) == _kind(outputs[-1].output)]
    # of each class apart: the sum of all logits may be constant
    gradients = torch.autograd.grad(logits[0, 0], [each.output for each in kind], allow_unused=True)
    used = [
        each.call
        for each, gradient in zip(kind, gradients, strict=True)
        if gradient is not None and bool(grid(gradient).any())
    ]
    return used[-1] if used else kind[-1].call


def depths(network: nn.Module, image: Tensor) -> dict[str, Call]:
    """The first layer with weights that is laid out in space, and the one halfway, in the order in which they run."""
    _, outputs = run(network, image)
    weighing = [each.call for each in outputs if each.weighs]
    return {"first": weighing[0], "middle": weighing[len(weighing) // 2]} if weighing else {}


def run(network: nn.Module, images: Tensor, calls: Sequence[Call] | None = None) -> tuple[Tensor, list[Output]]:
    """The logits, and what the given `calls` put out (None: all that is laid out in space), in the order of the calls.

    A gradient can be taken of either, even where every weight is frozen.
    """
    outputs: list[Output] = []
    with _recording(network, outputs):
        # a clone of what needs a gradient, since a first layer may work in place
        logits: Tensor = network(images.detach().requires_grad_().clone())
    return logits, outputs if calls is None else [each for each in outputs if each.call in calls]


@contextmanager
def _recording(network: nn.Module, outputs: list[Output]) -> Iterator[None]:
    calls = Counter[str]()
    handles: list[RemovableHandle] = []
    for name, module in network.named_modules():

        def note(module: nn.Module, _: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                if layout(output):
                    outputs.append(Output(Call(name, calls[name]), output, _weighs(module)))
                calls[name] += 1

        handles.append(module.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weighs(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False)) and not list(module.children())


def _kind(output: Tensor) -> tuple[str | None, int]:
    """Tokens of another width are inside of a block; maps of another width are an earlier stage."""
    kind = layout(output)
    return ("tokens", output.shape[2]) if kind == "tokens" else ("map", 0)
