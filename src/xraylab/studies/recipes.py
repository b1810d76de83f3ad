"""Settings that pay together for a purpose, to be laid over any study."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xraylab.errors import ParamsError
from xraylab.studies import backbones

Tree = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Values for all experiments, and experiments that join them."""

    summary: str
    values: Callable[[Tree], tuple[Tree, list[str]]]
    """Of a params.yaml: values by dotted key, and what is left out, in sentences."""


ROBUST_IMAGES = {"images.crop_lungs": True, "images.clip_percentiles": [1.0, 99.0], "images.clahe": 4.0}
ROBUST_EXPERIMENT = {
    "augment": {
        "degrees": 8.0,
        "translate": 0.05,
        "scale": [0.85, 1.15],
        "shear": 3.0,
        "sharpness_factor": 3.0,
        "p_sharpness": 0.3,
        "noise_std": 0.05,
        "p_histogram_matching": 0.8,
        "p_blur": 0.7,
        "blur_sigma": 1.5,
    }
}


def robust(tree: Tree) -> tuple[Tree, list[str]]:
    """Prepared images for all experiments, and one that varies them."""
    return {**ROBUST_IMAGES, "experiments": {**tree["experiments"], "robust": ROBUST_EXPERIMENT}}, []


RECIPES = {
    "robust": Recipe(
        "for films of other hospitals: crops to the lungs, evens out gray levels, varies what scanners vary", robust
    ),
    "backbones": Recipe(
        "a linear probe and a fine-tuning of all named weights that are on this machine", backbones.values
    ),
}


def find(name: str) -> Recipe:
    """Errors: ParamsError where there is none of that name."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f": there is {', '.join(sorted(RECIPES))}"
        raise ParamsError(f"there is no recipe {name!r}{hint}")
    return RECIPES[name]
