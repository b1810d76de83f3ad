"""Paired tests against statsmodels, all signs written out, and a published pair."""

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from statistics_samples import asked, drawn
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from xraylab.evaluate import bootstrap, delong, paired, sentences
from xraylab.evaluate.units import Sample


def pair(seed: int, classes: int = 2, patients: int | None = None, images: int = 60) -> tuple[Sample, Sample]:
    """Two classifiers of the same images, the second of them worse."""
    first = drawn(seed, classes, images, patients)
    rng = np.random.default_rng(seed + 100)
    logits = np.log(first.probabilities) + rng.normal(0, 0.8, first.probabilities.shape)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return first, Sample(first.actual, probabilities, first.patients)


def compared(first: Sample, second: Sample, classes: int = 2, **changes: Any) -> dict[str, dict[str, Any]]:
    return {row["figure"]: row for row in paired.compared(first, second, asked(classes, **changes))}


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (3, 0), (1, 4), (12, 5), (40, 40)])
def test_signs_of_images_are_the_exact_mcnemar_test(ours: int, theirs: int) -> None:
    net = np.array([1] * ours + [-1] * theirs + [0] * 9)
    expected = mcnemar([[9, ours], [theirs, 0]], exact=True).pvalue
    assert paired.exact_p(net) == pytest.approx(min(expected, 1))


def test_the_published_tb_experiments_are_not_shown_to_differ() -> None:
    """913 against 910 right of 920: even if the better one loses no image, p is 0.25."""
    assert paired.exact_p(np.array([1] * 3 + [0] * 917)) == 0.25
    assert paired.exact_p(np.array([1] * 8 + [-1] * 5 + [0] * 907)) > 0.5


@pytest.mark.parametrize("net", [[3, -1, 2], [2, 2, -1, 0, 1], [1, -1], [4], [-2, -2, -3, -1, -1]])
def test_signs_of_patients_are_all_signs_written_out(net: list[int]) -> None:
    sums = [np.dot(signs, np.abs(net)) for signs in itertools.product([-1, 1], repeat=len(net))]
    expected = np.mean([abs(total) >= abs(sum(net)) for total in sums])
    assert paired.exact_p(np.array(net)) == pytest.approx(expected)


def test_what_counts_by_patient_is_the_net_of_each() -> None:
    actual = np.array([1, 1, 1, 0])
    right, wrong = np.eye(2)[actual], np.eye(2)[1 - actual]
    first = Sample(actual, np.where(np.array([[1], [1], [0], [1]]), right, wrong), np.array(["a", "a", "b", "b"]))
    second = Sample(actual, np.where(np.array([[0], [0], [1], [1]]), right, wrong), first.patients)
    assert paired.right_by_unit(first, second).tolist() == [2, -1]
    row = compared(first, second)["accuracy"]
    assert (row["first_alone_right"], row["second_alone_right"]) == (2, 1)
    assert row["test"] == "exact McNemar, signs of whole patients"


@pytest.mark.parametrize("method", ["one", "ties", "many"])
def test_holm_is_statsmodels(method: str) -> None:
    ps = {"one": [0.03], "ties": [0.02, 0.02, 0.5], "many": [0.2, 0.001, 0.04, 0.9, 0.011]}[method]
    np.testing.assert_allclose(paired.holm(ps), multipletests(ps, method="holm")[1])


def test_holm_leaves_out_what_is_no_test() -> None:
    found = paired.holm([0.01, float("nan"), 0.04])
    np.testing.assert_allclose(found, [0.02, np.nan, 0.04])


def _jackknife(positive: Any, first: Any, second: Any) -> float:
    """The variance of a difference of AUROCs from leaving out each image once, positives and negatives apart."""

    def difference(rows: Any) -> float:
        ours, theirs = (metrics.roc_auc_score(positive[rows], scores[rows]) for scores in (first, second))
        return float(ours - theirs)

    total = 0.0
    for kind in (True, False):
        members = np.flatnonzero(positive == kind)
        without = [difference(np.arange(len(positive)) != member) for member in members]
        total += (len(members) - 1) / len(members) * np.square(without - np.mean(without)).sum()
    return total


