"""How many test images a study would need, and which difference its test could have shown at all.

Wald's test of a paired difference whose standard error is known from this study: the part of its variance that comes
from patients falls with their number, the part of other seeds does not (Obuchowski, AJR 175 (2000) 603). The variance
holds how often the two networks agree, so nothing is assumed of that but that it stays as it is.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from xraylab import files
from xraylab.errors import MissingError, ParamsError
from xraylab.evaluate.significance import METRICS

POWER = 0.8


@dataclass(frozen=True)
class Pilot:
    """A difference of an experiment from the baseline, one of `tests` that were tested together."""

    experiment: str
    error: float  # standard error
    seeds_error: float  # the part of other seeds in it
    tests: int


def detectable_difference(error: float, confidence: float, tests: int, power: float = POWER) -> float:
    """The true difference that a test with this standard error shows with a chance of `power`.

    `tests`: the number of differences that are tested together, the level of each being its share of 1 - `confidence`.
    """
    return _distance(confidence, tests, power) * error


def required_units(n_units: int, tested: Pilot, difference: float, confidence: float, power: float) -> int | None:
    """The number of patients (of images where patients are unknown) with which a true `difference` would be shown.

    `tested` is from a test of `n_units`. None where no number is enough, since other seeds alone make differences of
    that size by chance: more repeats are needed.
    """
    of_seeds = tested.seeds_error**2
    most = (difference / _distance(confidence, tested.tests, power)) ** 2
    if most <= of_seeds:
        return None
    return math.ceil(n_units * (tested.error**2 - of_seeds) / (most - of_seeds))


def read_and_plan(path: Path, difference: float, power: float) -> list[str]:
    """`plan` of evaluation/summary.json. Errors: as `plan`; DataError where the file is not as `evaluate` wrote it."""
    summary = files.read_json(path)
    with files.parsing(path):
        return list(plan(summary, difference, power))


def plan(summary: dict[str, Any], difference: float, power: float) -> Iterator[str]:
    """For each experiment, what its test could have shown, and the number of patients for `difference`, as lines.

    `summary`: evaluation/summary.json. Errors: ParamsError where no difference is stated, MissingError where the study
    has no test to plan by.
    """
    rows = [row for row in summary["comparisons"] if row["role"] == "primary" and row["kind"] == "baseline"]
    tested = [
        Pilot(row["first"], row["error"], row["seeds_error"], row["tests"])
        for row in rows
        if row["error"] is not None and row["seeds_error"] is not None
    ]
    _refuse(rows, tested, difference, power)
    study, n_units = summary["intervals"], summary["intervals"]["units"]
    unit, level = "images" if study["patients"] is None else "patients", study["confidence"]
    tests = (
        f"corrected for {tested[0].tests} experiments" if tested[0].tests > 1 else "one experiment against the baseline"
    )
    yield f"This study: {n_units:,} test {unit}, {METRICS[summary['primary']]}, {100 * level:g} % confidence, {tests}."
    yield f"{unit.capitalize()} needed to show a true difference of {difference:g} with a power of {100 * power:g} %:"
    for each in tested:
        number = required_units(n_units, each, difference, level, power)
        needed = (
            "no number: other seeds alone differ by as much, take more repeats" if number is None else f"{number:,}"
        )
        could = detectable_difference(each.error, level, each.tests, power)
        yield f"    {each.experiment:16} {needed:>10}    (these {n_units:,}: a difference of {could:.3f})"
    yield "The shares of the classes, and how often two networks agree, are taken to stay as they are here."
    if any(row["about"] != "settings" for row in rows):
        yield "Each experiment was trained once: the numbers are for these networks and leave out other seeds."


def _refuse(rows: list[dict[str, Any]], tested: Sequence[Pilot], difference: float, power: float) -> None:
    if not 0 < difference < 1:
        raise ParamsError(
            "say which difference matters, between 0 and 1: --difference 0.02, or evaluate.margin in params.yaml"
        )
    if not 0.5 <= power < 1:
        raise ParamsError(f"--power {power:g}: give a share from 0.5 to below 1, such as 0.8")
    if not tested:
        reasons = {row["why"] for row in rows if row["why"]}
        why = f": {reasons.pop()}" if len(reasons) == 1 else ""
        raise MissingError(f"no experiment was tested against the baseline in a way that a size can be planned by{why}")


def _distance(confidence: float, tests: int, power: float) -> float:
    """Between no difference and one that is found, in standard errors."""
    return float(stats.norm.isf((1 - confidence) / tests / 2) + stats.norm.ppf(power))
