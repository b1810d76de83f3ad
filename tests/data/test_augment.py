"""Augmentation does what torchvision does under the same names, in fewer passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from augmentations import STILL, strong
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from xraylab.data import augment, sampling
from xraylab.data.dataloaders import Augmenter
from xraylab.data.image_cache import IMAGENET, ImageCache


def uniform(count: int, seed: int = 0) -> np.ndarray:
    return augment.uniform([seed], count)


def smooth_image(pixels: int = 40) -> np.ndarray:
    """A picture without jumps, so that rounding and interpolation are all that may differ."""
    y, x = np.mgrid[:pixels, :pixels] / pixels
    return (127 + 60 * np.sin(5 * x + 2 * y) + 60 * np.cos(4 * y - x)).astype(np.uint8)


def test_nothing_is_drawn_where_nothing_may_change() -> None:
    drawn = STILL.draw(uniform(50))
    assert drawn.matrices is None
    assert not drawn.sharpen.any()
    assert (drawn.brightness == 1).all()
    assert (drawn.contrast == 1).all()


def test_what_is_drawn_lies_between_its_bounds_and_fills_them() -> None:
    drawn = strong(brightness=0.2, contrast=0.3, p_sharpness=0.3, degrees=10, translate=0.05, scale=(0.9, 1.1)).draw(
        uniform(4000)
    )
    for factors, strength in [(drawn.brightness, 0.2), (drawn.contrast, 0.3)]:
        assert 1 - strength <= factors.min() < 1 - 0.98 * strength
        assert 1 + 0.98 * strength < factors.max() <= 1 + strength
    assert abs(drawn.sharpen.mean() - 0.3) < 0.03
    assert drawn.matrices is not None
    scales = 1 / np.sqrt(np.linalg.det(drawn.matrices[:, :, :2]))
    angles = np.rad2deg(np.arctan2(drawn.matrices[:, 0, 1], drawn.matrices[:, 0, 0]))
    assert (0.9 <= scales.min() < 0.902, 1.098 < scales.max() <= 1.1) == (True, True)
    assert (-10 <= angles.min() < -9.9, 9.9 < angles.max() <= 10) == (True, True)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.15, 0.2, 0.3, 0.35])
def test_an_interval_about_1_scales_by_1_and_its_half_width_to_the_bit(share: float) -> None:
    drawn = strong(scale=[1 - share, 1 + share]).draw(uniform(50))
    expected = 1 / (1 + share * (2 * uniform(50)[:, 5] - 1))
    assert drawn.matrices is not None
    np.testing.assert_array_equal(drawn.matrices[:, 0, 0], expected)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.2, 3.0])
def test_sharpening_is_torchvisions(factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    expected = F.adjust_sharpness(torch.from_numpy(image)[None], factor)[0].numpy()
    np.testing.assert_allclose(augment.sharpen(image, factor).astype(int), expected.astype(int), atol=1 + factor)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_contrast_and_brightness_are_torchvisions(factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    tensor, mean = torch.from_numpy(image)[None], float(image.mean())
    contrast = F.adjust_contrast(tensor, factor)[0].numpy() / 255
    brightness = F.adjust_brightness(tensor, factor)[0].numpy() / 255
    np.testing.assert_allclose(augment.levels(1.0, factor, mean)[image], contrast, atol=1.01 / 255)
    np.testing.assert_allclose(augment.levels(factor, 1.0, mean)[image], brightness, atol=1.01 / 255)


@pytest.mark.parametrize("scale", [(0.8, 1.2), (1.1, 1.4)])
@pytest.mark.parametrize("slant", [0, 25])
@pytest.mark.parametrize("seed", range(6))
def test_rotation_shift_scale_and_shear_are_torchvisions_affine(
    seed: int, slant: int, scale: tuple[float, float]
) -> None:
    image, draws = smooth_image(), uniform(1, seed)
    augmentation = strong(degrees=20, translate=0.1, scale=scale, shear=slant)
    drawn = augmentation.draw(draws)
    assert drawn.matrices is not None
    moved = augment.warp(image, drawn.matrices[0])
    angle, dx, dy = 2 * draws[0, 2:5] - 1
    expected = F.affine(
        torch.from_numpy(image)[None].float(),
        angle=20 * angle,
        translate=[0.1 * dx * 40, 0.1 * dy * 40],
        scale=scale[0] + (scale[1] - scale[0]) * draws[0, 5],
        shear=[slant * (2 * draws[0, 9] - 1), 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )[0].numpy()
    inside = np.s_[9:-9, 9:-9]  # at the edge, torchvision mixes in the black from outside in another way
    np.testing.assert_allclose(moved[inside], expected[inside], atol=3)


def test_a_flip_is_torchvisions_and_comes_before_rotation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    draws = uniform(1)
    for strengths, flip in [({"p_hflip": 1}, F.horizontal_flip), ({"p_vflip": 1}, F.vertical_flip)]:
        drawn = strong(**strengths).draw(draws)
        np.testing.assert_array_equal(augment.warp(image, drawn.matrices[0]), flip(torch.from_numpy(image)).numpy())
    image = smooth_image()
    both, rotation = (strong(degrees=20, p_hflip=p).draw(draws).matrices[0] for p in (1, 0))
    flipped = F.horizontal_flip(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(augment.warp(image, both), augment.warp(flipped, rotation).astype(int), atol=1)


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_torchvisions(seed: int) -> None:
    image = smooth_image(60)
    drawn = strong(crop_scale=0.3).draw(uniform(1, seed))
    (corner,), (size,) = augment._boxes(uniform(1, seed)[:, 10:14], (0.3, 1.0), augment.CROP_RATIO)
    left, top, width, height = (round(60 * value) for value in (*corner, *size))
    expected = F.resized_crop(torch.from_numpy(image)[None].float(), top, left, height, width, [60, 60])[0].numpy()
    moved = augment.warp(image, drawn.matrices[0])
    np.testing.assert_allclose(moved[2:-2, 2:-2], expected[2:-2, 2:-2], atol=6)  # whole pixels there, shares here


def test_boxes_have_areas_and_ratios_between_their_bounds_and_lie_inside() -> None:
    corner, size = augment._boxes(np.random.default_rng(0).random((5000, 4)), (0.1, 0.4), (0.5, 2.0))
    area, ratio = size.prod(axis=1), size[:, 0] / size[:, 1]
    assert (0.1 <= area.min() < 0.101, 0.399 < area.max() <= 0.4) == (True, True)
    assert (0.5 <= ratio.min() < 0.505, 1.98 < ratio.max() <= 2.0) == (True, True)
    assert abs(np.log(ratio).mean()) < 0.02
    assert abs(np.corrcoef(area, np.log(ratio))[0, 1]) < 0.05  # each is drawn for itself
    assert (corner.min() >= 0, (corner + size).max() <= 1) == (True, True)


def test_noise_and_erasing_are_as_strong_and_as_frequent_as_asked() -> None:
    augmentation = strong(noise_std=0.05, p_erase=0.25)
    drawn = augmentation.draw(uniform(400))
    heights, widths = drawn.erased[:, 1] - drawn.erased[:, 0], drawn.erased[:, 3] - drawn.erased[:, 2]
    assert abs((widths > 0).mean() - 0.25) < 0.05
    assert (heights * widths)[widths > 0].min() >= 0.0199
    assert (heights * widths).max() <= 0.33
    gray = np.full((64, 64), 128, np.uint8)
    kept = int(np.flatnonzero(widths == 0)[0])
    noisy = augment.render(gray, drawn, kept, augmentation, 64, 0.5).astype(float) / 255
    assert noisy.std() == pytest.approx(0.05, rel=0.05)
    erased = int(np.argmax(widths))
    assert (
        augment.render(gray, drawn, erased, augmentation, 64, 0.2)[augment.span(drawn.erased[erased], 64)] == 51
    ).all()


def test_the_rectangle_that_was_drawn_is_erased_and_nothing_else() -> None:
    """Where the edges of a rectangle lie within pixels, those whose centres it covers."""
    augmentation = strong(p_erase=1.0)
    drawn, gray = augmentation.draw(uniform(10)), np.full((64, 64), 200, np.uint8)
    centres = (np.arange(64) + 0.5) / 64
    assert drawn.erased is not None
    for number, (top, bottom, left, right) in enumerate(drawn.erased):
        rows, columns = (top < centres) & (centres < bottom), (left < centres) & (centres < right)
        expected = np.where(np.outer(rows, columns), 51, 200)
        np.testing.assert_array_equal(augment.render(gray, drawn, number, augmentation, 64, 0.2), expected)


def test_an_unmoved_image_is_the_image() -> None:
    image = smooth_image()
    np.testing.assert_array_equal(augment.warp(image, np.array([[1.0, 0, 0], [0, 1, 0]])), image)


def test_a_smaller_image_holds_the_means_of_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    expected = image.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(augment.resize(image, 8), expected, atol=0.51)
    assert augment.resize(image, 32) is image


def test_later_options_leave_the_draws_of_earlier_ones_alone() -> None:
    """A study that uses none of them trains on the same bits as before they were there."""
    numbers = augment.uniform([7, 2], 50)
    assert (numbers[:, : augment.DRAWS] == np.random.default_rng([7, 2]).random((50, augment.DRAWS))).all()
    before = strong(degrees=10, contrast=0.3, noise_std=0.1, p_erase=0.5)
    after = replace(before, gamma=1.0, p_blur=0.5, p_histogram_matching=0.5)
    one, other = before.draw(numbers), after.draw(numbers)
    for name in ("matrices", "brightness", "contrast", "noise", "erased", "sharpen"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.luts, one.references, one.blur) == (None, None, None)


def test_gamma_is_torchvisions_and_drawn_evenly_about_one() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    exponents = np.array([0.5, 1.0, 2.2])
    for table, exponent in zip(augment.gamma_luts(exponents), exponents, strict=True):
        expected = F.adjust_gamma(torch.from_numpy(image)[None], exponent)[0].numpy()
        np.testing.assert_allclose(table[image].astype(int), expected.astype(int), atol=1)
    luts = strong(gamma=1.0).draw(uniform(2000)).luts
    assert luts is not None
    assert (np.diff(luts.astype(int), axis=1) >= 0).all()
    brighter = (luts[:, 128] > 128).mean()
    assert 0.46 < brighter < 0.54
    ends = np.rint(255 * (128 / 255) ** np.array([2.0, 0.5]))
    assert (luts[:, 128].min() - ends[0], ends[1] - luts[:, 128].max()) < (2, 2)


def test_a_matched_image_has_the_histogram_of_the_other() -> None:
    """Where every level of the image is of few pixels, shares of both differ by no more than those."""
    rng = np.random.default_rng(0)
    image, other = rng.integers(0, 256, (64, 64), np.uint8), (rng.beta(2, 5, (64, 64)) * 255).astype(np.uint8)
    table = augment.histogram_lut(image, other)
    assert (np.diff(table.astype(int)) >= 0).all()
    shares = [np.sort(picture.ravel())[::41].astype(int) for picture in (table[image], other)]
    assert np.abs(shares[0] - shares[1]).mean() < 2
    np.testing.assert_array_equal(augment.histogram_lut(image, image), np.arange(256))


@pytest.mark.parametrize("level", [0, 255])
def test_matching_to_a_uniform_image_or_from_one_keeps_to_its_levels(level: int) -> None:
    uniform_image, image = np.full((8, 8), level, np.uint8), smooth_image()
    assert (augment.histogram_lut(image, uniform_image) == level).all()
    made = augment.histogram_lut(uniform_image, image)[uniform_image]
    assert abs(int(made[0, 0]) - int(np.median(image))) <= 1


def test_matching_is_drawn_as_often_as_asked_and_gamma_comes_after_it() -> None:
    images = np.stack([smooth_image(), smooth_image().T, smooth_image() // 2])
    drawn = strong(p_histogram_matching=0.4, gamma=0.5).draw(uniform(3000))
    assert drawn.references is not None
    assert abs((drawn.references >= 0).mean() - 0.4) < 0.03
    places = np.array([np.flatnonzero(drawn.references >= 0)[0], np.flatnonzero(drawn.references < 0)[0]])
    few = drawn.of(places)
    made = augment.match_histograms(few, images[:2], lambda positions: images[positions], 3)
    assert (drawn.luts is not None, few.luts is not None, made.luts is not None) == (True, True, True)
    reference = images[int(few.references[0] * 3)]
    np.testing.assert_array_equal(made.luts[0], few.luts[0][augment.histogram_lut(images[0], reference)])
    np.testing.assert_array_equal(made.luts[1], few.luts[1])


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_a_blur_is_torchvisions(sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 24), np.uint8)
    size = 2 * augment.blur_radius(sigma) + 1
    expected = F.gaussian_blur(torch.from_numpy(image)[None], [size, size], [sigma, sigma])[0].numpy()
    np.testing.assert_allclose(augment.blur(image, sigma).astype(int), expected.astype(int), atol=1)
    drawn = strong(p_blur=0.3, blur_sigma=sigma).draw(uniform(2000)).blur
    assert drawn is not None
    assert (abs((drawn > 0).mean() - 0.3) < 0.04, 0.97 * sigma < drawn.max() < sigma) == (True, True)


def test_an_image_is_blurred_where_that_was_drawn_and_by_as_much() -> None:
    drawn, image = strong(p_blur=0.5, blur_sigma=2.0).draw(uniform(20)), smooth_image()
    assert drawn.blur is not None
    assert 0 < (drawn.blur > 0).sum() < 20
    for number, sigma in enumerate(drawn.blur):
        result, _ = augment.transform(image, drawn, number, 1.0, 40)
        np.testing.assert_array_equal(result, augment.blur(image, float(sigma)) if sigma > 0 else image)


def test_streams_of_draws_are_apart() -> None:
    assert len({augment.TTA_STREAM, augment.MORE_STREAM, sampling.STREAM}) == 3


def test_an_image_smaller_than_the_blur_is_blurred_all_the_same() -> None:
    image = np.array([[0, 255], [255, 0]], np.uint8)
    assert np.abs(augment.blur(image, 3.0).astype(int) - 128).max() < 20


def test_a_batch_lends_histograms_of_the_training_images_alone() -> None:
    """Of five cached images two train: what they become follows from those two, whatever the others hold."""
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 24), np.uint8)
    images[1], images[4] = images[1] // 2, images[4] // 4 + 90
    others = images.copy()
    others[[0, 2, 3]] = 77

    def batch(cached: np.ndarray, epoch: int) -> torch.Tensor:
        cache, rows = ImageCache(cached, IMAGENET[1], 24, "cpu"), np.array([1, 4])
        made = Augmenter(cache, rows, strong(p_histogram_matching=1.0), seed=5)
        made.draw(epoch, 2)
        return made.of(rows, np.array([0, 1]))

    tensors = [batch(images, epoch) for epoch in range(8)]
    assert all(torch.equal(tensor, batch(others, epoch)) for epoch, tensor in enumerate(tensors))
    assert len({float(tensor[0].mean()) for tensor in tensors}) == 2  # its own histogram, or the other's
