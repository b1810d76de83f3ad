"""The loss, and what may be added to it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from xraylab import plugins


def class_weights(method: str | Sequence[float], labels: NDArray[np.int64], classes: int) -> Tensor | None:
    """One float32 weight per class, or None.

    `balanced` is n / (classes * n_class) over the training labels, as in scikit-learn's compute_class_weight.
    """
    if method == "none":
        return None
    if method == "balanced":
        counts = np.bincount(labels, minlength=classes)
        return torch.tensor(len(labels) / (classes * counts), dtype=torch.float32)
    return torch.tensor(method, dtype=torch.float32)


class OfLogits:
    """fastai's interface of a loss: convert logits to probabilities and to predicted classes."""

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities."""
        return logits.softmax(dim=-1)

    def decodes(self, logits: Tensor) -> Tensor:
        """Class numbers."""
        return logits.argmax(dim=-1)


class CrossEntropy(OfLogits, nn.CrossEntropyLoss):
    """torch's, over logits (batch, classes) and labels int64 (batch,); weighted mean where there are weights."""


def cross_entropy(weights: Tensor | None, label_smoothing: float) -> CrossEntropy:
    """Cross-entropy, with labels smoothed by so much."""
    return CrossEntropy(weight=weights, label_smoothing=label_smoothing)


class Focal(OfLogits, nn.Module):
    """Cross-entropy of each image times (1 - p of its class) ** gamma: what is easy counts less.

    Lin et al. 2017, arXiv:1708.02002, for several classes; the weighted mean is taken as cross-entropy takes it, and
    the weights do not enter p.
    """

    weight: Tensor | None

    def __init__(self, gamma: float, weight: Tensor | None) -> None:
        super().__init__()
        self.gamma, self.reduction = gamma, "mean"
        self.register_buffer("weight", weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        entropy = F.cross_entropy(logits, labels, reduction="none")
        losses = (1 - torch.exp(-entropy)).clamp(min=0) ** self.gamma * entropy
        if self.weight is None:
            return losses if self.reduction == "none" else losses.mean()
        weights = self.weight[labels]
        return weights * losses if self.reduction == "none" else (weights * losses).sum() / weights.sum()


def focal(weights: Tensor | None, gamma: float) -> Focal:
    return Focal(gamma, weights)


LOSSES: dict[str, Callable[..., nn.Module]] = {"cross_entropy": cross_entropy, "focal": focal}


def create_loss(name: str, weights: Tensor | None, options: dict[str, Any]) -> nn.Module:
    """A loss of this package or of a plugin. Errors: PluginError."""
    if name in LOSSES:
        return LOSSES[name](weights, **options)
    loss: nn.Module = plugins.call("loss", name, plugins.find("loss", name, LOSSES), weights, **options)
    return loss


def divisor(loss: nn.Module, labels: Tensor) -> Tensor | float:
    """Divisor of the weighted mean over a batch: the sum of the weights of its classes."""
    weights: Tensor | None = getattr(loss, "weight", None)  # a plugin's loss may have none
    return len(labels) if weights is None else weights[labels].sum()


def l2_penalty(parameters: Iterable[nn.Parameter], strength: float) -> Tensor:
    """strength / 2 times the sum of squares of all parameters, batch norm and biases included."""
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()
