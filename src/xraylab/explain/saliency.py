"""Where in an image the evidence for a class is, after a network: one map per image."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xraylab import progress
from xraylab.explain import layers

BATCH = 64

Saliency = npt.NDArray[np.float32]
Method = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images (n, channels, height, width) and their classes (n,) to maps (n, height, width) on the CPU."""


def methods(names: Sequence[str], pixels: int, patch: float, stride: float) -> dict[str, Method]:
    """The methods of these names for images of so many pixels a side; `patch` and `stride` are shares of it."""
    covering = partial(occlusion, patch=max(1, round(patch * pixels)), stride=max(1, round(stride * pixels)))
    every: dict[str, Method] = {"grad-cam": grad_cam, "occlusion": covering}
    return {name: every[name] for name in names}


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """How strongly each image is held to be of its class: log(p / (1 - p)), (n,), from logits (n, k) and classes (n,).

    Of two classes it is the difference of the logits. A single logit would miss what speaks against the others.
    """
    at = classes[:, None]
    others = logits.scatter(1, at, -torch.inf).logsumexp(dim=1)
    return logits.gather(1, at)[:, 0] - others


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM of the log-odds of each image's class: float32 (n, height, width), >= 0, on the CPU.

    relu(sum over k of a_k A_k), A_k being channel k of the layer that `layers.target` names and a_k the mean over space
    of the gradient there (Selvaraju et al., "Grad-CAM", ICCV 2017), made as large as the image bilinearly. A
    transformer's tokens are laid out as they lay in the picture. `images`: (n, channels, height, width), n >= 1.
    """
    place = layers.target(network, images[:1])
    parts = [_grad_cam(network, batch, of, place) for batch, of in _batches(images, classes)]
    return torch.cat(parts)


def occlusion(network: nn.Module, images: Tensor, classes: Tensor, patch: int, stride: int) -> Tensor:
    """By how much the log-odds of each image's class fall where a square is covered: float32 (n, height, width), CPU.

    Squares of `patch` pixels at every `stride` pixels (and at the far edges) take the image's own mean; each pixel has
    the mean over the squares that cover it (Zeiler & Fergus, "Visualizing and understanding convolutional networks",
    ECCV 2014). Positive: evidence for the class.
    """
    with torch.inference_mode():
        pairs = progress.bar(zip(images, classes, strict=True), len(images), "covering parts, image")
        maps = [_occlusion(network, image, of, patch, stride) for image, of in pairs]
    return torch.stack(maps)


def _batches(images: Tensor, classes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(images, BATCH), torch.split(classes, BATCH), strict=True)


def _grad_cam(network: nn.Module, images: Tensor, classes: Tensor, place: layers.Place) -> Tensor:
    logits, (there,) = layers.run(network, images, [place])
    (gradient,) = torch.autograd.grad(log_odds(logits.float(), classes).sum(), [there.output])
    channels, slopes = layers.grid(there.output), layers.grid(gradient)
    weighted = (slopes.mean(dim=(2, 3), keepdim=True) * channels).sum(dim=1, keepdim=True).relu()
    enlarged = F.interpolate(weighted.float(), size=images.shape[-2:], mode="bilinear")
    return enlarged[:, 0].detach().cpu()


def _occlusion(network: nn.Module, image: Tensor, label: Tensor, patch: int, stride: int) -> Tensor:
    height, width = image.shape[-2:]
    corners = [(top, left) for top in _starts(height, patch, stride) for left in _starts(width, patch, stride)]
    mean = image.mean(dim=(1, 2), keepdim=True)
    covered = image.repeat(len(corners), 1, 1, 1)
    for number, (top, left) in enumerate(corners):
        covered[number, :, top : top + patch, left : left + patch] = mean
    scores = torch.cat([_scores(network, batch, label) for batch in torch.split(covered, BATCH)])
    falls = (_scores(network, image[None], label) - scores).cpu()
    total, times = torch.zeros(height, width), torch.zeros(height, width)
    for fall, (top, left) in zip(falls, corners, strict=True):
        total[top : top + patch, left : left + patch] += fall
        times[top : top + patch, left : left + patch] += 1
    return total / times


def _scores(network: nn.Module, images: Tensor, label: Tensor) -> Tensor:
    return log_odds(network(images).float(), label.expand(len(images)))


def _starts(length: int, patch: int, stride: int) -> list[int]:
    last = length - patch
    return [*range(0, last, stride), last]
