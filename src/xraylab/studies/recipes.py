"""Settings that pay together for a purpose, to be laid over a study of anybody's own images."""

import difflib
from dataclasses import dataclass
from typing import Any

from xraylab.errors import ParamsError

Tree = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Values for all experiments, and one experiment more."""

    summary: str
    values: Tree
    """By dotted key of params.yaml."""
    experiment: Tree
    """Overrides of the experiment that is called as the recipe."""


RECIPES = {
    "robust": Recipe(
        summary="for films of other hospitals: crops to the lungs, evens out gray levels, varies what scanners vary",
        values={"images.crop_lungs": True, "images.clip_percentiles": [1.0, 99.0], "images.clahe": 4.0},
        experiment={
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
        },
    ),
}


def values(name: str, experiments: Tree) -> Tree:
    """By dotted key, what a recipe sets; its experiment joins these. Errors: ParamsError where there is none."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f": there is {', '.join(sorted(RECIPES))}"
        raise ParamsError(f"there is no recipe {name!r}{hint}")
    recipe = RECIPES[name]
    return {**recipe.values, "experiments": {**experiments, name: recipe.experiment}}
