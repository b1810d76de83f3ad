"""Where in an image the evidence for a class is, after a network: one map per image."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xraylab import progress
from xraylab.explain import layers
from xraylab.model import compiling, memory
from xraylab.model.hardware import Hardware, memory_format

BATCH = 64

Saliency = npt.NDArray[np.float32]
Method = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images (n, channels, height, width) and their classes (n,) to maps (n, height, width) on the CPU."""
Evidence = Callable[[Tensor, Tensor], Tensor]
"""How strongly each image is held to be of its class, (n,), from logits (n, k) and classes (n,)."""


def methods(
    names: Sequence[str], pixels: int, patch: float, stride: float, machine: Hardware, multi_label: bool = False
) -> dict[str, Method]:
    """The methods of these names for images of so many pixels a side; `patch` and `stride` are shares of it."""
    evidence = logit if multi_label else log_odds
    side, step = max(1, round(patch * pixels)), max(1, round(stride * pixels))
    covering = partial(occlusion, patch=side, stride=step, machine=machine, evidence=evidence)
    every: dict[str, Method] = {"grad-cam": partial(grad_cam, evidence=evidence), "occlusion": covering}
    return {name: every[name] for name in names}


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """How strongly each image is held to be of its class: log(p / (1 - p)), (n,), from logits (n, k) and classes (n,).

    Of two classes it is the difference of the logits. A single logit would miss what speaks against the others.
    """
    at = classes[:, None]
    others = logits.scatter(1, at, -torch.inf).logsumexp(dim=1)
    return logits.gather(1, at)[:, 0] - others


def logit(logits: Tensor, findings: Tensor) -> Tensor:
    """The log-odds of a finding that is told by a sigmoid of its own: its logit."""
    return logits.gather(1, findings[:, None])[:, 0]


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor, evidence: Evidence = log_odds) -> Tensor:
    """Grad-CAM of the log-odds of each image's class: float32 (n, height, width), >= 0, on the CPU.

    relu(sum over k of a_k A_k), A_k being channel k of the layer that `layers.target` names and a_k the mean over space
    of the gradient there (Selvaraju et al., "Grad-CAM", ICCV 2017), made as large as the image bilinearly. A
    transformer's tokens are laid out as they lay in the picture. `images`: (n, channels, height, width), n >= 1.
    """
    layer, _ = memory.halving(lambda _: layers.target(network, images[:1]), 1, _phase("Grad-CAM"))

    def some(start: int, stop: int) -> Tensor:
        return _grad_cam(network, images[start:stop], classes[start:stop], layer, evidence)

    return _in_batches(some, len(images), "Grad-CAM")


def occlusion(
    network: nn.Module,
    images: Tensor,
    classes: Tensor,
    patch: int,
    stride: int,
    machine: Hardware,
    evidence: Evidence = log_odds,
) -> Tensor:
    """By how much the log-odds of each image's class fall where a square is covered: float32 (n, height, width), CPU.

    Squares of `patch` pixels at every `stride` pixels (and at the far edges) take the image's own mean; each pixel has
    the mean over the squares that cover it (Zeiler & Fergus, "Visualizing and understanding convolutional networks",
    ECCV 2014). Positive: evidence for the class. Images are scored as predictions are: batch norms folded, and in the
    machine's precision.
    """
    quick = compiling.fuse_batch_norm(network)[0].to(memory_format=memory_format(machine.device))
    height, width = images.shape[-2:]
    corners = [(top, left) for top in _starts(height, patch, stride) for left in _starts(width, patch, stride)]
    means = images.mean(dim=(2, 3), keepdim=True)

    def whole(start: int, stop: int) -> Tensor:
        return evidence(quick(images[start:stop]).float(), classes[start:stop]).cpu()

    def covered(start: int, stop: int) -> Tensor:
        numbers = range(start, stop)
        of = torch.tensor([number // len(corners) for number in numbers], device=images.device)
        batch = images[of].contiguous(memory_format=memory_format(machine.device))
        for image, mean, number in zip(batch, means[of], numbers, strict=True):
            top, left = corners[number % len(corners)]
            image[:, top : top + patch, left : left + patch] = mean
        return evidence(quick(batch).float(), classes[of]).cpu()

    with torch.inference_mode(), machine.autocast():
        before = _in_batches(whole, len(images), "occlusion")
        after = _in_batches(covered, len(images) * len(corners), "occlusion").reshape(len(images), -1)
    return _averaged(before[:, None] - after, corners, patch, (height, width))


def _in_batches(work: Callable[[int, int], Tensor], count: int, method: str) -> Tensor:
    """`work(start, stop)` for all of `count`, put together; batches that do not fit are halved, several have a bar."""
    batches, n_batches = memory.batches(work, count, BATCH, _phase(method)), -(-count // BATCH)
    return torch.cat([each for each, _ in (progress.bar(batches, n_batches, method) if n_batches > 1 else batches)])


def _phase(method: str) -> str:
    return f"explaining by {method}"


def _grad_cam(network: nn.Module, images: Tensor, classes: Tensor, layer: layers.Call, evidence: Evidence) -> Tensor:
    logits, (activation,) = layers.run(network, images, [layer])
    (gradient,) = torch.autograd.grad(evidence(logits.float(), classes).sum(), [activation.output])
    channels, slopes = layers.grid(activation.output), layers.grid(gradient)
    weighted = (slopes.mean(dim=(2, 3), keepdim=True) * channels).sum(dim=1, keepdim=True).relu()
    enlarged = F.interpolate(weighted.float(), size=images.shape[-2:], mode="bilinear")
    return enlarged[:, 0].detach().cpu()


def _averaged(falls: Tensor, corners: Sequence[tuple[int, int]], patch: int, size: tuple[int, int]) -> Tensor:
    """Each pixel's mean over the squares that cover it: from falls (n, squares) to (n, height, width)."""
    total, times = torch.zeros(len(falls), *size), torch.zeros(size)
    for number, (top, left) in enumerate(corners):
        total[:, top : top + patch, left : left + patch] += falls[:, number, None, None]
        times[top : top + patch, left : left + patch] += 1
    return total / times


def _starts(length: int, patch: int, stride: int) -> list[int]:
    last = length - patch
    return [*range(0, last, stride), last]
