"""What the network is shown: the cached images, their augmentation, and what an epoch shows of each class."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from xraylab.params.section import Fraction, Section, Share

STRENGTHS = ("sharpness_factor", "blur_sigma")  # of what a probability says how often it happens
UNCHANGING = {"crop_scale": 1.0}  # every other augmentation does nothing at 0
BATCHWISE = ("mixup", "cutmix")  # augmentations that are not of single images
NOT_IN_COPIES = (*BATCHWISE, "noise", "erase_p", "p_histogram_matching")  # those that predict.tta leaves out


class Images(Section):
    pixels: Annotated[int, Field(ge=16, le=2048)]
    fit: Literal["squash", "crop", "pad"]
    crop_border: bool
    crop_lungs: bool
    window: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)] | None
    clahe: PositiveFloat | None
    pyramid_sharpening: NonNegativeFloat


class Augment(Section):
    rotation: Annotated[float, Field(ge=0, le=180)]
    shift: Fraction
    zoom: Fraction
    shear: Annotated[float, Field(ge=0, le=60)]
    hflip_p: Share
    vflip_p: Share
    crop_scale: Annotated[float, Field(gt=0, le=1)]
    brightness: Share
    sharpness_factor: NonNegativeFloat
    sharpness_p: Share
    contrast: Share
    noise: Share
    erase_p: Share
    gamma: NonNegativeFloat
    p_histogram_matching: Share
    p_blur: Share
    blur_sigma: PositiveFloat
    mixup: NonNegativeFloat
    cutmix: NonNegativeFloat


class Sampling(Section):
    strategy: Literal["none", "weighted", "stratified", "downsample", "source_balanced"]


def changing(augment: dict[str, Any]) -> list[str]:
    """The keys that show a network other images than the cached ones."""
    return [name for name, value in augment.items() if name not in STRENGTHS and value != UNCHANGING.get(name, 0)]


def augment_contradictions(augment: Augment) -> dict[str, str]:
    found = {}
    if augment.mixup > 0 and augment.cutmix > 0:
        found["augment.cutmix"] = "augment.mixup mixes each batch already: set one of the two to 0"
    if augment.sharpness_p > 0 and augment.sharpness_factor == 1:
        found["augment.sharpness_factor"] = (
            "1 leaves every image as it is: set it to another factor, or augment.sharpness_p to 0"
        )
    return found
