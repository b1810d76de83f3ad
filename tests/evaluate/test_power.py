"""How many patients a study needs: planned sizes have the power they promise, and what cannot be planned says why."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statistics_samples import config

from xraylab.errors import MissingError, ParamsError
from xraylab.evaluate import power
from xraylab.evaluate.power import Pilot
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.significance import Difference, compare_runs

ROW = {"kind": "baseline", "role": "primary", "about": "settings", "first": "l2", "tests": 1, "why": None}


def pair(rng: np.random.Generator, images: int, better: float) -> list[Sample]:
    """Two networks on the same images, half of either class, their errors alike; the first is better."""
    actual = np.arange(images) % 2
    common = rng.normal(size=images)
    samples = []
    for skill in (1.2 + better, 1.2):
        logit = skill * actual + 0.8 * common + 0.6 * rng.normal(size=images)
        p = stats.norm.cdf(logit)
        samples.append(Sample(actual, np.column_stack([1 - p, p]), np.full(images, "")))
    return samples


def compared(samples: list[Sample]) -> Difference:
    return next(row for row in compare_runs(*samples, config(2, n_permutations=10)) if row.metric == "auroc")


def test_a_planned_number_of_images_has_the_power_it_promises() -> None:
    rng = np.random.default_rng(0)
    # from one large sample: the truth, and what a pilot would see
    pilot = compared(pair(rng, 40_000, 0.25))
    tested = Pilot("l2", pilot.error, pilot.seeds_error, 1)
    size = power.required_units(40_000, tested, pilot.difference, 0.95, 0.8)
    assert size is not None
    assert 100 < size < 3000
    found = [compared(pair(rng, size, 0.25)).p < 0.05 for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)  # three standard errors of 300 draws
    now = power.detectable_difference(pilot.error * np.sqrt(40_000 / size), 0.95, 1)
    assert now == pytest.approx(pilot.difference, rel=0.01)


def test_the_size_of_a_difference_of_two_means_is_the_textbooks() -> None:
    """Standard deviation 1, difference 0.5, power 0.9: (1.95996 + 1.28155)^2 / 0.25 = 42.03 pairs."""
    tested = Pilot("l2", 0.1, 0.0, 1)  # of 100 pairs
    assert power.required_units(100, tested, 0.5, 0.95, 0.9) == 43
    assert (
        power.required_units(100, replace(tested, tests=5), 0.5, 0.95, 0.9) == 60
    )  # (2.57583 + 1.28155)^2 / 0.25 = 59.5


def test_where_seeds_alone_differ_as_much_no_number_of_patients_is_enough() -> None:
    tested = Pilot("l2", 0.02, 0.01, 1)
    assert power.required_units(100, tested, 0.028, 0.95, 0.8) is None  # 2.8 standard errors of the seeds
    many = power.required_units(100, tested, 0.0285, 0.95, 0.8)
    assert many is not None
    assert many > 5000


def summary(**row: Any) -> dict[str, Any]:
    return {
        "primary": "auroc",
        "intervals": {"units": 160, "patients": None, "confidence": 0.95},
        "comparisons": [ROW | row],
    }


def test_the_plan_names_what_was_tested_and_what_it_leaves_out() -> None:
    told = list(power.plan(summary(error=0.02, seeds_error=0.0, about="trained networks"), 0.03, 0.8))
    assert told[0] == "This study: 160 test images, AUROC, 95 % confidence, one experiment against the baseline."
    assert told[2].split() == ["l2", "559", "(these", "160:", "a", "difference", "of", "0.056)"]
    assert told[-1].startswith("Each experiment was trained once")
    assert not list(power.plan(summary(error=0.02, seeds_error=0.0), 0.03, 0.8))[-1].startswith("Each")


def test_what_cannot_be_planned_says_why() -> None:
    with pytest.raises(ParamsError, match="say which difference matters"):
        list(power.plan(summary(error=0.02, seeds_error=0.0), 0.0, 0.8))
    with pytest.raises(ParamsError, match="give a share"):
        list(power.plan(summary(error=0.02, seeds_error=0.0), 0.02, 80))
    with pytest.raises(MissingError, match="fewer than 5 patients of TB"):
        list(power.plan(summary(error=None, seeds_error=None, why="fewer than 5 patients of TB"), 0.02, 0.8))
