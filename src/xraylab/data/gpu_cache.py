"""The image cache on a GPU: images are resized, augmented and normalised there, and may lie in its memory.

Nothing here makes the CPU wait for the GPU.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from xraylab.data import augment
from xraylab.data.augment import SampledAugmentation
from xraylab.shards import Images

SHARE = 0.5  # of the GPU's free memory that the images may take; the network needs the rest
COPY_CHUNK = 4096  # images copied at a time, so that the memory map is never in memory as a whole


def fits(images: Images, device: torch.device) -> bool:
    """Return whether the cache fits in the GPU's memory. Apple's GPU shares the CPU's, where the cache is already."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= SHARE * free


def load(images: Images, device: torch.device) -> Tensor:
    """The cache (images, size, size) as uint8 on the device."""
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), COPY_CHUNK):
        resident[start : start + COPY_CHUNK] = torch.from_numpy(np.array(images[start : start + COPY_CHUNK])).to(device)
    return resident


def send(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device, without waiting for what the device is at."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def plain(images: Tensor, pixels: int) -> Tensor:
    """uint8 (n, size, size) to levels from 0 to 1: float32 (n, 1, pixels, pixels)."""
    with _float32(images):
        return _resize(images.unsqueeze(1).float(), pixels) / 255


def augment_batch(images: Tensor, sampled: SampledAugmentation, sharpness_factor: float, pixels: int) -> Tensor:
    """Augment a batch as `augment.transform` does image by image on a CPU, to within rounding."""
    with _float32(images):
        levels = _look_up(images, sampled.luts).unsqueeze(1).float()
        if sampled.sharpen.any():
            mask = send(sampled.sharpen, levels.device).view(-1, 1, 1, 1)
            levels = torch.where(mask, _sharpen(levels, sharpness_factor), levels)
        levels = _resize(levels, pixels)
        if sampled.blur is not None:
            levels = _blur(levels, sampled.blur)
        brightness, contrast = (
            send(factors.astype(np.float32), levels.device).view(-1, 1, 1, 1)
            for factors in (sampled.brightness, sampled.contrast)
        )
        mean = (levels.mean(dim=(2, 3), keepdim=True) * brightness).clamp(max=255)
        if sampled.matrices is not None:
            levels = _warp(levels, sampled.matrices)
        bright = (levels * brightness).clamp(0, 255)
        return (bright * contrast + mean * (1 - contrast)).clamp(0, 255) / 255


def normalise(levels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(n, 1, h, w) from 0 to 1 to the network's input, (n, channels, h, w), channels last."""
    means, stds = (_by_channel(values, levels.device).view(-1) for values in (mean, std))
    last = (levels[:, 0, :, :, None] - means) / stds  # strides as a CPU's batches have them, also of one channel
    return last.permute(0, 3, 1, 2)


def add_noise_and_erase(
    batch: Tensor, sampled: SampledAugmentation, noise: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """The network's input (n, channels, h, w), on whatever device, with noise, cut off at black and white, and erased.

    The noise is drawn on the CPU, so that it is the same everywhere. The batch is changed in place.
    """
    means, stds = (_by_channel(values, batch.device) for values in (mean, std))
    if sampled.noise is not None:
        grain = np.stack([augment.grain(int(seed), batch.shape[-1]) for seed in sampled.noise])
        batch += send(grain, batch.device).unsqueeze(1) * noise / stds
        batch.clamp_(-means / stds, (1 - means) / stds)
    for image, erased in zip(batch, sampled.erased if sampled.erased is not None else (), strict=False):
        rows, columns = augment.span(erased, batch.shape[-1])
        image[:, rows, columns] = 0
    return batch


def _float32(images: Tensor) -> AbstractContextManager[Any]:
    """No mixed precision, which would resize and warp in bfloat16 where a network under it asks for its batches."""
    kind = images.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


@cache
def _by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, -1, 1, 1)


@cache
def _weights(source: int, target: int, device: torch.device) -> Tensor:
    return torch.tensor(augment.area_weights(source, target), device=device)


def _look_up(images: Tensor, luts: NDArray[np.uint8] | None) -> Tensor:
    if luts is None:
        return images
    table = send(luts, images.device)
    return table.gather(1, images.flatten(1).long()).view(images.shape)


def _blur(levels: Tensor, sigmas: NDArray[np.float64]) -> Tensor:
    """Summed by hand as `_sharpen`, rows first: each image has a Gaussian of its own."""
    size = levels.shape[-1]
    radius = min(augment.blur_radius(float(sigmas.max())), size - 1)
    if radius == 0:
        return levels
    kernels = send(np.stack([augment.blur_kernel(float(sigma), radius) for sigma in sigmas]), levels.device)
    for vertical in (False, True):
        wide = F.pad(levels, (0, 0, radius, radius) if vertical else (radius, radius, 0, 0), mode="reflect")
        total = torch.zeros_like(levels)
        for step, weights in enumerate(kernels.T):
            part = wide.narrow(2 if vertical else 3, step, size)
            total += weights.view(-1, 1, 1, 1) * part
        levels = total
    return levels.round()


def _sharpen(levels: Tensor, factor: float) -> Tensor:
    """Summed by hand: a GPU convolves in TF32, which is 0.1 gray levels off."""
    height, width = (length - 2 for length in levels.shape[-2:])
    inner = torch.zeros_like(levels[:, :, 1:-1, 1:-1])
    for (y, x), weight in np.ndenumerate(augment.sharpening_kernel(factor)):
        inner += float(weight) * levels[:, :, y : y + height, x : x + width]
    levels = levels.clone()
    levels[:, :, 1:-1, 1:-1] = inner.round().clamp(0, 255)
    return levels


def _resize(levels: Tensor, pixels: int) -> Tensor:
    """Resize by `augment.area_weights`, rounded as OpenCV does: to even, but upwards where the size is halved."""
    size = levels.shape[-1]
    if size == pixels:
        return levels
    weights = _weights(size, pixels, levels.device)
    smaller = weights @ levels @ weights.T
    return (smaller + 0.5).floor() if size == 2 * pixels else smaller.round()


def _warp(levels: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """grid_sample counts from -1 to 1 over the width, so a share of the width is two of its units."""
    theta = send((matrices * (1, 1, 2)).astype(np.float32), levels.device)
    grid = F.affine_grid(theta, list(levels.shape), align_corners=False)
    return F.grid_sample(levels, grid, mode="bilinear", padding_mode="zeros", align_corners=False).round()
