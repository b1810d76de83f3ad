"""The loss, and what may be added to it."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def class_weights(chosen: str | Sequence[float], labels: NDArray[np.int64], classes: int) -> Tensor | None:
    """One float32 weight per class, or None.

    `balanced` is n / (classes * n_class) over the training labels, as in scikit-learn's compute_class_weight.
    """
    if chosen == "none":
        return None
    if chosen == "balanced":
        counts = np.bincount(labels, minlength=classes)
        return torch.tensor(len(labels) / (classes * counts), dtype=torch.float32)
    return torch.tensor(chosen, dtype=torch.float32)


def cross_entropy(weights: Tensor | None) -> nn.CrossEntropyLoss:
    """Cross-entropy over logits (batch, classes) and labels int64 (batch,); weighted mean where there are weights."""
    return nn.CrossEntropyLoss(weight=weights)


def l2_penalty(parameters: Iterable[nn.Parameter], strength: float) -> Tensor:
    """strength / 2 times the sum of squares of all parameters, batch norm and biases included."""
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()
