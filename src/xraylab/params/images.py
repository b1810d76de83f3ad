"""What the network is shown: the cached images, their augmentation, and what an epoch shows of each class."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from xraylab.params.names import SamplerName
from xraylab.params.section import Fraction, Problem, Section, Share

STRENGTHS = {"sharpness_factor": "sharpness_p", "blur_sigma": "p_blur"}  # of what happens so often
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

    def problems(self) -> Iterator[Problem]:
        if self.window and self.window[0] >= self.window[1]:
            yield "window", f"the lower percentile comes first, got {self.window}"


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

    OFF: ClassVar = {"sharpness_factor": 1.0, "blur_sigma": 1.0}

    def unused(self) -> dict[str, str]:
        return {name: f"{often} 0" for name, often in STRENGTHS.items() if getattr(self, often) == 0}

    def problems(self) -> Iterator[Problem]:
        if self.mixup > 0 and self.cutmix > 0:
            yield "cutmix", "augment.mixup mixes each batch already: set one of the two to 0"
        if self.sharpness_p > 0 and self.sharpness_factor == 1:
            yield (
                "sharpness_factor",
                "1 leaves every image as it is: set it to another factor, or augment.sharpness_p to 0",
            )


class Sampling(Section):
    strategy: SamplerName


def changing(augment: Augment) -> list[str]:
    """The keys that show a network other images than the cached ones."""
    return [name for name, value in augment if name not in STRENGTHS and value != UNCHANGING.get(name, 0)]
