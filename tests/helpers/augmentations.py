"""Augmentations of chosen strengths."""

from typing import Any

from xraylab.data.augment import Augmentation

STILL = Augmentation(
    degrees=0.0,
    translate=0.0,
    scale=(1.0, 1.0),
    shear=0.0,
    p_hflip=0.0,
    p_vflip=0.0,
    crop_scale=1.0,
    brightness=0.0,
    sharpness_factor=1.2,
    p_sharpness=0.0,
    contrast=0.0,
    noise_std=0.0,
    p_erase=0.0,
    gamma=0.0,
    p_histogram_matching=0.0,
    p_blur=0.0,
    blur_sigma=1.0,
)


def strong(**strengths: Any) -> Augmentation:
    return Augmentation(**{**vars(STILL), **strengths})
