"""The loss, and what may be added to it."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from xraylab import plugins
from xraylab.errors import TrainingError
from xraylab.model.backbones import torchvision_ops


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


def pos_weights(method: str | Sequence[float], targets: NDArray[np.float32], findings: Sequence[str]) -> Tensor | None:
    """One float32 weight per finding for its positive labels, torch's `pos_weight`, or None.

    `balanced` is the number of negative over that of positive training labels, as torch's documentation has it.
    `targets` (images, findings) are NaN where they do not count. Errors: TrainingError for a finding without one of
    the two.
    """
    if method == "none":
        return None
    if method == "balanced":
        positive, negative = np.nansum(targets, axis=0), np.nansum(1 - targets, axis=0)
        for finding, numbers in zip(findings, zip(positive, negative, strict=True), strict=True):
            if min(numbers) == 0:
                missing = "positive" if numbers[0] == 0 else "negative"
                raise TrainingError(
                    f"loss.pos_weight: balanced needs training images with and without {finding}, and there is no "
                    f"{missing} one: give one number per finding, or set it to none"
                )
        return torch.tensor(negative / positive, dtype=torch.float32)
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


Entries = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""The loss of every entry, from logits and targets (batch, findings) and the weights of positive labels."""


class OfFindings(nn.Module):
    """The mean loss of the entries that count, of logits and targets (batch, findings), NaN where one must not.

    Every finding is a question of its own, answered by a sigmoid. Without reduction: the mean of each image.
    """

    pos_weight: Tensor | None

    def __init__(self, entries: Entries, pos_weight: Tensor | None) -> None:
        super().__init__()
        self.entries, self.reduction = entries, "mean"
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        counts = counted(targets)
        losses = self.entries(logits, torch.where(counts, targets, 0).to(logits), self.pos_weight)
        losses = torch.where(counts, losses, 0)
        if self.reduction == "none":
            return losses.sum(dim=1) / counts.sum(dim=1).clamp(min=1)
        return losses.sum() / counts.sum().clamp(min=1)

    def activation(self, logits: Tensor) -> Tensor:
        """Probabilities."""
        return logits.sigmoid()

    def decodes(self, probabilities: Tensor) -> Tensor:
        """Which findings are there, at 0.5."""
        return probabilities >= 0.5


def counted(targets: Tensor) -> Tensor:
    """The entries that are not NaN."""
    return ~targets.isnan()


def bce(pos_weight: Tensor | None, label_smoothing: float) -> OfFindings:
    """Binary cross-entropy, of targets moved by so much towards 0.5 in halves."""
    return OfFindings(partial(_bce, label_smoothing=label_smoothing), pos_weight)


def _bce(logits: Tensor, targets: Tensor, pos_weight: Tensor | None, label_smoothing: float) -> Tensor:
    smooth = targets * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=pos_weight, reduction="none")


def sigmoid_focal(pos_weight: Tensor | None, gamma: float) -> OfFindings:
    """Focal loss as Lin et al. 2017, arXiv:1708.02002, have it; positive labels weighted as by their alpha."""
    return OfFindings(partial(_sigmoid_focal, gamma=gamma), pos_weight)


def _sigmoid_focal(logits: Tensor, targets: Tensor, pos_weight: Tensor | None, gamma: float) -> Tensor:
    losses: Tensor = torchvision_ops().sigmoid_focal_loss(logits, targets, alpha=-1, gamma=gamma)
    return losses if pos_weight is None else losses * (pos_weight * targets + 1 - targets)


def asymmetric(pos_weight: Tensor | None, gamma_pos: float, gamma_neg: float, clip: float) -> OfFindings:
    """Asymmetric loss of Ridnik et al. 2021, arXiv:2009.14119, whose sum over entries is a mean here."""
    return OfFindings(partial(_asymmetric, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip), pos_weight)


def _asymmetric(logits: Tensor, targets: Tensor, pos_weight: Tensor | None, **options: Any) -> Tensor:
    from timm.loss.asymmetric_loss import AsymmetricLossMultiLabel  # noqa: PLC0415 - takes seconds, and one loss uses it

    losses: Tensor = AsymmetricLossMultiLabel(**options, reduction="none", pos_weight=pos_weight)(logits, targets)
    return losses


LOSSES: dict[str, Callable[..., nn.Module]] = {"cross_entropy": cross_entropy, "focal": focal}
MULTI_LABEL_LOSSES: dict[str, Callable[..., nn.Module]] = {
    "bce": bce,
    "focal": sigmoid_focal,
    "asymmetric": asymmetric,
}


def create_loss(name: str, weights: Tensor | None, options: dict[str, Any], multi_label: bool = False) -> nn.Module:
    """A loss of this package or of a plugin; `weights` are of classes, or of positive labels. Errors: PluginError."""
    table = MULTI_LABEL_LOSSES if multi_label else LOSSES
    if name in table:
        return table[name](weights, **options)
    loss: nn.Module = plugins.call("loss", name, plugins.find("loss", name, table), weights, **options)
    return loss


def divisor(loss: nn.Module, labels: Tensor) -> Tensor | float:
    """Divisor of the mean over a batch: the sum of the weights of its classes, or how many entries count."""
    if labels.is_floating_point():
        return counted(labels).sum()
    weights: Tensor | None = getattr(loss, "weight", None)  # a plugin's loss may have none
    return len(labels) if weights is None else weights[labels].sum()


def l2_penalty(parameters: Iterable[nn.Parameter], strength: float) -> Tensor:
    """strength / 2 times the sum of squares of all parameters, batch norm and biases included."""
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()
