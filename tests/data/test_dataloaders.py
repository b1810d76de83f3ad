"""Batches are the cached pixels, augmented and normalised at every channel count."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from augmentations import STILL, strong
from fastai.data.transforms import CategoryMap
from fasttransform import Transform
from PIL import Image

from xraylab.data import augment, image_cache, sampling
from xraylab.data.augment import Augmentation
from xraylab.data.dataloaders import ScoringLoader, Subset, XrayDataLoaders, build_dataloaders
from xraylab.data.image_cache import ImageCache
from xraylab.data.sampling import EpochSampler
from xraylab.errors import DataError

CLASSES = ["Healthy", "TB"]
STRONG = strong(sharpness_factor=3.0, p_sharpness=0.5, contrast=0.5, noise_std=0.05, p_erase=0.5)


def images(count: int = 20, pixels: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, pixels, pixels), dtype=np.uint8)


def loaders(
    augmentation: Augmentation | None = None,
    channels: int = 1,
    pixels: int = 16,
    seed: int = 0,
    size: int = 6,
    strategy: str = "none",
    scored: tuple[int, ...] = (4, 2),
) -> XrayDataLoaders:
    """Twenty images, of which the last row of the cache trains first, and some are scored."""
    cache = ImageCache(images(), image_cache.IMAGENET[channels], pixels, "cpu")

    def subset(rows: np.ndarray, split: str, number: int) -> Subset:
        items = pd.DataFrame({"id": [f"{row}.png" for row in rows], "label": [CLASSES[row % 2] for row in rows]})
        return Subset(items.assign(split=split, source="one"), rows, cache, CategoryMap(CLASSES, sort=False), 1, number)

    train, valid = subset(np.arange(20)[::-1].copy(), "train", 0), subset(np.array(scored), "valid", 1)
    sampler = EpochSampler(strategy, train.labels, seed)
    files = {
        "row_of": {f"{row}.png": row for row in range(20)},
        "read_image": lambda path: np.asarray(Image.open(path)),
    }
    return build_dataloaders(train, valid, sampler, augmentation, size, seed, "cpu", **files)


def epoch_of(dls: XrayDataLoaders, epoch: int, places: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What stands at these places of an epoch."""
    dls.train.epoch = epoch
    dls.train.randomize()
    return dls.train.do_batch(places)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_the_rows_pixels_normalised(channels: int) -> None:
    x, y = epoch_of(loaders(STILL, channels), 0, [0, 3])
    mean, std = np.array(image_cache.MEAN[channels]), np.array(image_cache.STD[channels])
    expected = (images()[[19, 16]][:, None] / 255 - mean[None, :, None, None]) / std[None, :, None, None]
    assert x.shape == (2, channels, 16, 16)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, expected, atol=1e-5)
    assert y.tolist() == [1, 0]


