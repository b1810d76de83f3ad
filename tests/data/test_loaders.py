"""Batches are the cached pixels, augmented and normalised at every channel count."""

import numpy as np
import pytest
import torch
from augmentations import STILL, strong

from xraylab.data import augment, loaders
from xraylab.data import image_cache as module
from xraylab.data.augment import Augmentation
from xraylab.data.image_cache import ImageCache, TrainingBatches
from xraylab.data.sampling import EpochSampler

STRONG = strong(sharpness_factor=3.0, sharpness_p=0.5, contrast=0.5, noise=0.05, erase_p=0.5)


def images(count: int = 20, pixels: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, pixels, pixels), dtype=np.uint8)


def batches(augmentation: Augmentation = STILL, channels: int = 1, pixels: int = 16, seed: int = 0) -> TrainingBatches:
    rows = np.arange(20)[::-1].copy()
    order = EpochSampler("none", rows % 2, seed)
    return TrainingBatches(
        ImageCache(images(), module.IMAGENET[channels], pixels, "cpu"), rows, rows % 2, order, augmentation, seed
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_the_rows_pixels_normalised(channels: int) -> None:
    x, y = batches(channels=channels)([0, 3])
    mean, std = np.array(module.MEAN[channels]), np.array(module.STD[channels])
    expected = (images()[[19, 16]][:, None] / 255 - mean[None, :, None, None]) / std[None, :, None, None]
    assert x.shape == (2, channels, 16, 16)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, expected, atol=1e-5)
    assert y.tolist() == [1, 0]


def test_what_the_network_sees_may_be_smaller_than_what_is_kept() -> None:
    x, _ = batches(pixels=8)([0])
    expected = images()[19].reshape(8, 2, 8, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(x[0, 0] * 0.226 + 0.449, expected / 255, atol=0.51 / 255)


def test_a_batch_is_augmented_image_by_image() -> None:
    augmentation = strong(
        rotation=10, shift=0.1, zoom=0.1, brightness=0.2, sharpness_factor=2.0, sharpness_p=0.5, contrast=0.3
    )
    made = batches(augmentation, pixels=8)
    x, _ = made([3, 7])
    drawn = made.drawn
    for number, position in enumerate([3, 7]):
        image = images()[19 - position]
        if drawn.sharpen[position]:
            image = augment.sharpened(image, 2.0)
        image = augment.resized(image, 8)
        table = augment.levels(drawn.brightness[position], drawn.contrast[position], image.mean())
        expected = table[augment.moved(image, drawn.matrices[position])]
        np.testing.assert_allclose(x[number, 0] * 0.226 + 0.449, expected, atol=1e-5)


def test_draws_depend_on_seed_epoch_and_position_alone() -> None:
    one, other = batches(STRONG), batches(STRONG)
    one.start(4)
    whole = torch.cat([one([5])[0], one([2])[0]])
    other.start(3)
    other([2, 5])
    other.start(4)
    assert torch.equal(other([5, 2])[0], whole)
    assert not torch.equal(batches(STRONG, seed=1)([5, 2])[0], batches(STRONG)([5, 2])[0])
    one.start(5)
    assert not torch.equal(one([5, 2])[0], whole)


def test_an_epoch_holds_every_image_once_but_no_batch_of_one() -> None:
    dls = loaders.dataloaders(batches(), np.array([4, 2]), np.array([1, 0]), batch_size=6, device="cpu")
    assert [len(y) for _, y in dls.train] == [6, 6, 6, 2]
    ((x, y),) = list(dls.valid)
    np.testing.assert_allclose(x * 0.226 + 0.449, images()[[4, 2]][:, None] / 255, atol=1e-5)
    assert y.tolist() == [1, 0]
    alone = loaders.dataloaders(batches(), np.array([4]), np.array([1]), batch_size=19, device="cpu")
    assert [len(y) for _, y in alone.train] == [19]
