"""Augmentation does what torchvision does under the same names, in fewer passes."""

import numpy as np
import pytest
import torch
from augmentations import STILL, strong
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from xraylab.data import augment


def uniform(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, augment.DRAWS))


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
    drawn = strong(brightness=0.2, contrast=0.3, sharpness_p=0.3, rotation=10, shift=0.05, zoom=0.1).draw(uniform(4000))
    for factors, strength in [(drawn.brightness, 0.2), (drawn.contrast, 0.3)]:
        assert 1 - strength <= factors.min() < 1 - 0.98 * strength
        assert 1 + 0.98 * strength < factors.max() <= 1 + strength
    assert abs(drawn.sharpen.mean() - 0.3) < 0.03
    assert drawn.matrices is not None
    scales = 1 / np.sqrt(np.linalg.det(drawn.matrices[:, :, :2]))
    angles = np.rad2deg(np.arctan2(drawn.matrices[:, 0, 1], drawn.matrices[:, 0, 0]))
    assert (0.9 <= scales.min() < 0.902, 1.098 < scales.max() <= 1.1) == (True, True)
    assert (-10 <= angles.min() < -9.9, 9.9 < angles.max() <= 10) == (True, True)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.2, 3.0])
def test_sharpening_is_torchvisions(factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    expected = F.adjust_sharpness(torch.from_numpy(image)[None], factor)[0].numpy()
    np.testing.assert_allclose(augment.sharpened(image, factor).astype(int), expected.astype(int), atol=1 + factor)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_contrast_and_brightness_are_torchvisions(factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    tensor, mean = torch.from_numpy(image)[None], float(image.mean())
    contrast = F.adjust_contrast(tensor, factor)[0].numpy() / 255
    brightness = F.adjust_brightness(tensor, factor)[0].numpy() / 255
    np.testing.assert_allclose(augment.levels(1.0, factor, mean)[image], contrast, atol=1.01 / 255)
    np.testing.assert_allclose(augment.levels(factor, 1.0, mean)[image], brightness, atol=1.01 / 255)


@pytest.mark.parametrize("slant", [0, 25])
@pytest.mark.parametrize("seed", range(6))
def test_rotation_shift_zoom_and_shear_are_torchvisions_affine(seed: int, slant: int) -> None:
    image, draws = smooth_image(), uniform(1, seed)
    augmentation = strong(rotation=20, shift=0.1, zoom=0.2, shear=slant)
    drawn = augmentation.draw(draws)
    assert drawn.matrices is not None
    moved = augment.moved(image, drawn.matrices[0])
    angle, dx, dy, zoom = 2 * draws[0, 2:6] - 1
    expected = F.affine(
        torch.from_numpy(image)[None].float(),
        angle=20 * angle,
        translate=[0.1 * dx * 40, 0.1 * dy * 40],
        scale=1 + 0.2 * zoom,
        shear=[slant * (2 * draws[0, 9] - 1), 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )[0].numpy()
    inside = np.s_[9:-9, 9:-9]  # at the edge, torchvision mixes in the black from outside in another way
    np.testing.assert_allclose(moved[inside], expected[inside], atol=3)


def test_a_flip_is_torchvisions_and_comes_before_rotation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    draws = uniform(1)
    for strengths, flip in [({"hflip_p": 1}, F.horizontal_flip), ({"vflip_p": 1}, F.vertical_flip)]:
        drawn = strong(**strengths).draw(draws)
        np.testing.assert_array_equal(augment.moved(image, drawn.matrices[0]), flip(torch.from_numpy(image)).numpy())
    image = smooth_image()
    both, rotation = (strong(rotation=20, hflip_p=p).draw(draws).matrices[0] for p in (1, 0))
    flipped = F.horizontal_flip(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(augment.moved(image, both), augment.moved(flipped, rotation).astype(int), atol=1)


@pytest.mark.parametrize("seed", range(4))
def test_a_crop_is_torchvisions(seed: int) -> None:
    image = smooth_image(60)
    drawn = strong(crop_scale=0.3).draw(uniform(1, seed))
    (corner,), (size,) = augment._boxes(uniform(1, seed)[:, 10:14], (0.3, 1.0), augment.CROP_RATIO)
    left, top, width, height = (round(60 * value) for value in (*corner, *size))
    expected = F.resized_crop(torch.from_numpy(image)[None].float(), top, left, height, width, [60, 60])[0].numpy()
    moved = augment.moved(image, drawn.matrices[0])
    np.testing.assert_allclose(moved[2:-2, 2:-2], expected[2:-2, 2:-2], atol=6)  # whole pixels there, shares here


def test_boxes_have_areas_and_ratios_between_their_bounds_and_lie_inside() -> None:
    corner, size = augment._boxes(np.random.default_rng(0).random((5000, 4)), (0.1, 0.4), (0.5, 2.0))
    area, ratio = size.prod(axis=1), size[:, 0] / size[:, 1]
    assert (0.1 <= area.min() < 0.101, 0.399 < area.max() <= 0.4) == (True, True)
    assert (0.5 <= ratio.min() < 0.505, 1.98 < ratio.max() <= 2.0) == (True, True)
    assert abs(np.log(ratio).mean()) < 0.02
    assert (corner.min() >= 0, (corner + size).max() <= 1) == (True, True)


def test_noise_and_erasing_are_as_strong_and_as_frequent_as_asked() -> None:
    augmentation = strong(noise=0.05, erase_p=0.25)
    drawn = augmentation.draw(uniform(400))
    heights, widths = drawn.erased[:, 1] - drawn.erased[:, 0], drawn.erased[:, 3] - drawn.erased[:, 2]
    assert abs((widths > 0).mean() - 0.25) < 0.05
    assert (heights * widths)[widths > 0].min() >= 0.0199
    assert (heights * widths).max() <= 0.33
    gray = np.full((64, 64), 128, np.uint8)
    kept = int(np.flatnonzero(widths == 0)[0])
    noisy = augment.shown(gray, drawn, kept, augmentation, 64, 0.5).astype(float) / 255
    assert noisy.std() == pytest.approx(0.05, rel=0.05)
    erased = int(np.argmax(widths))
    assert (
        augment.shown(gray, drawn, erased, augmentation, 64, 0.2)[augment.span(drawn.erased[erased], 64)] == 51
    ).all()


def test_an_unmoved_image_is_the_image() -> None:
    image = smooth_image()
    np.testing.assert_array_equal(augment.moved(image, np.array([[1.0, 0, 0], [0, 1, 0]])), image)


def test_a_smaller_image_holds_the_means_of_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    expected = image.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(augment.resized(image, 8), expected, atol=0.51)
    assert augment.resized(image, 32) is image
