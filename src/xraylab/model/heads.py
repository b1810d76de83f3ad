"""Heads: the layers between a network's features and its logits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Head:
    """`model.head`: its kind, and the hidden layer's width and batch norm where it has them."""

    kind: str
    width: int | None
    batch_norm: bool | None


LINEAR = Head("linear", None, None)


class ConcatPool(nn.Module):
    """(n, c, h, w) to (n, 2c, 1, 1): each channel's maximum, then its mean, as fastai's AdaptiveConcatPool2d.

    That one's maximum has no gradient with fixed bits on a GPU.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """The maxima and the means."""
        return torch.cat([maps.amax(dim=(2, 3), keepdim=True), maps.mean(dim=(2, 3), keepdim=True)], dim=1)


def linear(features: int, classes: int, dropout: float, width: int, batch_norm: bool) -> nn.Sequential:
    """Dropout and one layer."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes))


def dense(features: int, classes: int, dropout: float, width: int, batch_norm: bool) -> nn.Sequential:
    """A hidden layer, ReLU, batch norm if wanted, dropout, and the last layer."""
    hidden: list[nn.Module] = [nn.Linear(features, width), nn.ReLU()]
    if batch_norm:
        hidden.append(nn.BatchNorm1d(width))
    return nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(width, classes))


def concat(features: int, classes: int, dropout: float, width: int, batch_norm: bool) -> nn.Sequential:
    """fastai's `create_head` after its pool: batch norm, half the dropout, a hidden layer, and the same again.

    That one itself leaves out a dropout of 0, so that weights would not fit whatever the dropout is; and importing it
    takes longer than scoring a small study's images.
    """
    hidden = nn.Linear(2 * features, width, bias=False)
    last = nn.Linear(width, classes, bias=False)
    norms = nn.BatchNorm1d(2 * features), nn.BatchNorm1d(width)
    for layer in (hidden, last):
        nn.init.kaiming_normal_(layer.weight)
    for norm in norms:
        nn.init.constant_(norm.bias, 1e-3)
    dropouts = nn.Dropout(dropout / 2), nn.Dropout(dropout)
    return nn.Sequential(norms[0], dropouts[0], hidden, nn.ReLU(), norms[1], dropouts[1], last)


HEADS: dict[str, Callable[[int, int, float, int, bool], nn.Sequential]] = {
    "linear": linear,
    "concat": concat,
    "dense": dense,
}


def pool(head: Head) -> nn.Module:
    """From maps (n, c, h, w) to (n, c, 1, 1), or with `concat` (n, 2c, 1, 1)."""
    return ConcatPool() if head.kind == "concat" else nn.AdaptiveAvgPool2d(1)


def build(features: int, classes: int, dropout: float, head: Head) -> nn.Sequential:
    """From pooled vectors to logits (n, classes); `features` counts the body's, of which `concat` pools two each."""
    return HEADS[head.kind](features, classes, dropout, head.width or 0, bool(head.batch_norm))
