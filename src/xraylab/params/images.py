"""The sections `images`, `augment` and `sampling` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from xraylab.params.names import SamplerName
from xraylab.params.section import Fraction, NonNegative, Positive, Problem, Section, Share

STRENGTHS = {"sharpness_factor": "p_sharpness", "blur_sigma": "p_blur"}  # of what happens so often
UNCHANGING = {"scale": [1.0, 1.0], "crop_scale": 1.0}  # every other augmentation does nothing at 0
BATCHWISE = ("mixup_alpha", "cutmix_alpha")  # augmentations that are not of single images
NOT_IN_COPIES = (*BATCHWISE, "noise_std", "p_erase", "p_histogram_matching")  # those that predict.tta leaves out


class Images(Section):
    size: Annotated[int, Field(ge=16, le=2048)]
    resize_method: Literal["squash", "crop", "pad"]
    crop_border: bool
    crop_lungs: bool
    clip_percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)] | None
    clahe: Positive | None
    pyramid_sharpening: NonNegative

    def problems(self) -> Iterator[Problem]:
        if self.clip_percentiles and self.clip_percentiles[0] >= self.clip_percentiles[1]:
            yield "clip_percentiles", f"the lower percentile comes first, got {self.clip_percentiles}"


class Augment(Section):
    degrees: Annotated[float, Field(ge=0, le=180)]
    translate: Fraction
    scale: Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(min_length=2, max_length=2)]
    shear: Annotated[float, Field(ge=0, le=60)]
    p_hflip: Share
    p_vflip: Share
    crop_scale: Annotated[float, Field(gt=0, le=1)]
    brightness: Share
    sharpness_factor: NonNegative
    p_sharpness: Share
    contrast: Share
    noise_std: Share
    p_erase: Share
    gamma: NonNegative
    p_histogram_matching: Share
    p_blur: Share
    blur_sigma: Annotated[float, Field(gt=0, le=1000)]
    mixup_alpha: NonNegative
    cutmix_alpha: NonNegative

    OFF: ClassVar = {"sharpness_factor": 1.0, "blur_sigma": 1.0}

    def unused(self) -> dict[str, str]:
        return {name: f"{often} 0" for name, often in STRENGTHS.items() if getattr(self, often) == 0}

    def problems(self) -> Iterator[Problem]:
        if self.scale[0] > self.scale[1]:
            yield "scale", f"the lower bound comes first, got {self.scale}"
        if self.mixup_alpha > 0 and self.cutmix_alpha > 0:
            yield "cutmix_alpha", "augment.mixup_alpha mixes each batch already: set one of the two to 0"
        if self.p_sharpness > 0 and self.sharpness_factor == 1:
            yield (
                "sharpness_factor",
                "1 leaves every image as it is: set it to another factor, or augment.p_sharpness to 0",
            )


class Sampling(Section):
    strategy: SamplerName


def changing(augment: Augment) -> list[str]:
    """The keys that show a network other images than the cached ones."""
    return [name for name, value in augment if name not in STRENGTHS and value != UNCHANGING.get(name, 0)]
