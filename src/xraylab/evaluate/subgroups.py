"""The figures of groups of test images, where the index knows sex, age, view or source."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab.evaluate.estimates import estimates
from xraylab.evaluate.units import Sample
from xraylab.evaluate.values import MACRO, OVERALL, Asked

BY = ("sex", "age", "view", "source")
UNKNOWN = "unknown"


def age_band(age: str, bounds: list[int]) -> str:
    """The band that holds an age in whole years: `under 18`, `18 to 39`, `65 and over` for the bounds 18, 40, 65."""
    if not age:
        return UNKNOWN
    years, above = int(age), [bound for bound in bounds if int(age) < bound]
    below = [bound for bound in bounds if bound <= years]
    if not below:
        return f"under {above[0]}"
    return f"{below[-1]} to {above[0] - 1}" if above else f"{below[-1]} and over"


def groups(images: pd.DataFrame, bounds: list[int]) -> dict[str, npt.NDArray[np.str_]]:
    """What to group by -> each image's group; only what tells at least two known groups apart."""
    found = {}
    for name in BY:
        if name in images:
            texts = images[name].astype(str)
            named = texts.map(lambda text: age_band(text, bounds)) if name == "age" else texts.replace("", UNKNOWN)
            if named[named != UNKNOWN].nunique() > 1:
                found[name] = named.to_numpy(str)
    return found


def rows(sample: Sample, images: pd.DataFrame, asked: Asked, bounds: list[int], smallest: int) -> list[dict[str, Any]]:
    """One row per grouping, group and figure.

    A group of fewer than `smallest` images has its number hidden and no figure; a figure that speaks of fewer has no
    value.
    """
    found = []
    for by, each in groups(images, bounds).items():
        for group in sorted(set(each)):
            inside = each == group
            known = {"grouping": by, "group": str(group)}
            if inside.sum() < smallest:
                found.append(known | {"images": None, "suppressed": True})
            else:
                found += _rows(known, sample[inside], asked, smallest)
    return found


def _rows(known: dict[str, str], sample: Sample, asked: Asked, smallest: int) -> list[dict[str, Any]]:
    made = []
    for row in estimates(sample, asked):
        if (row["of"], row["figure"]) in _wanted(asked):
            hidden = row["n"] < smallest
            blank = dict.fromkeys(("value", "low", "high", "by", "n")) if hidden else {}
            made.append(known | {"images": len(sample.actual), "suppressed": hidden} | row | blank)
    return made


def _wanted(asked: Asked) -> list[tuple[str, str]]:
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    return [(OVERALL, "accuracy"), *((whose, name) for name in ("sensitivity", "specificity", "f1", "auroc"))]
