"""Batches are the cached pixels, augmented as torchvision does it, and normalised at every channel count."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from xraylab.data import loaders
from xraylab.data.loaders import Augmentation, TrainingBatches

NONE = Augmentation(sharpness_factor=1.2, sharpness_p=0.0, contrast=0.0)


def images(count: int = 20, pixels: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, pixels, pixels), dtype=np.uint8)


def batches(augmentation: Augmentation = NONE, channels: int = 1, pixels: int = 16, seed: int = 0) -> TrainingBatches:
    rows = np.arange(20)[::-1].copy()
    return TrainingBatches(images(), rows, rows % 2, channels, pixels, augmentation, seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_the_rows_pixels_normalised(channels: int) -> None:
    x, y = batches(channels=channels)([0, 3])
    mean, std = np.array(loaders.MEAN[channels]), np.array(loaders.STD[channels])
    expected = (images()[[19, 16]][:, None] / 255 - mean[None, :, None, None]) / std[None, :, None, None]
    assert x.shape == (2, channels, 16, 16)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, expected, atol=1e-5)
    assert y.tolist() == [1, 0]


def test_what_the_network_sees_may_be_smaller_than_what_is_kept() -> None:
    x, _ = batches(pixels=8)([0])
    expected = F.resize(torch.from_numpy(images()[[19]])[:, None], [8, 8], antialias=True)
    np.testing.assert_allclose(x * 0.226 + 0.449, expected / 255, atol=1e-5)


def test_sharpness_hits_the_share_that_was_asked_for_as_torchvision_computes_it() -> None:
    augmentation = Augmentation(sharpness_factor=2.0, sharpness_p=0.3, contrast=0.0)
    gray = torch.from_numpy(images(1000))[:, None]
    changed = augmentation(gray.clone(), np.random.default_rng(1).random((1000, 2)))
    expected = F.adjust_sharpness(gray, 2.0)
    same, sharpened = ((changed == other).flatten(1).all(dim=1) for other in (gray, expected))
    assert (same ^ sharpened).all()
    assert abs(sharpened.float().mean() - 0.3) < 0.05


def test_contrast_is_drawn_between_its_bounds_as_torchvision_computes_it() -> None:
    augmentation = Augmentation(sharpness_factor=1.2, sharpness_p=0.0, contrast=0.2)
    gray = torch.from_numpy(images(3))[:, None]
    changed = augmentation(gray.clone(), np.array([[0, 0.0], [0, 0.5], [0, 0.9999999]]))
    for one, before, factor in zip(changed, gray, (0.8, 1.0, 1.2), strict=True):
        torch.testing.assert_close(one, F.adjust_contrast(before, factor), atol=1, rtol=0)


def test_draws_depend_on_seed_epoch_and_position_alone() -> None:
    strong = Augmentation(sharpness_factor=3.0, sharpness_p=0.5, contrast=0.5)
    one, other = batches(strong), batches(strong)
    one.start(4)
    whole = torch.cat([one([5])[0], one([2])[0]])
    other.start(3)
    other([2, 5])
    other.start(4)
    assert torch.equal(other([5, 2])[0], whole)
    assert not torch.equal(batches(strong, seed=1)([5, 2])[0], batches(strong)([5, 2])[0])
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


def test_scoring_batches_keep_the_order() -> None:
    rows = np.arange(20).repeat(5)
    scored = torch.cat(list(loaders.scoring_batches(images(), rows, 1, 16)))
    np.testing.assert_allclose(scored[:, 0] * 0.226 + 0.449, images()[rows] / 255, atol=1e-5)
