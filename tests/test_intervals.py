"""Intervals against statsmodels, a jackknife and a slow loop, and by how often they hold what they should."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from statistics_samples import asked, drawn, matrix_of
from statsmodels.stats.proportion import proportion_confint

from xraylab.evaluate import bootstrap, delong, estimates, goals, intervals, rates, values
from xraylab.evaluate.units import Sample, units

SLOW = 20  # draws that the slow loop looks at


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


def test_percentiles_are_numpys_and_a_figure_that_never_changes_has_none() -> None:
    draws = np.arange(101.0)
    assert intervals.percentile(draws, 0.9) == pytest.approx((5, 95))
    assert intervals.percentile(np.ones(100), 0.95) is None
    draws[:5] = np.nan
    assert intervals.percentile(draws, 0.9) == pytest.approx(np.nanquantile(draws, [0.05, 0.95]))
    draws[5] = np.nan
    assert intervals.percentile(draws, 0.9) is None


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
    positive, scores = sample.actual == 1, sample.probabilities[:, 1].round(1)
    shares = delong.shares(positive, scores)
    assert shares[positive].sum() == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert shares[~positive].sum() == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert delong.variance(shares, sample.actual) == pytest.approx(_jackknife(positive, scores))


def test_the_variance_of_a_mean_over_classes_is_that_of_independent_parts() -> None:
    """Drawn often from a large sample, the mean AUROC varies as one sample's variance says."""
    large = drawn(0, 3, images=30_000)
    rng, found = np.random.default_rng(1), []
    for _ in range(200):
        rows = np.concatenate([rng.choice(np.flatnonzero(large.actual == label), 40) for label in range(3)])
        part = Sample(large.actual[rows], large.probabilities[rows], large.patients[rows])
        shares = estimates.mean_shares([estimates.auroc_shares(part, label) for label in range(3)])
        assert shares is not None
        found.append((shares.sum() / 2, delong.variance(shares, part.actual)))
    means, variances = np.array(found).T
    assert np.mean(variances) == pytest.approx(np.var(means, ddof=1), rel=0.25)


def test_a_perfect_order_has_no_interval_and_one_image_of_a_class_none_either() -> None:
    assert delong.interval(1.0, 0.0, 0.95) is None
    alone = delong.shares(np.array([True, False, False]), np.array([0.5, 0.4, 0.6]))
    assert delong.interval(0.5, delong.variance(alone, np.array([1, 0, 0])), 0.95) is None


def test_an_order_that_is_perfect_wrong_or_constant_has_no_variance_whatever_the_rounding() -> None:
    for positives, negatives in itertools.product(range(1, 41), repeat=2):
        positive = np.arange(positives + negatives) < positives
        for scores in (positive + 0.0, 1.0 - positive, np.zeros(len(positive))):
            variance = delong.variance(delong.shares(positive, scores), positive.astype(int))
            assert np.isnan(variance) if min(positives, negatives) == 1 else variance == 0
            assert delong.interval(0.5, variance, 0.95) is None
            assert delong.test(0.0, variance, 0.95) is None


def test_one_pair_in_the_wrong_order_among_very_many_images_has_a_variance() -> None:
    scores = np.arange(200_000.0)
    scores[[99_999, 100_000]] = scores[[100_000, 99_999]]
    positive = np.arange(200_000) >= 100_000
    assert delong.variance(delong.shares(positive, scores), positive.astype(int)) > 0


