"""Batches from the memory-mapped cache, augmented and normalised."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from xraylab import tables

# ImageNet's mean and standard deviation of a channel in [0, 1]; for gray, the mean over the three
MEAN = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
SCORING_BATCH = 64

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image, each as torchvision v2 names and computes it."""

    sharpness_factor: float
    sharpness_p: float
    contrast: float

    def __call__(self, batch: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """uint8 (n, 1, h, w) to the same; `draws`, uniform in [0, 1), (n, 2), decides for each image."""
        sharpened = torch.from_numpy(draws[:, 0] < self.sharpness_p)
        if sharpened.any():
            batch[sharpened] = F.adjust_sharpness(batch[sharpened], self.sharpness_factor)
        if self.contrast > 0:
            factors = 1 + self.contrast * (2 * draws[:, 1] - 1)
            batch = torch.stack([F.adjust_contrast(one, factor) for one, factor in zip(batch, factors, strict=True)])
        return batch


def load(folder: Path) -> tuple[Images, dict[str, int]]:
    """What the stage `cache` wrote: the array, memory-mapped and read-only, and each id's row in it."""
    ids = tables.read(folder / "rows.csv")["id"]
    return np.load(folder / "images.npy", mmap_mode="r"), {name: row for row, name in enumerate(ids)}


class TrainingBatches:
    """Makes a batch from positions in `rows`, augmented by draws that depend on seed, epoch and position alone."""

    def __init__(
        self,
        images: Images,
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        channels: int,
        pixels: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.images, self.rows, self.labels = images, rows, labels
        self.channels, self.pixels, self.augmentation, self.seed = channels, pixels, augmentation, seed
        self.start(epoch=0)

    def start(self, epoch: int) -> None:
        """Draw for every image what will happen to it in this epoch."""
        self.draws = np.random.default_rng([self.seed, epoch]).random((len(self.rows), 2))

    def __call__(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = np.asarray(positions)
        batch = self.augmentation(gray(self.images, self.rows[chosen]), self.draws[chosen])
        return network_input(batch, self.channels, self.pixels), torch.from_numpy(self.labels[chosen])


def gray(images: Images, rows: NDArray[np.int64]) -> Tensor:
    """uint8 (n, 1, h, w), read from the map in one go."""
    return torch.from_numpy(images[rows]).unsqueeze(1)


def network_input(batch: Tensor, channels: int, pixels: int) -> Tensor:
    """uint8 (n, 1, h, w) to normalised float32 (n, channels, pixels, pixels), channels last."""
    if batch.shape[-1] != pixels:
        batch = F.resize(batch, [pixels, pixels], antialias=True)
    mean, std = (torch.tensor(values[channels]).view(1, -1, 1, 1) for values in (MEAN, STD))
    normalised = (batch.to(torch.float32) / 255 - mean) / std
    return normalised.contiguous(memory_format=torch.channels_last)


def scoring_batches(images: Images, rows: NDArray[np.int64], channels: int, pixels: int) -> Iterator[Tensor]:
    """The network's input for `rows`, in order."""
    for start in range(0, len(rows), SCORING_BATCH):
        yield network_input(gray(images, rows[start : start + SCORING_BATCH]), channels, pixels)


def dataloaders(
    training: TrainingBatches,
    scored_rows: NDArray[np.int64],
    scored_labels: NDArray[np.int64],
    batch_size: int,
    device: str,
) -> DataLoaders:
    """fastai's DataLoaders: shuffled training batches, and everything that is scored after each epoch.

    A last training batch of a single image is left out, since batch norm cannot be computed from one.
    """
    count = len(training.rows)

    def scored(positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = np.asarray(positions)
        batch = network_input(gray(training.images, scored_rows[chosen]), training.channels, training.pixels)
        return batch, torch.from_numpy(scored_labels[chosen])

    def loader(length: int, size: int, make: Callable[..., tuple[Tensor, Tensor]], **options: bool) -> DataLoader:
        return DataLoader(
            range(length), bs=size, create_batch=make, retain=lambda batch, _: batch, device=device, **options
        )

    train = loader(count, batch_size, training, shuffle=True, drop_last=count % batch_size == 1)
    return DataLoaders(train, loader(len(scored_rows), SCORING_BATCH, scored), device=device)
