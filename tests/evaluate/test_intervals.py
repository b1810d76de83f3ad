"""Intervals against statsmodels, R's formulas, a jackknife written out, and grids where simpler ones fail."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn import metrics
from statistics_samples import config, drawn
from statsmodels.api import OLS
from statsmodels.stats.proportion import proportion_confint

from xraylab.evaluate import intervals
from xraylab.evaluate.intervals import AurocSizes, Metric, Spread, metrics_with_intervals
from xraylab.evaluate.metrics import Key, compute_metrics, delong_components
from xraylab.evaluate.resampling import Jackknife, degrees_of_freedom, from_components, merge_strata, variance
from xraylab.evaluate.samples import Sample, group_by_patient
from xraylab.evaluate.study import MET, UNDECIDED, judge


@pytest.mark.parametrize(("part", "whole"), [(0, 1), (1, 1), (0, 20), (7, 20), (913, 920), (20, 20)])
def test_wilson_is_statsmodels(part: int, whole: int) -> None:
    for confidence in (0.9, 0.95):
        expected = proportion_confint(part, whole, alpha=1 - confidence, method="wilson")
        assert intervals.wilson(part, whole, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_as_published() -> None:
    """Newcombe, Stat Med 17 (1998) 857, table I: 81/263, 15/148, 0/20, 1/29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (part, whole), expected in published.items():
        assert intervals.wilson(part, whole, 0.95) == pytest.approx(expected, abs=5e-5)


def test_nothing_out_of_nothing_has_no_interval() -> None:
    assert intervals.wilson(0, 0, 0.95) is None


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_wilson_holds_the_truth_as_often_as_it_says(share: float) -> None:
    """The exact coverage for n = 150, summed over all outcomes."""
    outcomes = np.arange(151)
    ends = np.array([intervals.wilson(part, 150, 0.95) for part in outcomes])
    holds = (ends[:, 0] <= share) & (share <= ends[:, 1])
    assert 0.92 < stats.binom.pmf(outcomes, 150, share)[holds].sum() < 0.98


def _jackknife(positive: Any, scores: Any) -> float:
    """The variance of an AUROC from leaving out each image once, positives and negatives apart."""
    total = 0.0
    for kind in (True, False):
        members = np.flatnonzero(positive == kind)
        left_out = [metrics.roc_auc_score(np.delete(positive, member), np.delete(scores, member)) for member in members]
        total += (len(members) - 1) / len(members) * np.square(left_out - np.mean(left_out)).sum()
    return total


@pytest.mark.parametrize("seed", range(3))
def test_delongs_variance_is_the_jackknifes(seed: int) -> None:
    sample = drawn(seed, 2)
    sample = Sample(sample.actual, sample.probabilities.round(1), sample.patients)
    positive, scores = sample.actual == 1, sample.probabilities[:, 1]
    shares = delong_components(positive, scores)
    assert shares[positive].sum() == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert shares[~positive].sum() == pytest.approx(metrics.roc_auc_score(positive, scores))
    moved = Jackknife(sample, config(2)).influence(Key("B", "auroc"))
    assert moved is not None
    assert variance(moved) == pytest.approx(_jackknife(positive, scores))


