"""Losses that look at where training images come from, so that a network learns less of what tells one source."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from numpy.typing import NDArray
from torch import Tensor, nn

from xraylab.model import distributed, networks

Groups = NDArray[np.int64]

# fastai carries no types, so to mypy each callback subclasses Any: hence the ignores below


def group_losses(loss: Callable[[Tensor, Tensor], Tensor], pred: Tensor, labels: Tensor, of: Tensor, n: int) -> Tensor:
    """The mean loss of each of `n` groups in a batch, (n,), 0 for one without images; `of` (batch,) numbers them."""
    zero = pred.sum() * 0
    return torch.stack([loss(pred[of == g], labels[of == g]) if (of == g).any() else zero for g in range(n)])


def update_weights(weights: Tensor, losses: Tensor, step: float) -> Tensor:
    """The groups' weights, those of great loss raised: times exp(step * loss), and summing to 1 again."""
    grown = weights * torch.exp(step * losses.detach().to(weights))
    return grown / grown.sum()


class GroupDRO(Callback):  # type: ignore[misc]
    """Differentiates the weighted sum of group losses, the weights of groups that are hard rising with each batch.

    Group distributionally robust optimisation, algorithm 1 of Sagawa et al., ICLR 2020 (arXiv:1911.08731), groups being
    pairs of source and class. The recorded loss stays the mean over images. The weights are part of a run's state.
    """

    order, run_valid = 4, False  # before the penalty joins the loss
    saved_as = "group_dro"

    def __init__(self, groups: Groups, step: float, device: str) -> None:
        _, numbers = np.unique(groups, return_inverse=True)  # pairs that have images, from 0 on
        self.groups, self.step_size, self.device = numbers, step, device
        self.number = int(numbers.max()) + 1
        self.weights = torch.full((self.number,), 1 / self.number, dtype=torch.float64, device=device)

    def after_loss(self) -> None:
        of = torch.from_numpy(self.groups[self.dls.train.sampler.latest]).to(self.pred.device)
        losses = group_losses(self.loss_func, self.pred, self.yb[0], of, self.number)
        self.weights = update_weights(self.weights, losses, self.step_size)
        self.learn.loss_grad = (self.weights.to(losses) * losses).sum()

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights.cpu()}

    def load(self, state: dict[str, Any]) -> None:
        self.weights = state["weights"].to(self.device)


def coral(features: Tensor, of: Tensor) -> Tensor:
    """CORAL loss of features (n, d): squared Frobenius distance of the sources' covariances / (4 d^2).

    CORAL, Sun and Saenko, ECCV 2016 workshops (arXiv:1607.01719); of more than two sources the mean over their pairs.
    A source with fewer than two images in the batch has no covariance and is left out. `of` (n,) numbers the sources.
    """
    numbers = [number for number, count in enumerate(torch.bincount(of).tolist()) if count > 1]
    each = [_covariance(features[of == number]) for number in numbers]
    pairs = [(one - other).square().sum() for one, other in combinations(each, 2)]
    return torch.stack(pairs).mean() / (4 * features.shape[1] ** 2) if pairs else features.sum() * 0


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


class Coral(Callback):  # type: ignore[misc]
    """Adds `weight` times the CORAL loss of what enters the head; the recorded loss stays without it."""

    order, run_valid = 5, False

    def __init__(self, sources: Groups, weight: float) -> None:
        self.sources, self.weight = sources, weight

    def before_fit(self) -> None:
        head = self.model.get_submodule(networks.head_of(self.model))
        self.hook = head.register_forward_pre_hook(self._keep)

    def after_fit(self) -> None:
        self.hook.remove()

    def after_loss(self) -> None:
        of = torch.from_numpy(self.sources[self.dls.train.sampler.latest]).to(self.pred.device)
        features = distributed.gather(self.features.flatten(1).float(), len(of))
        self.learn.loss_grad = self.loss_grad + self.weight * coral(features, of)

    def _keep(self, head: nn.Module, entering: tuple[Tensor, ...]) -> None:
        self.features = entering[0]
