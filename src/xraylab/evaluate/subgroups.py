"""The figures of groups of test images, where the index knows sex, age, view or source."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from xraylab.evaluate import intervals
from xraylab.evaluate.estimates import Row, estimates
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


def in_order(names: Iterable[str]) -> list[str]:
    """Age bands from the youngest on, other groups by name, the unknown last."""
    return sorted(names, key=lambda name: (name == UNKNOWN, not name.startswith("under "), name))


def rows(sample: Sample, images: pd.DataFrame, asked: Asked, bounds: list[int], smallest: int) -> list[Row]:
    """One row per grouping, group and figure, with its difference from the grouping's largest group.

    What speaks of fewer than `smallest` images is suppressed, and so is what would give it away: see `suppressed`.
    A suppressed group has one row, without numbers; a suppressed figure has no value.
    """
    found = []
    for grouping, each in groups(images, bounds).items():
        members = {group: sample[each == group] for group in in_order({str(group) for group in each})}
        sizes = {group: len(own.actual) for group, own in members.items()}
        hidden = suppressed(sizes, smallest, set())
        figures = {group: _figures(own, asked) for group, own in members.items()}
        _suppress(figures, hidden, smallest)
        reference = max(sizes.keys() - hidden, key=lambda group: (sizes[group], group), default="")
        for group, own in members.items():
            known: Row = {"grouping": grouping, "group": group, "reference": reference}
            if group in hidden:
                found.append(known | {"images": None, "patients": None, "suppressed": True})
            else:
                counts = {"images": sizes[group], "patients": own.units.patients}
                found += [known | counts | row for row in _compared(figures[group], figures[reference])]
    return found


def suppressed(counts: dict[str, int], smallest: int, hidden: set[str]) -> set[str]:
    """The groups whose counts must not be shown: small ones, and as many more as hide these from subtraction.

    The sum over all groups is known, so at least two groups are suppressed, with at least `smallest` images in all
    (complementary suppression: Hundepool et al., Statistical Disclosure Control, 2012, section 4).
    """
    small = hidden | {group for group, count in counts.items() if count < smallest}
    rest = sorted(counts.keys() - small, key=lambda group: (counts[group], group))
    while small and rest and (len(small) == 1 or sum(counts[group] for group in small) < smallest):
        small.add(rest.pop(0))
    return small


def _figures(sample: Sample, asked: Asked) -> list[Row]:
    wanted = _wanted(asked)
    return [row | {"suppressed": False} for row in estimates(sample, asked) if (row["of"], row["figure"]) in wanted]


def _suppress(figures: dict[str, list[Row]], hidden: set[str], smallest: int) -> None:
    """Blank each figure of the groups that must not show it; those of `hidden` show none."""
    for rows in zip(*figures.values(), strict=True):
        counts = {group: row["n"] for group, row in zip(figures, rows, strict=True)}
        unseen = suppressed(counts, smallest, hidden)
        for group, row in zip(figures, rows, strict=True):
            if group in unseen:
                row.update(dict.fromkeys(("value", "low", "high", "by", "n", "why")), suppressed=True)


def _compared(rows: list[Row], reference: list[Row]) -> list[Row]:
    """The rows with their differences from the reference's; without, where either is unknown or they are the same."""
    made = []
    for row, other in zip(rows, reference, strict=True):
        known = rows is not reference and None not in (row["low"], other["low"])
        difference = row["value"] - other["value"] if known else None
        low, high = intervals.of_difference(_interval(row), _interval(other)) if known else (None, None)
        made.append(row | {"difference": difference, "difference_ci_low": low, "difference_ci_high": high})
    return made


def _interval(row: Row) -> tuple[float, float, float]:
    return row["value"], row["low"], row["high"]


def _wanted(asked: Asked) -> list[tuple[str, str]]:
    whose = MACRO if asked.positive is None else asked.classes[asked.positive]
    return [(OVERALL, "accuracy"), *((whose, name) for name in ("sensitivity", "specificity", "f1", "auroc"))]