def test_paired_delong_is_the_jackknife_of_the_difference() -> None:
    first, second = pair(0)
    row = compared(first, second)["auroc"]
    positive = first.actual == 1
    ours, theirs = first.probabilities[:, 1], second.probabilities[:, 1]
    difference = metrics.roc_auc_score(positive, ours) - metrics.roc_auc_score(positive, theirs)
    error = np.sqrt(_jackknife(positive, ours, theirs))
    assert row["difference"] == pytest.approx(difference)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.959964 * error)
    assert row["test"] == "paired DeLong"
    wide = delong.test(1.959964, 1.0, 0.95)
    assert wide is not None
    assert wide[2] == pytest.approx(0.05)


# DeLong et al. 1988: ovarian cancer, 12 patients of one outcome and then 31 of the other
TOTAL_PROTEIN = """
    58 48 40 57 67 76 66 47 68 40 57 62
    63 68 58 56 57 67 54 66 66 57 70 44 58 68 74 74 66 82 70 65 51 47 61 63 77 62 48 70 57 69 66
"""
K_G_SCORE = """
    10 6 5 8 4 4 6 8 6 7 9 8
    5 3 3 5 5 6 4 6 5 5 4 6 6 7 5 5 6 6 5 4 5 6 5 7 6 5 7 7 6 5 5
"""


