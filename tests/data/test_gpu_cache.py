"""On a GPU the same happens to an image as on a CPU; tried here on the CPU, where torch computes the same."""

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
import torch
from augmentations import strong
from torch import Tensor

from xraylab.data import augment, gpu_cache, image_cache
from xraylab.data.augment import Augmentation, SampledAugmentation
from xraylab.data.image_cache import ImageCache
from xraylab.model import networks
from xraylab.predict import inference

COUNT = 6
SIZES = [(48, 48), (48, 36), (48, 24), (50, 37), (36, 48)]
"""Kept and seen: alike, smaller by 4/3, by half and by no simple ratio, and larger."""
STRENGTHS: dict[str, dict[str, Any]] = {
    "sharpness": {"sharpness_factor": 1.7, "p_sharpness": 0.6},
    "degrees": {"degrees": 20},
    "translate": {"translate": 0.1},
    "scale": {"scale": [0.8, 1.2]},
    "shear": {"shear": 15},
    "flips": {"p_hflip": 0.5, "p_vflip": 0.5},
    "crop": {"crop_scale": 0.4},
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.4},
    "noise_std": {"noise_std": 0.1},
    "erasing": {"p_erase": 0.5},
    "gamma": {"gamma": 1.0},
    "blur": {"p_blur": 0.6, "blur_sigma": 2.0},
    "matching": {"p_histogram_matching": 0.6},
}
PAIRS = list(combinations_with_replacement(STRENGTHS, 2))


def noise_images(pixels: int, count: int = COUNT) -> np.ndarray:
    """Every pixel is drawn alone: nothing is as hard on a way to resize or to interpolate."""
    return np.random.default_rng(0).integers(0, 256, (count, pixels, pixels), np.uint8)


def there(
    images: np.ndarray,
    pixels: int,
    channels: int = 1,
    drawn: SampledAugmentation | None = None,
    strengths: Augmentation | None = None,
) -> Tensor:
    """The network's input as a GPU's way makes it."""
    mean, std = image_cache.MEAN[channels], image_cache.STD[channels]
    tensor = gpu_cache.load(images, torch.device("cpu"))
    if drawn is None or strengths is None:
        return gpu_cache.normalise(gpu_cache.plain(tensor, pixels), mean, std)
    levels = gpu_cache.augment_batch(tensor, drawn, strengths.sharpness_factor, pixels)
    assert torch.equal(tensor, torch.from_numpy(images))
    return gpu_cache.add_noise_and_erase(gpu_cache.normalise(levels, mean, std), drawn, strengths.noise_std, mean, std)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """By how many gray levels two inputs of a network differ."""
    return (one - other).abs() * torch.tensor(image_cache.STD[one.shape[1]]).view(1, -1, 1, 1) * 255


