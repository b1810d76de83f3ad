"""On a GPU the same happens to an image as on a CPU; tried here on the CPU, where torch computes the same."""

import numpy as np
import pytest
import torch
from augmentations import strong

from xraylab.data import augment, batches, resident
from xraylab.data.batches import Store, TrainingBatches
from xraylab.data.sampling import Order


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
    here = batches.network_input(images, np.arange(6), batches.IMAGENET[channels], pixels)
    levels = resident.plain(resident.moved_in(images, torch.device("cpu")), pixels)
    there = resident.normalised(levels, batches.MEAN[channels], batches.STD[channels])
    assert there.shape == here.shape
    torch.testing.assert_close(there, here, atol=3 / 255 / 0.22, rtol=0)


STRENGTHS = {
    "levels and affine": {
        "rotation": 10, "shift": 0.05, "zoom": 0.1, "brightness": 0.2,
        "sharpness_factor": 1.5, "sharpness_p": 0.5, "contrast": 0.3,
    },
    "flips, shear and crop": {"hflip_p": 0.5, "vflip_p": 0.5, "shear": 10, "crop_scale": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("pixels", [48, 24])
@pytest.mark.parametrize("strengths", STRENGTHS.values(), ids=list(STRENGTHS))
def test_augmented_images_are_the_same(strengths: dict[str, float], pixels: int) -> None:
    images = smooth_images()
    augmentation = strong(**strengths)
    store = Store(images, batches.IMAGENET[1], pixels, "cpu")
    labels = np.zeros(6, np.int64)
    made = TrainingBatches(store, np.arange(6), labels, Order("none", labels, 3), augmentation, seed=3)
    here, _ = made(range(6))
    tensor = torch.from_numpy(images)
    levels = resident.changed(tensor, made.drawn, augmentation.sharpness_factor, pixels)
    there = resident.normalised(levels, batches.MEAN[1], batches.STD[1])
    edge = pixels // 6  # where the black from outside is mixed in, the two interpolate in other ways
    inside = np.s_[:, :, edge:-edge, edge:-edge]
    torch.testing.assert_close(there[inside], here[inside], atol=5 / 255 / 0.22, rtol=0)
    torch.testing.assert_close(tensor, torch.from_numpy(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_and_erasing_are_the_same_on_both_and_what_people_are_shown(channels: int) -> None:
    images, augmentation = smooth_images(), strong(noise=0.1, erase_p=0.5, contrast=0.2)
    drawn = augmentation.draw(np.random.default_rng(3).random((6, augment.DRAWS)))
    mean, std = batches.MEAN[channels], batches.STD[channels]
    here = Store(images, batches.IMAGENET[channels], 48, "cpu").changed(np.arange(6), drawn, augmentation)
    there = resident.normalised(resident.changed(torch.from_numpy(images), drawn, 1.0, 48), mean, std)
    there = resident.roughened(there, drawn, augmentation.noise, mean, std)
    torch.testing.assert_close(there, here, atol=2e-2, rtol=0)  # the mean level of an image is rounded otherwise
    gray = here[:, 0] * std[0] + mean[0]
    for number in range(6):
        shown = augment.shown(images[number], drawn, number, augmentation, 48, mean[0])
        np.testing.assert_allclose(shown / 255, gray[number], atol=0.51 / 255)


def test_a_shift_moves_both_the_same_way() -> None:
    images = smooth_images(1)
    matrices = np.array([[[1.0, 0.0, 0.25], [0.0, 1.0, -0.125]]])
    there = resident._moved(torch.from_numpy(images)[:, None].float(), matrices)[0, 0].numpy()
    np.testing.assert_allclose(there, augment.moved(images[0], matrices[0]), atol=1)
