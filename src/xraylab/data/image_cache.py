"""The network's input from rows of the memory-mapped cache, augmented and normalised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xraylab.data import augment, gpu_cache
from xraylab.data.augment import Augmentation, Gray, SampledAugmentation
from xraylab.shards import Images

# ImageNet's mean and standard deviation of a channel in [0, 1]; for gray, the mean over the three
MEAN = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
SCORING_BATCH = 64

Rows = NDArray[np.int64]
Numbers = NDArray[np.float32]
PLAIN = augment.levels(1.0, 1.0, 0.0)


@dataclass(frozen=True)
class Normalise:
    """Mean and standard deviation of each channel in [0, 1], which become 0 and 1; there are as many channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def recorded(cls, record: dict[str, Sequence[float]]) -> "Normalise":
        """As model.json has it."""
        return cls(tuple(record["mean"]), tuple(record["std"]))


IMAGENET = {channels: Normalise(MEAN[channels], STD[channels]) for channels in MEAN}


class ImageCache:
    """The cached images and the way from there to the network: in the memory map, or in a GPU's memory if they fit.

    Those that do not fit go to the GPU batch by batch, and what happens to them there is the same.
    """

    def __init__(self, images: Images, normalise: Normalise, pixels: int, device: str) -> None:
        self.images, self.normalise, self.pixels, self.device = images, normalise, pixels, torch.device(device)
        self.resident = gpu_cache.load(images, self.device) if gpu_cache.fits(images, self.device) else None

    def of(self, rows: Rows) -> Tensor:
        """The images of `rows`, resized and normalised: float32 (n, channels, pixels, pixels), channels last."""
        if self.resident is None:
            return network_input(self.images, rows, self.normalise, self.pixels, str(self.device))
        return _normalise(gpu_cache.plain(self._on_device(rows), self.pixels), self.normalise)

    def augment(self, rows: Rows, sampled: SampledAugmentation, augmentation: Augmentation) -> Tensor:
        """The images of `rows`, each augmented as sampled."""
        batch = self._augment(rows, sampled, augmentation.sharpness_factor)
        if sampled.noise is None and sampled.erased is None:
            return batch
        return gpu_cache.add_noise_and_erase(
            batch, sampled, augmentation.noise_std, self.normalise.mean, self.normalise.std
        )

    def gray(self, batch: Tensor) -> Tensor:
        """Convert a batch of `of` or `augment`, on any device, to gray levels from 0 to 1: (n, 1, pixels, pixels)."""
        return (batch[:, :1] * self.normalise.std[0] + self.normalise.mean[0]).clamp(0, 1)

    def _augment(self, rows: Rows, sampled: SampledAugmentation, sharpness_factor: float) -> Tensor:
        if self.device.type != "cpu":
            levels = gpu_cache.augment_batch(self._on_device(rows), sampled, sharpness_factor, self.pixels)
            return _normalise(levels, self.normalise)

        def change(number: int, image: Gray) -> tuple[Gray, Numbers]:
            return augment.transform(image, sampled, number, sharpness_factor, self.pixels)

        return _input(self.images, rows, self.normalise, self.pixels, change)

    def _on_device(self, rows: Rows) -> Tensor:
        if self.resident is None:
            return gpu_cache.send(self.images[rows], self.device)
        return self.resident[gpu_cache.send(rows, self.device)]


def network_input(images: Images, rows: Rows, normalise: Normalise, pixels: int, device: str) -> Tensor:
    """The network's input for the images of `rows`, as `ImageCache.of` makes it, on the device.

    What is for a GPU is made there, as in training.
    """
    if device == "cpu":
        return _input(images, rows, normalise, pixels, lambda _, image: (augment.resize(image, pixels), PLAIN))
    return _normalise(gpu_cache.plain(gpu_cache.send(images[rows], torch.device(device)), pixels), normalise)


def _normalise(levels: Tensor, normalise: Normalise) -> Tensor:
    return gpu_cache.normalise(levels, normalise.mean, normalise.std)


def _input(
    images: Images, rows: Rows, normalise: Normalise, pixels: int, change: Callable[[int, Gray], tuple[Gray, Numbers]]
) -> Tensor:
    """`change` yields an image's gray levels and what each becomes; one lookup does that and normalises."""
    channels = len(normalise.mean)
    batch = np.empty((len(rows), pixels, pixels, channels), np.float32)
    mean, std = np.array(normalise.mean, np.float32), np.array(normalise.std, np.float32)
    for number, row in enumerate(rows):
        image, table = change(number, images[row])
        if channels == 1:
            cv2.LUT(image, (table - mean[0]) / std[0], dst=batch[number, :, :, 0])
        else:
            planes = [cv2.LUT(image, (table - mean[channel]) / std[channel]) for channel in range(channels)]
            cv2.merge(planes, dst=batch[number])
    return torch.from_numpy(batch).permute(0, 3, 1, 2)