def _obuchowski(positive: Any, scores: Any, unit: Any) -> float:
    """Biometrics 53 (1997) 567, as the paper writes it: sums over every pair of images, patient by patient."""

    def above(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    xs, ys = scores[positive], scores[~positive]
    m, n = len(xs), len(ys)
    area = sum(above(x, y) for x in xs for y in ys) / (m * n)
    by_patient = []
    for patient in np.unique(unit):
        own = [scores[(unit == patient) & kind] for kind in (positive, ~positive)]
        ten = sum(above(x, y) for x in own[0] for y in ys) / n - len(own[0]) * area
        one = sum(above(x, y) for y in own[1] for x in xs) / m - len(own[1]) * area
        by_patient.append((len(own[0]), len(own[1]), ten, one))
    table = np.array(by_patient)
    patients, with_x, with_y = len(table), (table[:, 0] > 0).sum(), (table[:, 1] > 0).sum()
    s10 = with_x / ((with_x - 1) * m) * np.square(table[:, 2]).sum()
    s01 = with_y / ((with_y - 1) * n) * np.square(table[:, 3]).sum()
    s11 = patients / (patients - 1) * (table[:, 2] * table[:, 3]).sum()
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("seed", range(3))
def test_the_variance_of_patients_with_several_images_is_obuchowskis(seed: int) -> None:
    sample = drawn(seed, 2, patients=18)
    moved = Jackknife(sample, config(2)).influence(Key("B", "auroc"))
    assert moved is not None
    expected = _obuchowski(sample.actual == 1, sample.probabilities[:, 1], sample.patients)
    assert variance(moved) == pytest.approx(expected)


def test_the_variance_of_a_mean_over_classes_is_that_of_independent_parts() -> None:
    """SampledAugmentation often from a large sample, the mean AUROC varies as one sample's variance says."""
    large = drawn(0, 3, images=30_000)
    rng, found = np.random.default_rng(1), []
    for _ in range(200):
        rows = np.concatenate([rng.choice(np.flatnonzero(large.actual == label), 40) for label in range(3)])
        part = Sample(large.actual[rows], large.probabilities[rows], large.patients[rows])
        influence = Jackknife(part, config(3)).influence(Key("macro", "auroc"))
        assert influence is not None
        found.append((compute_metrics(part, config(3))["macro", "auroc"], variance(influence)))
    means, variances = np.array(found).T
    assert np.mean(variances) == pytest.approx(np.var(means, ddof=1), rel=0.25)


@pytest.mark.parametrize(("m", "n"), [(20, 190), (5, 5), (40, 13)])
@pytest.mark.parametrize("auroc", [0.6, 0.9, 0.995])
def test_an_auroc_has_newcombes_interval(auroc: float, m: int, n: int) -> None:
    """As R's auRoc 0.2-1 writes the variance (its getVARmw), solved here for the ends."""

    def var(true: float) -> float:
        star = (m + n) / 2 - 1
        return true * (1 - true) * (1 + star * (1 - true) / (2 - true) + star * true / (1 + true)) / (m * n)

    def beyond(true: float) -> float:
        return abs(auroc - true) / np.sqrt(var(true)) - stats.norm.ppf(0.975)

    expected = [optimize.brentq(beyond, 1e-9, auroc), optimize.brentq(beyond, auroc, 1 - 1e-12)]
    sizes = AurocSizes([(m, n)], [(m, n)], [1.0])
    found = intervals.newcombe_auroc(auroc, Spread(var(auroc) / 2, 1e9), sizes, 0.95)
    assert found == pytest.approx(expected, abs=1e-7)
    wider = intervals.newcombe_auroc(auroc, Spread(4 * var(auroc), 1e9), sizes, 0.95)
    assert wider[0] < found[0]
    assert wider[1] > found[1]


def _perfect(positives: int, negatives: int, patients: int | None = None) -> Sample:
    actual = (np.arange(positives + negatives) < positives).astype(int)
    scores = np.where(actual == 1, 0.9, 0.1)
    names = (
        np.full(len(actual), "") if patients is None else np.array([f"{y}{i % patients}" for i, y in enumerate(actual)])
    )
    return Sample(actual, np.stack([1 - scores, scores], axis=1), names)


def _row(sample: Sample, of: str, name: str, classes: int = 2) -> Metric:
    rows = metrics_with_intervals(sample, config(classes))
    return next(row for row in rows if (row.class_, row.metric) == (of, name))


def test_every_perfect_order_has_an_interval_that_more_images_narrow() -> None:
    lows = {}
    for m, n in itertools.product((5, 6, 7, 9, 12, 17, 23, 31, 40, 90), repeat=2):
        row = _row(_perfect(m, n), "B", "auroc")
        assert (row.value, row.ci_high, row.ci_method) == (1, 1, "Newcombe, variance of DeLong")
        lows[m, n] = row.ci_low
        assert 0.3 < row.ci_low < 1 - 1e-3
    sizes = sorted({m for m, _ in lows})
    for smaller, larger in itertools.pairwise(sizes):
        assert all(lows[smaller, n] < lows[larger, n] and lows[n, smaller] < lows[n, larger] for n in sizes)
    sizes = AurocSizes([(7, 9)], [(7, 9)], [1.0])
    wrong, right = (intervals.newcombe_auroc(auroc, Spread(0.0, 9), sizes, 0.95) for auroc in (0.0, 1.0))
    assert wrong == pytest.approx((0, 1 - right[0]))


@pytest.mark.parametrize("spread", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("truth", [0.8, 0.95, 0.99])
def test_the_interval_of_a_perfect_order_seldom_misses_the_truth(truth: float, spread: float) -> None:
    """How often the order is perfect although the interval does not hold the truth."""
    rng, times = np.random.default_rng(0), 1000
    apart = stats.norm.ppf(truth) * np.sqrt(1 + spread**2)
    for m, n in itertools.product((5, 12, 40), repeat=2):
        sizes = AurocSizes([(m, n)], [(m, n)], [1.0])
        low, _ = intervals.newcombe_auroc(1.0, Spread(0.0, min(m, n) - 1), sizes, 0.95)
        ours, theirs = spread * rng.normal(size=(times, m)) + apart, rng.normal(size=(times, n))
        perfect = ours.min(axis=1) > theirs.max(axis=1)
        assert perfect.mean() * (low > truth) <= 0.07


def test_a_goal_is_not_met_by_a_perfect_order_of_few_images() -> None:
    for each, verdict in ((20, UNDECIDED), (60, UNDECIDED), (400, MET)):
        row = _row(_perfect(each, each), "B", "auroc")
        assert judge(row, 0.99, at_least=True) == verdict


def test_where_patients_repeat_a_perfect_order_is_that_of_its_patients() -> None:
    many, alone = _row(_perfect(40, 40, patients=8), "B", "auroc"), _row(_perfect(8, 8), "B", "auroc")
    assert (many.ci_low, many.ci_high) == pytest.approx((alone.ci_low, alone.ci_high))
    low = pytest.approx(proportion_confint(80, 80, method="wilson")[0])
    expected = Metric("overall", "accuracy", 1.0, low, pytest.approx(1.0), "Wilson of patients", 190, None)
    assert _row(_perfect(95, 95, patients=40), "overall", "accuracy") == expected


def test_an_order_without_mistakes_or_sense_has_no_variance_whatever_the_rounding() -> None:
    for positives, negatives in itertools.product((2, 3, 7, 11, 29, 40), repeat=2):
        positive = np.arange(positives + negatives) < positives
        for scores in (positive + 0.0, 1.0 - positive, np.zeros(len(positive))):
            shares = delong_components(positive, scores)
            of = np.arange(len(positive))
            assert variance(from_components(shares, positive.astype(np.int64), of)) == 0


def test_one_pair_in_the_wrong_order_among_very_many_images_has_a_variance() -> None:
    scores = np.arange(200_000.0)
    scores[[99_999, 100_000]] = scores[[100_000, 99_999]]
    positive = np.arange(200_000) >= 100_000
    shares = delong_components(positive, scores)
    moved = from_components(shares, positive.astype(np.int64), np.arange(200_000))
    assert variance(moved) > 0


def test_a_proportion_by_patient_has_the_variance_of_cluster_robust_regression() -> None:
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 14, 60)
    right = (rng.random(60) < 0.8).astype(float)
    fitted = OLS(right, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": unit, "use_correction": True})
    error, share = float(fitted.bse[0]), right.mean()
    half = stats.t.ppf(0.975, 13) * error / (share * (1 - share))
    expected = 1 / (1 + np.exp(-(np.log(share / (1 - share)) + np.array([-half, half]))))
    found, by = intervals.clustered_proportion(np.bincount(unit, right), np.bincount(unit).astype(float), 0.95)
    assert by == "logit t of patients"
    assert found == pytest.approx(tuple(expected))


@pytest.mark.parametrize(
    ("scale", "value", "expected"),
    [
        ("logit", 0.8, lambda half: stats.logistic.cdf(stats.logistic.ppf(0.8) + half / (0.8 * 0.2))),
        ("atanh", 0.5, lambda half: np.tanh(np.arctanh(0.5) + half / (1 - 0.25))),
        ("log", 0.3, lambda half: 0.3 * np.exp(half / 0.3)),
    ],
)
def test_other_metrics_have_a_t_interval_on_their_scale(scale: str, value: float, expected: Any) -> None:
    half = stats.t.ppf(0.95, 7) * 0.05
    found = intervals.t_interval(value, Spread(0.05**2, 7), 0.9, scale)
    assert found == pytest.approx((expected(-half), expected(half)), rel=1e-6)
    assert intervals.t_interval(value, Spread(0.0, 7), 0.9, scale) is None


def test_the_ends_of_a_scale_have_no_interval() -> None:
    for scale, ends in (("logit", (0.0, 1.0)), ("atanh", (-1.0, 1.0)), ("log", (0.0,))):
        assert [intervals.t_interval(end, Spread(0.1, 7), 0.95, scale) for end in ends] == [None] * len(ends)


@pytest.mark.parametrize("patients", [None, 25])
@pytest.mark.parametrize(("classes", "key"), [(2, ("B", "f1")), (3, ("macro", "f1")), (3, ("overall", "mcc"))])
def test_the_jackknife_leaves_out_each_patient_within_its_stratum(
    classes: int, key: tuple[str, str], patients: int | None
) -> None:
    sample = drawn(2, classes, patients=patients)
    strata, of = merge_strata(sample.units.strata, 5), sample.units.of_image
    total = 0.0
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        left_out = []
        for unit in members:
            actual, predicted = sample.actual[of != unit], sample.predicted[of != unit]
            average = "binary" if classes == 2 else "macro"
            score = metrics.f1_score(actual, predicted, average=average)
            left_out.append(score if key[1] == "f1" else metrics.matthews_corrcoef(actual, predicted))
        total += (len(members) - 1) / len(members) * np.square(left_out - np.mean(left_out)).sum()
    moved = Jackknife(sample, config(classes)).influence(Key(*key))
    assert moved is not None
    assert variance(moved) == pytest.approx(total)


def test_losses_have_the_variance_of_a_mean() -> None:
    sample = drawn(0, 2)
    moved = Jackknife(sample, config(2)).influence(Key("overall", "log_loss"))
    assert moved is not None
    losses = -np.log(sample.probabilities[np.arange(60), sample.actual])
    each = [losses[sample.actual == label] for label in (0, 1)]
    assert variance(moved) == pytest.approx(sum(29**2 / 30 * own.var(ddof=1) for own in each) / 59**2)
    assert 29 <= degrees_of_freedom(moved) <= 58


def test_strata_of_fewer_than_five_are_taken_together() -> None:
    merged = merge_strata(np.array([0] * 7 + [1] * 2 + [2] * 3 + [3] * 6), 5)
    assert [len(set(merged[part])) for part in (slice(0, 7), slice(7, 12), slice(12, 18))] == [1, 1, 1]
    assert len(set(merged)) == 3
    assert set(merge_strata(np.array([0, 0, 1, 2]), 5)) == {0}
    assert merge_strata(np.array([0] * 5 + [1] * 9 + [2]), 5).tolist() == [0] * 5 + [1] * 9 + [0]
    assert len(set(merge_strata(np.arange(40), 5))) == 1


def _by(sample: Sample, classes: int) -> dict[tuple[str, str], str | None]:
    return {(row.class_, row.metric): row.ci_method for row in metrics_with_intervals(sample, config(classes))}


def test_each_metric_says_how_its_interval_was_made() -> None:
    alone, repeat = _by(drawn(0, 3), 3), _by(drawn(0, 3, patients=20), 3)
    assert (alone["overall", "accuracy"], alone["A", "ppv"]) == ("Wilson", "Wilson")
    assert {alone["A", "auroc"], alone["macro", "auroc"]} == {"Newcombe, variance of DeLong"}
    assert {repeat["A", "auroc"], repeat["macro", "auroc"]} == {"Newcombe, variance of Obuchowski"}
    assert (alone["A", "f1"], alone["overall", "brier"]) == (
        "jackknife of images, logit t",
        "jackknife of images, log t",
    )
    assert (repeat["overall", "accuracy"], repeat["macro", "f1"]) == (
        "logit t of patients",
        "jackknife of patients, logit t",
    )
    assert repeat["overall", "kappa"] == "jackknife of patients, atanh t"


def test_every_patient_once_is_as_good_as_patients_unknown() -> None:
    unknown = drawn(0, 2)
    known = Sample(unknown.actual, unknown.probabilities, np.arange(60).astype(str))
    assert _by(known, 2) == _by(unknown, 2)
    assert unknown.units.description == "patients are unknown, so each image counts as one patient"
    assert (known.units.description, known.units.patients) == ("each image is of another patient", 60)
    assert drawn(0, 2, patients=9).units.description == "a patient counts once, with all images"


def test_images_without_a_patient_among_others_stand_alone() -> None:
    found = group_by_patient(np.array([0, 0, 1, 1, 0]), np.array(["a", "", "a", "b", ""]))
    assert found.of_image[0] == found.of_image[2]
    assert (len(set(found.of_image)), found.patients, found.clustered) == (4, 2, True)
    assert len(set(found.strata)) == 3  # a has both labels, b one, the others the other


def test_fewer_than_five_patients_of_a_class_have_no_interval_and_say_so() -> None:
    actual = np.array([1] * 12 + [0] * 12)
    rng = np.random.default_rng(0)
    scores = np.clip(0.5 + 0.3 * (actual - 0.5) + 0.2 * rng.normal(size=24), 0.01, 0.99)
    names = np.array([f"p{i // 3}" for i in range(12)] + [f"n{i}" for i in range(12)])
    found = {
        (row.class_, row.metric): (row.ci_low is None, row.why)
        for row in metrics_with_intervals(Sample(actual, np.stack([1 - scores, scores], axis=1), names), config(2))
    }
    few = (True, "only 4 patients of B; at least 5 are needed")
    assert {found[key] for key in (("B", "auroc"), ("B", "sensitivity"), ("B", "f1"), ("overall", "accuracy"))} == {few}
    assert found["B", "specificity"] == (False, None)
    unknown = Sample(actual[8:], np.stack([1 - scores, scores], axis=1)[8:], np.full(16, ""))
    assert _row(unknown, "B", "sensitivity").why == "only 4 images of B; at least 5 are needed"


def test_a_run_without_a_single_mistake_keeps_the_intervals_that_hold_and_claims_no_other() -> None:
    actual = np.arange(20) % 2
    sample = Sample(actual, np.where(np.eye(2)[actual] == 1, 0.9, 0.1), np.full(20, ""))
    accuracy, auroc = _row(sample, "overall", "accuracy"), _row(sample, "B", "auroc")
    assert accuracy.ci_low == pytest.approx(proportion_confint(20, 20, method="wilson")[0])
    assert 0.6 < auroc.ci_low < auroc.ci_high == 1
    for of, metric in (("B", "f1"), ("overall", "mcc")):
        row = _row(sample, of, metric)
        assert (row.value, row.ci_low, row.ci_high, row.ci_method) == (1, None, None, None)
        assert row.why == "every patient has the same of it, so nothing tells how it varies"


def test_a_single_image_has_metrics_and_no_made_up_intervals() -> None:
    sample = Sample(np.array([1]), np.array([[0.2, 0.8]]), np.array([""]))
    found = {(row.class_, row.metric): row for row in metrics_with_intervals(sample, config(2))}
    assert {row.ci_low for row in found.values()} == {None}
    assert [found["B", name].value for name in ("specificity", "auroc")] == [None, None]
    assert found["overall", "brier"].value == pytest.approx(0.04)