@pytest.mark.parametrize("classes", [2, 3])
def test_a_perfect_and_a_wrong_order_have_the_exact_interval_of_disjoint_pairs(classes: int) -> None:
    actual = np.repeat(np.arange(classes), [7, 9, 11][:classes])
    perfect = np.full((len(actual), classes), 0.1)
    perfect[np.arange(len(actual)), actual] = 0.8
    whose = ["B"] if classes == 2 else ["A", "B", "C", "macro"]
    low, high = proportion_confint(7, 7, method="beta")
    smallest = {"A": (7, 7), "B": (7, 7) if classes == 2 else (9, 9), "C": (11, 11), "macro": (7, 7)}
    for probabilities, value in ((perfect, 1), (1 - perfect, 0)):
        sample = Sample(actual, probabilities, np.full(len(actual), ""))
        rows = {(row["of"], row["figure"]): row for row in estimates.estimates(sample, asked(classes))}
        for name in whose:
            row = rows[name, "auroc"]
            low, high = proportion_confint(*smallest[name], method="beta")
            expected = (low, high) if value else (1 - high, 1 - low)
            assert (row["value"], row["by"]) == (value, "Clopper-Pearson of pairs")
            assert (row["low"], row["high"]) == pytest.approx(expected, abs=1e-9)


def test_a_constant_order_and_a_perfect_one_of_repeated_patients_have_no_interval() -> None:
    actual = np.arange(24) % 2
    for classes, score, patients in ((2, np.full(24, 0.5), ""), (2, actual + 0.0, "p")):
        names = np.array([f"p{number // 2}" if patients else "" for number in range(24)])
        sample = Sample(actual, np.stack([1 - score, score], axis=1), names)
        rows = {(row["of"], row["figure"]): row for row in estimates.estimates(sample, asked(classes))}
        assert (rows["B", "auroc"]["low"], rows["B", "auroc"]["high"]) == (None, None)
        # and a goal is not judged on it
        judged = [rows["B", "auroc"] | {"experiment": "a", "repeat": 0, "chosen_on": "valid"}]
        assert goals.rows(judged, {"auroc": 0.4}, {})[0]["verdict"] == goals.UNDECIDED


def test_a_goal_is_met_by_a_perfect_order_of_enough_images_alone() -> None:
    for each, verdict in ((20, goals.UNDECIDED), (366, goals.UNDECIDED), (368, goals.MET)):  # 0.025 ** (1 / 367) = 0.99
        ends = delong.exact_interval(1.0, each, 0.95)
        assert ends is not None
        assert goals.judged(1.0, *ends, 0.99, at_least=True) == verdict


@pytest.mark.parametrize("spread", [0.4, 1.0])
@pytest.mark.parametrize("truth", [0.8, 0.95, 0.99])
def test_the_exact_interval_of_a_perfect_order_seldom_misses_the_truth(truth: float, spread: float) -> None:
    """How often the order is perfect and the interval misses: normal scores, and the worst case in closed form."""
    rng, times = np.random.default_rng(0), 1000
    apart = stats.norm.ppf(truth) * np.sqrt(1 + spread**2)
    for positives, negatives in itertools.product((1, 2, 5, 12, 40), repeat=2):
        perfect = (spread * rng.normal(size=(times, positives)) + apart).min(axis=1) > rng.normal(
            size=(times, negatives)
        ).max(axis=1)
        ends = delong.exact_interval(1.0, min(positives, negatives), 0.95)
        assert ends is not None
        misses = ends[0] > truth
        assert (perfect & misses).mean() <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / times)
        # a share of 1 - truth of the rarer kind lies on the wrong side of all of the other
        assert truth ** min(positives, negatives) * misses <= 0.025 + 1e-12


@pytest.mark.parametrize("apart", [0.7, 2.0])
def test_delong_holds_the_truth_as_often_as_it_says(apart: float) -> None:
    """Two normal distributions: the AUROC is Phi(d / sqrt 2)."""
    truth, rng, held = stats.norm.cdf(apart / np.sqrt(2)), np.random.default_rng(0), 0
    positive = np.arange(120) < 40
    for _ in range(400):
        scores = rng.normal(size=120) + apart * positive
        shares = delong.shares(positive, scores)
        ends = delong.interval(shares.sum() / 2, delong.variance(shares, positive.astype(int)), 0.95)
        held += ends is not None and ends[0] <= truth <= ends[1]
    assert 0.925 < held / 400 < 0.98


def _rows(sample: Sample, times: Any) -> Sample:
    """The images of one draw, written out."""
    rows = np.repeat(np.arange(len(sample.actual)), times[sample.units.of].astype(int))
    return Sample(sample.actual[rows], sample.probabilities[rows], sample.patients[rows])


