"""Augmentations of chosen strengths."""

from xraylab.data.augment import Augmentation

STILL = Augmentation(
    rotation=0.0,
    shift=0.0,
    zoom=0.0,
    shear=0.0,
    hflip_p=0.0,
    vflip_p=0.0,
    crop_scale=1.0,
    brightness=0.0,
    sharpness_factor=1.2,
    sharpness_p=0.0,
    contrast=0.0,
    noise=0.0,
    erase_p=0.0,
    gamma=0.0,
    p_histogram_matching=0.0,
    p_blur=0.0,
    blur_sigma=1.0,
)


def strong(**strengths: float) -> Augmentation:
    return Augmentation(**{**vars(STILL), **strengths})