@pytest.mark.parametrize(("size", "pixels"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_unchanged_images_are_the_same(channels: int, size: int, pixels: int) -> None:
    images = noise_images(size)
    here = image_cache.network_input(images, np.arange(COUNT), image_cache.IMAGENET[channels], pixels, "cpu")
    gpu = there(images, pixels, channels)
    assert gpu.stride() == here.stride()  # a compiled network compiles anew for others
    differ = apart(gpu, here)
    assert differ.max() < 1.01
    assert (differ > 0.01).float().mean() < 0.001  # a mean of levels that lies between two of them may go either way


@pytest.mark.parametrize("size", [*range(2, 60, 3), 96, 160, 256])
def test_both_ways_resize_to_the_mean_of_the_area_that_a_pixel_covers(size: int) -> None:
    image = noise_images(size, 1)[0]
    for pixels in [*range(1, 60, 4), 42, 96, 128, 150]:
        weights = _slow_weights(size, pixels)
        exact = weights @ image @ weights.T
        for made in (
            augment.resize(image, pixels),
            gpu_cache.plain(torch.from_numpy(image)[None], pixels)[0, 0] * 255,
        ):
            assert np.abs(np.asarray(made, float) - exact).max() < 0.501


def _slow_weights(size: int, pixels: int) -> np.ndarray:
    """By cutting every pixel to pieces that are as small as both sizes allow."""
    whole = np.lcm(size, pixels)
    pieces = np.zeros((pixels, size))
    np.add.at(pieces, (np.arange(whole) * pixels // whole, np.arange(whole) * size // whole), pixels / whole)
    return pieces


def test_area_weights_are_shares() -> None:
    np.testing.assert_allclose(augment.area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(augment.area_weights(2, 3), [[1, 0], [0.5, 0.5], [0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(augment.area_weights(5, 5), np.eye(5))
    with pytest.raises(ValueError, match="read-only"):
        augment.area_weights(3, 2)[0, 0] = 1


@pytest.mark.parametrize(("size", "pixels"), SIZES)
def test_augmented_images_are_the_same_under_each_change_and_each_two(size: int, pixels: int) -> None:
    images, rows = noise_images(size), np.arange(COUNT)
    store = ImageCache(images, image_cache.IMAGENET[1], pixels, "cpu")
    for number, (one, other) in enumerate(PAIRS):
        strengths = strong(**{**STRENGTHS[one], **STRENGTHS[other]})
        drawn = strengths.draw(augment.uniform([number], COUNT))
        drawn = augment.match_histograms(drawn, images, lambda places: images[places] // 3, COUNT)
        differ = apart(there(images, pixels, 1, drawn, strengths), store.augment(rows, drawn, strengths))
        slope = float((drawn.brightness * drawn.contrast).max())  # what becomes of one level after rounding
        assert differ.max() < 1.01 * max(slope, 1), (one, other)
        assert (differ > 0.01).float().mean() < 0.005, (one, other)  # where rounding is on an edge


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_and_erasing_are_the_same_on_both_and_what_people_are_shown(channels: int) -> None:
    images, augmentation = noise_images(48), strong(noise_std=0.1, p_erase=0.5, contrast=0.2)
    drawn = augmentation.draw(augment.uniform([3], COUNT))
    here = ImageCache(images, image_cache.IMAGENET[channels], 48, "cpu").augment(np.arange(COUNT), drawn, augmentation)
    torch.testing.assert_close(there(images, 48, channels, drawn, augmentation), here, atol=1e-5, rtol=0)
    gray = here[:, 0] * image_cache.STD[channels][0] + image_cache.MEAN[channels][0]
    for number in range(COUNT):
        shown = augment.render(images[number], drawn, number, augmentation, 48, image_cache.MEAN[channels][0])
        np.testing.assert_allclose(shown / 255, gray[number], atol=0.51 / 255)


def test_a_network_is_of_one_mind_about_images_from_both_ways() -> None:
    """A ResNet-18 on noise, seen at 96 of 128 px, whose opinions are as far apart as a trained one's."""
    images = noise_images(128, 8)
    here = image_cache.network_input(images, np.arange(8), image_cache.IMAGENET[1], 96, "cpu")
    torch.manual_seed(0)
    network = networks.build("resnet18", 2, 1, 0.0)
    with torch.no_grad():
        network(here)  # batch norm takes in what it sees
        first, second = (network.eval()(x).diff()[:, 0] for x in (here, there(images, 96)))
    spread = 2 / first.std()
    p, q = (((margin - first.mean()) * spread).sigmoid() for margin in (first, second))
    assert (p.min() < 0.2, p.max() > 0.8) == (True, True)
    assert (p - q).abs().max() < 1e-3


def everything(pixels: int) -> tuple[np.ndarray, SampledAugmentation, Augmentation]:
    images = noise_images(pixels)
    strengths = strong(**{name: value for each in STRENGTHS.values() for name, value in each.items()})
    return images, strengths.draw(augment.uniform([0], COUNT)), strengths


def test_batches_are_made_on_the_device_and_nothing_waits_for_it() -> None:
    """On torch's device without memory, whatever would have to look at a number fails."""
    images, drawn, strengths = everything(48)
    rows = np.arange(COUNT)
    store = ImageCache(images, image_cache.IMAGENET[1], 36, "meta")
    model = {"augment": vars(strengths), "img_size": 36, "repeat": 0}
    (view,) = inference._augmented(images, rows, model, 1, image_cache.IMAGENET[1], "meta")
    made = [
        store.of(rows),
        store.augment(rows, drawn, strengths),
        image_cache.network_input(images, rows, image_cache.IMAGENET[1], 36, "meta"),
        view(0, COUNT),
    ]
    assert [(each.device.type, tuple(each.shape)) for each in made] == [("meta", (COUNT, 1, 36, 36))] * 4


def test_mixed_precision_does_not_reach_the_images() -> None:
    images, drawn, strengths = everything(48)
    plain, changed = there(images, 36), there(images, 36, 1, drawn, strengths)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(there(images, 36), plain)
        assert torch.equal(there(images, 36, 1, drawn, strengths), changed)


def test_weights_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise_images(41)
    there(images, 29)
    monkeypatch.setattr(augment, "area_weights", lambda *sizes: pytest.fail(f"built again for {sizes}"))
    there(images, 29)


def test_a_shift_moves_both_the_same_way() -> None:
    images = noise_images(48, 1)
    matrices = np.array([[[1.0, 0.0, 0.25], [0.0, 1.0, -0.125]]])
    moved = gpu_cache._warp(torch.from_numpy(images)[:, None].float(), matrices)[0, 0].numpy()
    np.testing.assert_array_equal(moved, augment.warp(images[0], matrices[0]))
    np.testing.assert_array_equal(moved[6:, :36], images[0, :42, 12:])