@pytest.mark.parametrize("classes", [2, 3])
def test_draws_by_patient_are_those_of_a_slow_loop(classes: int) -> None:
    sample, given = drawn(3, classes, images=80, patients=30), asked(classes, draws=SLOW)
    weights = np.concatenate(list(bootstrap.weights(sample.units, SLOW, 0)))
    for key, fast in estimates.draws(sample, given):
        slow = [values.values(_rows(sample, times), given)[key] for times in weights]
        np.testing.assert_allclose(fast, slow, err_msg=str(key))


def test_draws_of_probabilities_are_scikit_learns_on_the_rows_of_each_draw() -> None:
    sample, given = drawn(3, 2), asked(2, draws=SLOW)
    found = dict(estimates.draws(sample, given))
    for number, times in enumerate(np.concatenate(list(bootstrap.weights(sample.units, SLOW, 0)))):
        rows = _rows(sample, times)
        auroc = metrics.roc_auc_score(rows.actual == 1, rows.probabilities[:, 1])
        assert found["B", "auroc"][number] == pytest.approx(auroc)
        assert found["overall", "log_loss"][number] == pytest.approx(metrics.log_loss(rows.actual, rows.probabilities))


def test_every_draw_has_as_many_patients_of_each_set_of_labels() -> None:
    sample = drawn(3, 3, images=80, patients=30)
    strata = sample.units.strata
    for weights in bootstrap.weights(sample.units, 30, 0):
        for stratum in np.unique(strata):
            assert set(weights[:, strata == stratum].sum(axis=1)) == {(strata == stratum).sum()}
    sets = {number: frozenset(sample.actual[sample.units.of == number]) for number in range(len(strata))}
    assert len(set(sets.values())) == len(np.unique(strata))
    assert all(
        len({sets[number] for number in np.flatnonzero(strata == stratum)}) == 1 for stratum in np.unique(strata)
    )


def test_matrices_of_independent_images_are_distributed_as_drawn_rows_are() -> None:
    sample = drawn(1, 3)
    fast = bootstrap.matrices(sample.actual, sample.predicted, 3, sample.units, 4000, 0)
    assert (fast.sum(axis=2) == 20).all()
    rng, slow = np.random.default_rng(1), []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(np.flatnonzero(sample.actual == label), 20) for label in range(3)])
        slow.append(matrix_of(sample.actual[rows], sample.predicted[rows], 3))
    np.testing.assert_allclose(fast.mean(axis=0), np.mean(slow, axis=0), atol=0.2)
    np.testing.assert_allclose(fast.var(axis=0), np.var(slow, axis=0), rtol=0.15, atol=0.05)


def test_patients_who_repeat_widen_the_interval_as_much_as_the_truth_varies() -> None:
    """Patients of five images that are mostly all right or all wrong: drawing images holds the truth far too rarely."""
    rng, held = np.random.default_rng(0), {"patients": 0, "images": 0}
    for _ in range(150):
        right = np.repeat(rng.beta(0.4, 0.1, 60), 5) > rng.random(300)
        actual = np.repeat(np.arange(60) % 2, 5)
        predicted = np.where(right, actual, 1 - actual)
        names = {"patients": np.repeat(np.arange(60), 5).astype(str), "images": np.full(300, "")}
        for who, patients in names.items():
            drawn_ = bootstrap.matrices(actual, predicted, 2, units(actual, patients), 300, 0)
            ends = intervals.percentile(np.trace(drawn_, axis1=1, axis2=2) / 300, 0.95)
            held[who] += ends is not None and ends[0] <= 0.8 <= ends[1]
    assert 0.89 < held["patients"] / 150 <= 0.99
    assert held["images"] / 150 < 0.8


