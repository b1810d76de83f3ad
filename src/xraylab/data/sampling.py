"""Samplers: the training images of an epoch and their order, a function of seed and epoch alone."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from xraylab import plugins

Positions = NDArray[np.int64]
KnownLabels = NDArray[np.float32]
Labels = NDArray[np.int64]
STREAM = 1  # keeps these draws apart from those of the augmentation


def weighted(labels: Labels, rng: np.random.Generator) -> Positions:
    """Sample with replacement as many as there are, all classes equally often."""
    shares = 1 / np.bincount(labels)[labels]
    return rng.choice(len(labels), len(labels), p=shares / shares.sum())


def stratified(labels: Labels, rng: np.random.Generator) -> Positions:
    """Shuffle so that any stretch of an epoch holds the classes in proportion, to within one image each."""
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ranks[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(ranks, kind="stable")


def downsample(labels: Labels, rng: np.random.Generator) -> Positions:
    """Sample as many images of each class as the smallest class has, anew in every epoch."""
    least = np.bincount(labels)[np.unique(labels)].min()
    samples = [rng.choice(np.flatnonzero(labels == label), least, replace=False) for label in np.unique(labels)]
    return rng.permutation(np.concatenate(samples))


def rarest_finding(labels: KnownLabels) -> Labels:
    """The class that samplers see of images with several findings: the rarest that each has, or none of them.

    `labels` (images, findings) are 1, 0 or NaN; an image without any has the number of findings as its class. So
    `weighted` shows images with the rarest finding as often as any others, in spite of what else they have.
    """
    positive = labels == 1
    by_rarity = np.argsort(positive.sum(axis=0), kind="stable")
    first = positive[:, by_rarity].argmax(axis=1)
    return np.asarray(np.where(positive.any(axis=1), by_rarity[first], labels.shape[1]), np.int64)


SAMPLINGS: dict[str, Callable[[Labels, np.random.Generator], Positions]] = {
    "weighted": weighted,
    "stratified": stratified,
    "downsample": downsample,
    "source_balanced": weighted,
}
BY_GROUP = ("source_balanced",)
"""Strategies that are about pairs of source and class, each pair as often as any other, in place of classes."""


class EpochSampler:
    """The places of an epoch, and the training image that stands at each.

    With `none` these are the images as they are numbered, which the loader shuffles; else `ordered`, already in the
    order of the epoch.
    """

    def __init__(self, strategy: str, labels: Labels, seed: int) -> None:
        self.strategy, self.labels, self.seed = strategy, labels, seed  # labels: of pairs where it is in BY_GROUP
        self.latest = np.arange(0)
        self.start(epoch=0)

    @property
    def ordered(self) -> bool:
        return self.strategy != "none"

    def start(self, epoch: int) -> None:
        """Draw the epoch."""
        if self.ordered:
            rng = np.random.default_rng([self.seed, epoch, STREAM])
            self.positions = plugins.find("sampler", self.strategy, SAMPLINGS)(self.labels, rng)

    def __len__(self) -> int:
        """The number of images in an epoch."""
        return len(self.positions) if self.ordered else len(self.labels)

    def of(self, idxs: Sequence[int]) -> Positions:
        """The training images at these places; they are remembered as `latest`."""
        positions = np.asarray(idxs, np.int64)
        self.latest = self.positions[positions] if self.ordered else positions
        return self.latest
