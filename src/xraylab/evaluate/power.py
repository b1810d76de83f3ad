"""How many test images a study would need, and which difference its test could have shown at all.

Wald's test of a paired difference whose standard error is known from this study: the part of its variance that comes
from patients falls with their number, the part of other seeds does not (Obuchowski, AJR 175 (2000) 603). The variance
holds how often the two networks agree, so nothing is assumed of that but that it stays as it is.
"""

import math
from collections.abc import Iterator
from typing import Any

from scipy import stats

from xraylab.errors import MissingError, ParamsError
from xraylab.evaluate.paired import FIGURES

POWER = 0.8


def detectable_difference(error: float, confidence: float, tests: int, power: float = POWER) -> float:
    """The true difference that a test with this standard error shows with a chance of `power`.

    `tests`: the number of differences that are tested together, the level of each being its share of 1 - `confidence`.
    """
    return _distance(confidence, tests, power) * error


def required_units(units: int, row: dict[str, Any], difference: float, confidence: float, power: float) -> int | None:
    """The number of patients (of images where patients are unknown) with which a true `difference` would be shown.

    `row` is one of comparisons.csv, from a test of `units`. None where no number is enough, since other seeds alone
    make differences of that size by chance: more repeats are needed.
    """
    seeds: float = row["seeds_error"] ** 2
    most = (difference / _distance(confidence, row["tests"], power)) ** 2
    if most <= seeds:
        return None
    of_patients: float = row["error"] ** 2 - seeds
    return math.ceil(units * of_patients / (most - seeds))


def plan(summary: dict[str, Any], difference: float, power: float) -> Iterator[str]:
    """For each experiment, what its test could have shown, and the number of patients for `difference`, as lines.

    `summary`: evaluation/summary.json. Errors: ParamsError where no difference is stated, MissingError where the study
    has no test to plan by.
    """
    rows = [row for row in summary["comparisons"] if row["role"] == "primary" and row["kind"] == "baseline"]
    known = [row for row in rows if row["error"] is not None and row["seeds_error"] is not None]
    _refuse(rows, known, difference, power)
    how, name = summary["intervals"], FIGURES[summary["primary"]]
    unit = "images" if how["patients"] is None else "patients"
    level = f"{100 * how['confidence']:g} % confidence"
    yield f"This study: {how['units']:,} test {unit}, {name}, {level}, {_corrected(known[0])}."
    yield f"{unit.capitalize()} needed to show a true difference of {difference:g} with a power of {100 * power:g} %:"
    for row in known:
        number = required_units(how["units"], row, difference, how["confidence"], power)
        shown = (
            f"{number:,}" if number is not None else "no number: other seeds alone differ by as much, take more repeats"
        )
        could = detectable_difference(row["error"], how["confidence"], row["tests"], power)
        yield f"    {row['first']:16} {shown:>10}    (these {how['units']:,}: a difference of {could:.3f})"
    yield "The shares of the classes, and how often two networks agree, are taken to stay as they are here."
    if known[0]["about"] != "settings":
        yield "Each experiment was trained once: the numbers are for these networks and leave out other seeds."


def _refuse(rows: list[dict[str, Any]], known: list[dict[str, Any]], difference: float, power: float) -> None:
    if not 0 < difference < 1:
        raise ParamsError(
            "say which difference matters, between 0 and 1: --difference 0.02, or evaluate.margin in params.yaml"
        )
    if not 0.5 <= power < 1:
        raise ParamsError(f"--power {power:g}: give a share from 0.5 to below 1, such as 0.8")
    if not known:
        reasons = {row["why"] for row in rows if row["why"]}
        why = f": {reasons.pop()}" if len(reasons) == 1 else ""
        raise MissingError(f"no experiment was tested against the baseline in a way that a size can be planned by{why}")


def _corrected(row: dict[str, Any]) -> str:
    return f"corrected for {row['tests']} experiments" if row["tests"] > 1 else "one experiment against the baseline"


def _distance(confidence: float, tests: int, power: float) -> float:
    """Between no difference and one that is found, in standard errors."""
    return float(stats.norm.isf((1 - confidence) / tests / 2) + stats.norm.ppf(power))