def test_delongs_own_example_comes_out_as_published() -> None:
    """The paper's 43 complete patients; areas, errors and contrast as the SAS/STAT manual prints them."""
    positive = np.arange(43) < 12
    protein, score = (np.array(text.split(), float) for text in (TOTAL_PROTEIN, K_G_SCORE))
    shares = {"protein": delong.shares(positive, -protein), "score": delong.shares(positive, score)}
    kinds = positive.astype(int)
    areas = {name: (own.sum() / 2, np.sqrt(delong.variance(own, kinds))) for name, own in shares.items()}
    assert areas["score"] == pytest.approx((0.7258, 0.1028), abs=5e-5)
    assert areas["protein"] == pytest.approx((0.6478, 0.1000), abs=5e-5)
    variance = delong.variance(shares["protein"] - shares["score"], kinds)
    found = delong.test(areas["protein"][0] - areas["score"][0], variance, 0.95)
    assert np.sqrt(variance) == pytest.approx(0.1046, abs=5e-5)
    assert found == pytest.approx((-0.2830, 0.1271, 0.4561), abs=5e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("patients", [None, 25])
def test_differences_are_drawn_together(classes: int, patients: int | None) -> None:
    """Every draw's difference is that of the same images for both."""
    first, second = pair(1, classes, patients)
    drawn_ = paired._drawn(first, second, asked(classes, draws=20))
    weights = np.concatenate(list(bootstrap.weights(first.units, 20, 0)))
    for number, times in enumerate(weights):
        rows = np.repeat(np.arange(60), times[first.units.of].astype(int))
        figures = [_scikit(sample, rows, classes) for sample in (first, second)]
        assert drawn_["auroc"][number] == pytest.approx(figures[0]["auroc"] - figures[1]["auroc"])
        if patients is not None:
            assert drawn_["f1"][number] == pytest.approx(figures[0]["f1"] - figures[1]["f1"])
            assert drawn_["accuracy"][number] == pytest.approx(figures[0]["accuracy"] - figures[1]["accuracy"])


def _scikit(sample: Sample, rows: Any, classes: int) -> dict[str, float]:
    actual, predicted, probabilities = sample.actual[rows], sample.predicted[rows], sample.probabilities[rows]
    two = classes == 2
    return {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "f1": metrics.f1_score(actual, predicted, average="binary" if two else "macro"),
        "auroc": metrics.roc_auc_score(actual, probabilities[:, 1])
        if two
        else metrics.roc_auc_score(actual, probabilities, multi_class="ovr"),
    }


def test_two_of_a_kind_are_shown_to_differ_as_rarely_as_the_level_says() -> None:
    """Equally good classifiers, patients of three images: about one test in twenty is below 0.05."""
    rejected = dict.fromkeys(("accuracy", "f1", "auroc"), 0)
    for seed in range(120):
        rng = np.random.default_rng(seed)
        actual = np.repeat(np.arange(40) % 2, 3)
        shared, own = np.repeat(rng.normal(size=40), 3), rng.normal(size=(2, 120))
        samples = []
        for noise in own:
            p = 1 / (1 + np.exp(-(2 * actual - 1 + shared + noise)))
            samples.append(Sample(actual, np.column_stack([1 - p, p]), np.repeat(np.arange(40), 3).astype(str)))
        for name, row in compared(*samples, draws=200).items():
            rejected[name] += row["p"] < 0.05
    assert rejected["accuracy"] <= 12
    assert all(count <= 15 for count in rejected.values())


def test_the_same_predictions_do_not_differ() -> None:
    first, _ = pair(0)
    for name, row in compared(first, first).items():
        p = 1 if name == "accuracy" else None  # McNemar's test of no discordant image; the others have nothing to test
        assert (row["difference"], row["low"], row["high"], row["p"]) == (0, None, None, p)


def separated(positives: int, negatives: int, kind: str, patients: int | None = None) -> Sample:
    """Two classes whose scores are in perfect order, in the opposite one, or all the same."""
    rng = np.random.default_rng([positives, negatives])
    actual = rng.permutation(np.repeat([1, 0], [positives, negatives]))
    noise = rng.random(len(actual)) / 4
    score = {
        "perfect": 0.5 * actual + noise,
        "wrong": 0.5 - 0.5 * actual + noise,
        "constant": np.full(len(actual), 0.5),
    }
    names = np.full(len(actual), "") if patients is None else np.array([f"p{n % patients}" for n in range(len(actual))])
    return Sample(actual, np.stack([1 - score[kind], score[kind]], axis=1), names)


@pytest.mark.parametrize("first", ["perfect", "wrong", "constant"])
@pytest.mark.parametrize("second", ["perfect", "wrong", "constant"])
def test_orders_without_a_variance_are_not_tested(first: str, second: str) -> None:
    for positives, negatives in [(3, 7), (7, 40), (11, 13), (29, 37), (40, 6)]:
        orders = [separated(positives, negatives, kind) for kind in (first, second)]
        for patients in (None, 5):
            names = separated(positives, negatives, first, patients).patients
            both = [Sample(order.actual, order.probabilities, names) for order in orders]
            row = compared(*both)["auroc"]
            assert (row["low"], row["high"], row["p"]) == (None, None, None)
            expected = {"perfect": 1, "wrong": 0, "constant": 0.5}
            assert row["difference"] == pytest.approx(expected[first] - expected[second])
            told = sentences.difference(
                row | {"first": "a", "second": "b", "p_holm": None, "chosen_on_test": False}, 0.95, 1
            )
            assert told == f"a is not shown to differ from b: AUROC {row['difference']:+.3f}, no interval, no test."


def test_where_a_class_is_absent_there_is_no_auroc_to_compare() -> None:
    first, second = pair(0)
    positive = first.actual == 1
    row = compared(first[positive], second[positive])["auroc"]
    assert (row["difference"], row["p"]) == (None, None)


ROW = {
    "first": "dropout",
    "second": "baseline",
    "figure": "f1",
    "difference": 0.0104,
    "low": -0.006,
    "high": 0.0269,
    "p_holm": 0.312,
    "chosen_on_test": False,
}


@pytest.mark.parametrize(
    ("changes", "tests", "said"),
    [
        ({}, 1, "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31."),
        (
            {"p_holm": 0.0004, "low": 0.004},
            4,
            "dropout has a higher F1 than baseline: "
            "F1 +0.010, 95 % CI +0.004 to +0.027, p < 0.001 (corrected for 4 experiments).",
        ),
        (
            {"figure": "auroc", "difference": -0.2, "low": None, "high": None, "p_holm": 0.012},
            1,
            "dropout has a lower AUROC than baseline: AUROC -0.200, no interval, p = 0.012.",
        ),
        ({"difference": None}, 1, "dropout and baseline have no F1 to compare."),
        (
            {"chosen_on_test": True},
            1,
            "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31"
            "; chosen on these very test images, so this proves nothing.",
        ),
    ],
)
def test_a_sentence_claims_what_the_test_shows(changes: dict[str, Any], tests: int, said: str) -> None:
    assert sentences.difference(ROW | changes, 0.95, tests) == said
