"""On a GPU the same happens to an image as on a CPU; tried here on the CPU, where torch computes the same."""

import numpy as np
import pytest
import torch

from xraylab.data import augment, batches, resident
from xraylab.data.augment import Augmentation
from xraylab.data.batches import Store, TrainingBatches


def smooth_images(count: int = 6, pixels: int = 48) -> np.ndarray:
    """Pictures without jumps, so that interpolation is all that may differ."""
    y, x = np.mgrid[:pixels, :pixels] / pixels
    phases = np.random.default_rng(0).random((count, 2, 1, 1)) * 6
    waves = 127 + 60 * np.sin(5 * x + 2 * y + phases[:, 0]) + 60 * np.cos(4 * y - x + phases[:, 1])
    return np.clip(waves, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("pixels", [48, 24])
@pytest.mark.parametrize("channels", [1, 3])
def test_unchanged_images_are_the_same(pixels: int, channels: int) -> None:
    images = smooth_images()
    here = batches.network_input(images, np.arange(6), channels, pixels)
    levels = resident.plain(resident.moved_in(images, torch.device("cpu")), pixels)
    there = resident.normalised(levels, batches.MEAN[channels], batches.STD[channels])
    assert there.shape == here.shape
    torch.testing.assert_close(there, here, atol=3 / 255 / 0.22, rtol=0)


@pytest.mark.parametrize("pixels", [48, 24])
def test_augmented_images_are_the_same(pixels: int) -> None:
    images = smooth_images()
    augmentation = Augmentation(10.0, 0.05, 0.1, 0.2, sharpness_factor=1.5, sharpness_p=0.5, contrast=0.3)
    store = Store(images, 1, pixels, "cpu")
    made = TrainingBatches(store, np.arange(6), np.zeros(6, np.int64), augmentation, seed=3)
    here, _ = made(range(6))
    tensor = torch.from_numpy(images)
    levels = resident.changed(tensor, made.drawn, augmentation.sharpness_factor, pixels)
    there = resident.normalised(levels, batches.MEAN[1], batches.STD[1])
    edge = pixels // 6  # where the black from outside is mixed in, the two interpolate in other ways
    inside = np.s_[:, :, edge:-edge, edge:-edge]
    torch.testing.assert_close(there[inside], here[inside], atol=5 / 255 / 0.22, rtol=0)
    torch.testing.assert_close(tensor, torch.from_numpy(images))


def test_a_shift_moves_both_the_same_way() -> None:
    images = smooth_images(1)
    matrices = np.array([[[1.0, 0.0, 0.25], [0.0, 1.0, -0.125]]])
    there = resident._moved(torch.from_numpy(images)[:, None].float(), matrices)[0, 0].numpy()
    np.testing.assert_allclose(there, augment.moved(images[0], matrices[0]), atol=1)