def test_the_bootstrap_of_f1_holds_the_truth_as_often_as_it_says() -> None:
    """60 of 160 positive, sensitivity 0.8 and specificity 0.9: F1 is 2 * 48 / (2 * 48 + 10 + 12)."""
    actual, rng, held = (np.arange(160) < 60).astype(int), np.random.default_rng(0), 0
    for seed in range(200):
        predicted = (rng.random(160) < np.where(actual == 1, 0.8, 0.1)).astype(int)
        drawn_ = bootstrap.matrices(actual, predicted, 2, units(actual, np.full(160, "")), 400, seed)
        ends = intervals.percentile(rates.per_class(drawn_)["f1"][:, 1], 0.95)
        held += ends is not None and ends[0] <= 96 / 118 <= ends[1]
    assert 0.9 < held / 200 < 0.985


def test_another_seed_draws_otherwise_and_the_same_seed_the_same() -> None:
    sample = drawn(0, 2, patients=20)
    first, again, other = (estimates.estimates(sample, asked(2, seed=seed))[0] for seed in (0, 0, 1))
    assert first == again
    assert (first["low"], first["high"]) != (other["low"], other["high"])


def _by(sample: Sample, classes: int) -> dict[tuple[str, str], str | None]:
    return {(row["of"], row["figure"]): row["by"] for row in estimates.estimates(sample, asked(classes))}


def test_each_figure_says_how_its_interval_was_made() -> None:
    alone, repeat = _by(drawn(0, 3), 3), _by(drawn(0, 3, patients=20), 3)
    assert (alone["overall", "accuracy"], alone["A", "ppv"]) == ("Wilson", "Wilson")
    assert (alone["A", "auroc"], alone["macro", "auroc"]) == ("DeLong", "DeLong")
    assert (alone["A", "f1"], alone["overall", "brier"]) == ("bootstrap of images", "bootstrap of images")
    assert set(repeat.values()) == {"bootstrap of patients"}


def test_every_patient_once_is_as_good_as_patients_unknown() -> None:
    unknown = drawn(0, 2)
    known = Sample(unknown.actual, unknown.probabilities, np.arange(60).astype(str))
    assert _by(known, 2) == _by(unknown, 2)
    assert unknown.units.why == "patients are unknown, so each image counts as one patient"
    assert (known.units.why, known.units.patients) == ("each image is of another patient", 60)
    assert drawn(0, 2, patients=9).units.why == "patients are drawn with all their images"


def test_images_without_a_patient_among_others_stand_alone() -> None:
    found = units(np.array([0, 0, 1, 1, 0]), np.array(["a", "", "a", "b", ""]))
    assert found.of[0] == found.of[2]
    assert (len(set(found.of)), found.patients, found.repeat) == (4, 2, True)
    assert len(set(found.strata)) == 3  # a has both labels, b one, the others the other


def test_a_run_without_a_single_mistake_keeps_exact_intervals_and_claims_no_other() -> None:
    actual = np.arange(20) % 2
    sample = Sample(actual, np.where(np.eye(2)[actual] == 1, 0.9, 0.1), np.full(20, ""))
    found = {(row["of"], row["figure"]): row for row in estimates.estimates(sample, asked(2))}
    assert found["overall", "accuracy"]["low"] == pytest.approx(proportion_confint(20, 20, method="wilson")[0])
    assert (found["B", "auroc"]["low"], found["B", "auroc"]["high"]) == pytest.approx((0.025**0.1, 1))
    for key in (("B", "f1"), ("overall", "mcc")):
        assert (found[key]["value"], found[key]["low"], found[key]["high"], found[key]["by"]) == (1, None, None, None)


def test_a_single_image_has_figures_and_no_made_up_intervals() -> None:
    sample = Sample(np.array([1]), np.array([[0.2, 0.8]]), np.array([""]))
    found = {(row["of"], row["figure"]): row for row in estimates.estimates(sample, asked(2))}
    assert found["overall", "accuracy"]["low"] == pytest.approx(proportion_confint(1, 1, method="wilson")[0])
    assert [found["B", name]["value"] for name in ("specificity", "auroc")] == [None, None]
    assert found["overall", "brier"]["value"] == pytest.approx(0.04)
    assert found["overall", "brier"]["low"] is None
