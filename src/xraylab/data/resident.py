"""The way of `batches` for a GPU: images that lie in its memory, resized, changed and normalised there."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from xraylab.data import augment
from xraylab.data.augment import SMOOTH, Drawn

SHARE = 0.5  # of the GPU's free memory that the images may take; the network needs the rest
TAKEN = 4096  # images copied at a time, so that the memory map is never in memory as a whole


def fits(images: NDArray[np.uint8], device: torch.device) -> bool:
    """Whether the whole cache may lie in the GPU's memory."""
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= SHARE * free


def moved_in(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """The cache (images, size, size) as uint8 on the device."""
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), TAKEN):
        resident[start : start + TAKEN] = torch.from_numpy(images[start : start + TAKEN]).to(device)
    return resident


def plain(images: Tensor, pixels: int) -> Tensor:
    """uint8 (n, h, w) to levels from 0 to 1: float32 (n, 1, pixels, pixels)."""
    return _resized(images.unsqueeze(1).float(), pixels) / 255


def changed(images: Tensor, drawn: Drawn, sharpness_factor: float, pixels: int) -> Tensor:
    """The same with what was drawn for each image: what `augment` does one by one on a CPU, to within rounding."""
    levels = images.unsqueeze(1).float()
    if drawn.sharpen.any():
        chosen = torch.from_numpy(drawn.sharpen).to(levels.device)
        levels[chosen] = _sharpened(levels[chosen], sharpness_factor)
    levels = _resized(levels, pixels)
    brightness, contrast = (
        torch.from_numpy(factors).to(levels.device, torch.float32).view(-1, 1, 1, 1)
        for factors in (drawn.brightness, drawn.contrast)
    )
    mean = (levels.mean(dim=(2, 3), keepdim=True) * brightness).clamp(max=255)
    if drawn.matrices is not None:
        levels = _moved(levels, drawn.matrices)
    bright = (levels * brightness).clamp(0, 255)
    return (bright * contrast + mean * (1 - contrast)).clamp(0, 255) / 255


def normalised(levels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(n, 1, h, w) from 0 to 1 to the network's input, (n, channels, h, w), channels last."""
    means, stds = (torch.tensor(values, device=levels.device).view(1, -1, 1, 1) for values in (mean, std))
    return ((levels - means) / stds).contiguous(memory_format=torch.channels_last)


def roughened(batch: Tensor, drawn: Drawn, noise: float, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The network's input (n, channels, h, w), on whatever device, with noise, cut off at black and white, and erased.

    The noise is drawn on the CPU, so that it is the same everywhere. The batch is changed in place.
    """
    means, stds = (torch.tensor(values, device=batch.device).view(1, -1, 1, 1) for values in (mean, std))
    if drawn.noise is not None:
        grain = np.stack([augment.grain(int(seed), batch.shape[-1]) for seed in drawn.noise])
        batch += torch.from_numpy(grain).to(batch.device).unsqueeze(1) * noise / stds
        batch.clamp_(-means / stds, (1 - means) / stds)
    for image, erased in zip(batch, drawn.erased if drawn.erased is not None else (), strict=False):
        rows, columns = augment.span(erased, batch.shape[-1])
        image[:, rows, columns] = 0
    return batch


def _sharpened(levels: Tensor, factor: float) -> Tensor:
    kernel = torch.from_numpy(SMOOTH).to(levels.device).view(1, 1, 3, 3)
    inner = levels[:, :, 1:-1, 1:-1]
    smooth = F.conv2d(levels, kernel)
    levels = levels.clone()
    levels[:, :, 1:-1, 1:-1] = (smooth + (inner - smooth) * factor).clamp(0, 255).round()
    return levels


def _resized(levels: Tensor, pixels: int) -> Tensor:
    if levels.shape[-1] == pixels:
        return levels
    return F.interpolate(levels, (pixels, pixels), mode="bilinear", antialias=True).round()


def _moved(levels: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """grid_sample counts from -1 to 1 over the width, so a share of the width is two of its units."""
    theta = torch.from_numpy(matrices * (1, 1, 2)).to(levels.device, torch.float32)
    grid = F.affine_grid(theta, list(levels.shape), align_corners=False)
    return F.grid_sample(levels, grid, mode="bilinear", padding_mode="zeros", align_corners=False).round()