def test_what_the_network_sees_may_be_smaller_than_what_is_kept() -> None:
    x, _ = epoch_of(loaders(STILL, pixels=8), 0, [0])
    expected = images()[19].reshape(8, 2, 8, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(x[0, 0] * 0.226 + 0.449, expected / 255, atol=0.51 / 255)


def test_a_batch_is_augmented_image_by_image() -> None:
    augmentation = strong(
        degrees=10, translate=0.1, scale=(0.9, 1.1), brightness=0.2, sharpness_factor=2.0, p_sharpness=0.5, contrast=0.3
    )
    dls = loaders(augmentation, pixels=8)
    x, _ = epoch_of(dls, 0, [3, 7])
    drawn = dls.train.augmenter.sampled
    for number, position in enumerate([3, 7]):
        image = images()[19 - position]
        if drawn.sharpen[position]:
            image = augment.sharpen(image, 2.0)
        image = augment.resize(image, 8)
        table = augment.levels(drawn.brightness[position], drawn.contrast[position], image.mean())
        expected = table[augment.warp(image, drawn.matrices[position])]
        np.testing.assert_allclose(x[number, 0] * 0.226 + 0.449, expected, atol=1e-5)


def test_draws_depend_on_seed_epoch_and_place_alone() -> None:
    one, other = loaders(STRONG), loaders(STRONG)
    whole = torch.cat([epoch_of(one, 4, [5])[0], epoch_of(one, 4, [2])[0]])
    epoch_of(other, 3, [2, 5])
    assert torch.equal(epoch_of(other, 4, [5, 2])[0], whole)
    assert not torch.equal(epoch_of(loaders(STRONG, seed=1), 4, [5, 2])[0], whole)
    assert not torch.equal(epoch_of(one, 5, [5, 2])[0], whole)


def test_an_epoch_holds_every_image_once_but_no_batch_of_one() -> None:
    dls = loaders(STILL)
    assert [len(y) for _, y in dls.train] == [6, 6, 6, 2]
    ((x, y),) = list(dls.valid)
    np.testing.assert_allclose(x * 0.226 + 0.449, images()[[4, 2]][:, None] / 255, atol=1e-5)
    assert y.tolist() == [0, 0]
    assert [len(y) for _, y in loaders(STILL, size=19).train] == [19]


@pytest.mark.parametrize("strategy", ["none", *sampling.SAMPLINGS])
def test_every_epoch_has_an_order_of_its_own(strategy: str) -> None:
    dls = loaders(STILL, strategy=strategy)
    first, second, third = (torch.cat([x for x, _ in dls.train]) for _ in range(3))
    assert not any(torch.equal(one, other) for one, other in combinations((first, second, third), 2))


@pytest.mark.parametrize("strategy", ["none", "stratified"])
def test_every_pass_is_the_next_epoch_and_looking_at_a_batch_is_none(strategy: str) -> None:
    """A run that goes on at epoch 1 sees what one that began at epoch 0 sees there."""
    dls, resumed = (loaders(STRONG, strategy=strategy) for _ in range(2))
    first = torch.cat([x for x, _ in dls.train])
    looked_at = [dls.one_batch()[0] for _ in range(2)]
    dls.valid.one_batch()
    second = torch.cat([x for x, _ in dls.train])
    resumed.train.epoch = 1
    assert torch.equal(torch.cat([x for x, _ in resumed.train]), second)
    assert not torch.equal(first, second)
    assert not torch.equal(looked_at[0], looked_at[1])
    assert dls.train.epoch == resumed.train.epoch == 2


def test_a_batch_looked_at_within_an_epoch_leaves_that_as_it_is() -> None:
    dls, undisturbed = loaders(STRONG), loaders(STRONG)
    seen = []
    for x, _ in dls.train:
        seen.append((x, dls.train.sampler.latest.tolist()))
        dls.show_batch(show=False)
    for (x, latest), (expected, _) in zip(seen, undisturbed.train, strict=True):
        assert torch.equal(x, expected)
        assert latest == undisturbed.train.sampler.latest.tolist()


def test_loaders_know_classes_and_images() -> None:
    dls = loaders(STILL)
    assert (list(dls.vocab), dls.c, dls.n_inp, dls.positive) == (CLASSES, 2, 1, 1)
    assert (len(dls.train_ds), len(dls.valid_ds)) == (20, 2)
    assert list(dls.valid_ds.items["id"]) == ["4.png", "2.png"]
    image, label = dls.train_ds[0]
    np.testing.assert_allclose(image[0], images()[19] / 255, atol=1e-5)
    assert label == CLASSES[1]


def test_without_shuffling_training_images_come_once_each_and_unaugmented() -> None:
    """Whatever the sampler shows in an epoch; and a copy shuffles as the loader itself."""
    dls = loaders(STRONG, strategy="weighted")
    plain = dls.train.new(shuffle=False, drop_last=False)
    pictures = torch.cat([x for x, _ in plain]) * 0.226 + 0.449
    np.testing.assert_allclose(pictures, images()[::-1][:, None] / 255, atol=1e-5)
    assert dls.train.epoch == 0
    for (x, y), (own_x, own_y) in zip(
        dls.train.new(bs=5), loaders(STRONG, size=5, strategy="weighted").train, strict=True
    ):
        assert torch.equal(x, own_x)
        assert torch.equal(y, own_y)
    assert [len(y) for _, y in dls.train.new(bs=19)] == [19]


def test_a_test_loader_takes_ids_rows_of_items_and_files(tmp_path: Path) -> None:
    dls = loaders(STILL)
    ((x,),) = list(dls.test_dl(["7.png", "3.png"]))
    np.testing.assert_allclose(x * 0.226 + 0.449, images()[[7, 3]][:, None] / 255, atol=1e-5)
    ((same, y),) = list(dls.test_dl(dls.train_ds.items.iloc[[12, 16]], with_labels=True))
    assert torch.equal(same, x)
    assert y.tolist() == [1, 1]
    Image.fromarray(images()[7]).save(tmp_path / "film.png")
    ((film,),) = list(dls.test_dl([tmp_path / "film.png"]))
    assert torch.equal(film[0], x[0])


def test_batches_are_decoded_to_gray_levels_and_classes() -> None:
    dls = loaders(STILL, channels=3)
    pictures, labels = dls.valid.decode(dls.valid.one_batch())
    np.testing.assert_allclose(pictures[:, 0], images()[[4, 2]] / 255, atol=1e-5)
    assert pictures.shape == (2, 1, 16, 16)
    ((_, one), (_, two)) = dls.valid.decode_batch(dls.valid.one_batch())
    assert (one, two, labels.tolist()) == (CLASSES[0], CLASSES[0], [0, 0])


def test_show_batch_draws_each_image_with_its_class(figures: Callable[[], list[Any]]) -> None:
    dls = loaders(STRONG)
    dls.show_batch(max_n=4)
    assert all(axes.get_title() in CLASSES for axes in figures())
    assert len(figures()) == 4
    shown = [axes.images[0] for axes in figures()]  # black is black, and white is white
    assert {(image.get_cmap().name, *image.get_clim()) for image in shown} == {("gray", 0.0, 1.0)}


def test_show_batch_of_one_image_shows_augmentations_of_it(figures: Callable[[], list[Any]]) -> None:
    loaders(strong(degrees=30)).show_batch(max_n=4, unique=True)
    shown = [axes.images[0].get_array() for axes in figures()]
    assert len({axes.get_title() for axes in figures()}) == 1
    assert all(not np.array_equal(one, other) for one, other in combinations(shown, 2))


def test_a_users_transforms_act_on_whole_batches_of_training_images_alone() -> None:
    """As `split_idx` 0 says, also of the transforms that both loaders have."""

    class Darken(Transform):
        split_idx = 0

        def encodes(self, x: torch.Tensor) -> torch.Tensor:
            return x - 1 if x.is_floating_point() else x

    plain, dls = loaders(STILL), loaders(STILL)
    dls.add_tfms([Darken()], "after_batch")
    for (x, _), (expected, _) in zip(dls.train, plain.train, strict=True):
        torch.testing.assert_close(x, expected - 1)
    for (x, _), (expected, _) in zip(dls.valid, plain.valid, strict=True):
        assert torch.equal(x, expected)
    with pytest.raises(DataError, match=r"^after_item: images come in whole batches"):
        dls.add_tfms([Darken()], "after_item")


def test_features_are_not_shown_as_images() -> None:
    dls = loaders(STILL)
    features = Subset(dls.valid_ds.items, dls.valid_ds.rows, Vectors(), dls.vocab, 1, 1)
    with pytest.raises(DataError, match=r"^model.freeze.cache: batches are features, not images: set it to false"):
        ScoringLoader(features).show_batch()


class Vectors:
    """Stands for cached features."""

    def of(self, rows: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(rows), 3)
