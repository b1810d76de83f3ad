"""Calibration: slope and intercept, the smooth curve, what ECE is by chance, and net benefit."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from statistics_samples import config, drawn

from xraylab.evaluate.calibration import (
    Judged,
    Recalibration,
    calibrate,
    calibration_curve,
    ece,
    ece_by_chance,
    net_benefit,
    reliability,
    slope_and_intercept,
)
from xraylab.evaluate.samples import Sample


def judged(seed: int, patients: int, each: int, slope: float = 1.0, shift: float = 0.0) -> Judged:
    """Probabilities whose true slope and intercept are these, outcomes, and each image's patient."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(patients), each)
    logit = rng.normal(-0.5, 1.2, patients)[unit] + rng.normal(0, 0.9, patients * each)
    outcome = (rng.random(len(unit)) < 1 / (1 + np.exp(-logit))).astype(float)
    return Judged(1 / (1 + np.exp(-(logit - shift) / slope)), outcome, unit)


def test_slope_and_intercept_are_scikit_learns_logistic_regression() -> None:
    said = judged(0, 200, 1, slope=0.6)
    logit = np.log(said.probability / (1 - said.probability))
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], said.outcome)
    found = slope_and_intercept(said, 0.95)
    assert found.slope == pytest.approx(fit.coef_[0, 0], rel=1e-5)
    raised = 1 / (1 + np.exp(-(logit + found.intercept)))
    assert raised.sum() == pytest.approx(said.outcome.sum())  # what the fit of an intercept alone makes equal


def test_with_repeated_patients_the_variance_is_the_sandwich_of_patients() -> None:
    said = judged(1, 40, 3)
    probability, outcome, unit = said.probability, said.outcome, said.unit
    design = np.column_stack([np.ones(len(unit)), np.log(probability / (1 - probability))])
    found = slope_and_intercept(said, 0.95)
    beta = np.zeros(2)
    for _ in range(30):  # Newton's method
        p = 1 / (1 + np.exp(-design @ beta))
        bread = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))
        beta = beta + bread @ design.T @ (outcome - p)
    scores = np.array([(design * (outcome - p)[:, None])[unit == patient].sum(axis=0) for patient in range(40)])
    correction = 40 / 39 * (len(unit) - 1) / (len(unit) - 2)
    error = np.sqrt((bread @ scores.T @ scores @ bread)[1, 1] * correction)
    t = 2.0226909  # qt(0.975, 39) in R
    assert found.slope_ci_low == pytest.approx(beta[1] - t * error, rel=1e-5)
    assert found.slope_ci_high == pytest.approx(beta[1] + t * error, rel=1e-5)


@pytest.mark.parametrize(("patients", "each"), [(120, 1), (30, 3)])
def test_intervals_hold_the_true_slope_and_intercept_as_often_as_they_say(patients: int, each: int) -> None:
    """95 % of 150; 3 standard errors below it is 0.90."""
    held, times = np.zeros(2), 150
    for seed in range(times):
        found = slope_and_intercept(judged(seed, patients, each, slope=1.0, shift=0.3), 0.95)
        held += [found.slope_ci_low <= 1 <= found.slope_ci_high,
                 found.intercept_ci_low <= 0.3 <= found.intercept_ci_high]  # fmt: skip
    assert (held / times >= 0.90).all()


def test_the_smooth_curve_of_right_probabilities_has_the_diagonal_in_its_band() -> None:
    held = []
    for seed in range(60):
        table = calibration_curve(judged(seed, 300, 1), 0.95)
        held.append(((table["ci_low"] <= table["probability"]) & (table["probability"] <= table["ci_high"])).mean())
    assert np.mean(held) >= 0.90  # pointwise 95 %
    assert ((table["ci_low"] < table["observed"]) & (table["observed"] < table["ci_high"])).all()


def test_the_smooth_curve_of_too_extreme_probabilities_is_flatter_than_the_diagonal() -> None:
    table = calibration_curve(judged(0, 2000, 1, slope=0.4), 0.95)
    first, last = table.iloc[0], table.iloc[-1]
    assert first["observed"] > first["probability"] + 0.02
    assert last["observed"] < last["probability"] - 0.02


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], "fewer than 5 patients with or without the outcome"),
        ([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], "the probabilities separate the images perfectly"),
    ],
)
def test_what_cannot_be_fitted_says_why(outcome: list[int], why: str) -> None:
    said = Judged(np.linspace(0.05, 0.95, 10), np.array(outcome, float), np.arange(10))
    assert slope_and_intercept(said, 0.95) == Recalibration(why=why)
    assert calibration_curve(said, 0.95).empty


def test_ece_by_chance_is_what_right_probabilities_have() -> None:
    rng = np.random.default_rng(0)
    p, unit = rng.random(150), np.arange(150)
    expected, percentile = ece_by_chance(p, 10, seed=0)
    eces = [ece(reliability(Judged(p, (rng.random(150) < p) * 1.0, unit), 10)) for _ in range(400)]
    assert expected == pytest.approx(np.mean(eces), rel=0.03)
    assert percentile == pytest.approx(np.percentile(eces, 95), rel=0.06)
    assert ece_by_chance(np.array([0.0, 1.0]), 10, seed=0) == (0, 0)


def test_net_benefit_is_counted_by_hand_and_treating_all_loses_at_the_prevalence() -> None:
    sample = drawn(3, 2, images=80)
    table = net_benefit(sample, 1, None).set_index("threshold")
    for threshold in (0.1, 0.37, 0.8):
        called = sample.probabilities[:, 1] >= threshold
        right, wrong = (called & (sample.actual == 1)).mean(), (called & (sample.actual == 0)).mean()
        assert table.loc[threshold, "net_benefit"] == pytest.approx(right - wrong * threshold / (1 - threshold))
    assert table.loc[0.5, "treat_all"] == pytest.approx(0)  # half of them are positive
    assert list(table.index) == [round(each / 100, 2) for each in range(1, 100)]


def test_net_benefit_at_a_prevalence_is_that_of_a_sample_with_it() -> None:
    sample = drawn(3, 2, images=80)
    ninefold = np.concatenate([np.flatnonzero(sample.actual == 1), np.tile(np.flatnonzero(sample.actual == 0), 9)])
    diluted = Sample(sample.actual[ninefold], sample.probabilities[ninefold], np.full(len(ninefold), ""))
    found = net_benefit(sample, 1, np.array([0.9, 0.1]))
    np.testing.assert_allclose(found, net_benefit(diluted, 1, None), atol=1e-12)
    assert net_benefit(sample[sample.actual == 1], 1, None).empty


@pytest.mark.parametrize("classes", [2, 3])
def test_the_record_has_slope_and_chance_before_and_after(classes: int) -> None:
    scaling = calibrate(drawn(0, classes, 200), drawn(1, classes, 200), config(classes), 10)
    for part in (scaling.before, scaling.after):
        assert part.recalibration.slope_ci_low < part.recalibration.slope < part.recalibration.slope_ci_high
        assert 0 < part.ece_by_chance < part.ece_by_chance_p95 < 0.3


def test_a_spline_that_separates_what_a_line_does_not_has_no_curve_that_is_not_a_number() -> None:
    probability = np.concatenate([np.linspace(0.001, 0.01, 20), np.linspace(0.9, 0.999, 20), [0.0005]])
    outcome = np.concatenate([np.zeros(20), np.ones(21)])
    table = calibration_curve(Judged(probability, outcome, np.arange(41)), 0.95)
    assert np.isfinite(table.to_numpy(float)).all()
