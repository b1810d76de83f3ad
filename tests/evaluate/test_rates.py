"""Metrics of confusion matrices, scores and rankings, against scikit-learn and published tables."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics
from statistics_samples import config, drawn, matrix_of

from xraylab.evaluate.metrics import (
    auprc_derivatives,
    auroc_and_auprc,
    class_rates,
    compute_metrics,
    overall_rates,
    row_shares,
)
from xraylab.evaluate.samples import Sample

COVID4 = np.array([[61, 2, 1, 1], [1, 125, 1, 12], [0, 1, 136, 4], [3, 6, 8, 365]])


def _against_rest(actual: Any, predicted: Any, label: int) -> dict[str, float]:
    """scikit-learn's metrics of one class against the rest; NaN for what has no denominator."""
    is_it, called = actual == label, predicted == label
    nan = {"zero_division": np.nan}
    return {
        "accuracy": metrics.accuracy_score(is_it, called),
        "sensitivity": metrics.recall_score(is_it, called, **nan),
        "specificity": metrics.recall_score(~is_it, ~called, **nan),
        "ppv": metrics.precision_score(is_it, called, **nan),
        "npv": metrics.precision_score(~is_it, ~called, **nan),
        "fpr": 1 - metrics.recall_score(~is_it, ~called, **nan),
        "fnr": 1 - metrics.recall_score(is_it, called, **nan),
        "f1": metrics.f1_score(is_it, called, zero_division=0),
        "mcc": metrics.matthews_corrcoef(is_it, called),
    }


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("absent", [None, 0])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_of_a_matrix_are_scikit_learns(classes: int, absent: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual, predicted = rng.integers(0 if absent is None else 1, classes, (2, 50))
    matrix = matrix_of(actual, predicted, classes)
    found = class_rates(matrix)
    for label in range(classes):
        for name, value in _against_rest(actual, predicted, label).items():
            assert found[name][label] == pytest.approx(value, nan_ok=True), name
    overall = overall_rates(matrix)
    assert overall["accuracy"] == metrics.accuracy_score(actual, predicted)
    assert overall["mcc"] == pytest.approx(metrics.matthews_corrcoef(actual, predicted))
    assert overall["kappa"] == pytest.approx(metrics.cohen_kappa_score(actual, predicted), nan_ok=True)
    if absent is None:
        assert overall["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(actual, predicted))
    else:
        assert np.isnan(overall["balanced_accuracy"])


def test_a_stack_of_matrices_has_the_metrics_of_each() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    for name, whole in (class_rates(stack, 1) | overall_rates(stack)).items():
        each = [(class_rates(matrix, 1) | overall_rates(matrix))[name] for matrix in stack]
        np.testing.assert_array_equal(whole, each)


def test_one_image_has_the_metrics_that_one_image_can_have() -> None:
    matrix = matrix_of(np.array([1]), np.array([1]), 2)
    found, overall = class_rates(matrix), overall_rates(matrix)
    assert [found[name][1] for name in ("sensitivity", "ppv", "f1")] == [1, 1, 1]
    assert np.isnan([found[name][1] for name in ("specificity", "npv", "fpr")]).all()
    assert (overall["accuracy"], overall["mcc"]) == (1, 0)
    assert np.isnan([overall["kappa"], overall["balanced_accuracy"]]).all()


def test_at_another_prevalence_the_predictive_values_follow_bayes() -> None:
    """Altman and Bland, BMJ 309 (1994) 102: liver scans, sensitivity 231/258, specificity 54/86, prevalence 0.25."""
    liver = np.array([[54, 32], [27, 231]])
    here = class_rates(liver, prevalence=np.array([86, 258]) / 344)
    assert here["ppv_at_prevalence"][1] == pytest.approx(231 / 263)
    there = class_rates(liver, prevalence=np.array([0.75, 0.25]))
    sensitivity, specificity = 231 / 258, 54 / 86
    ppv = sensitivity * 0.25 / (sensitivity * 0.25 + (1 - specificity) * 0.75)
    assert there["ppv_at_prevalence"][1] == pytest.approx(ppv)
    assert [round(there[f"{name}_at_prevalence"][1], 2) for name in ("ppv", "npv")] == [0.45, 0.95]


def test_with_more_classes_the_matrix_is_reweighted_row_by_row() -> None:
    shares = np.array([0.1, 0.2, 0.3, 0.4])
    weights = (shares / COVID4.sum(axis=1))[np.repeat(np.arange(4), COVID4.sum(axis=1))]
    actual = np.repeat(np.arange(4), COVID4.sum(axis=1))
    predicted = np.concatenate([np.repeat(np.arange(4), row) for row in COVID4])
    expected = metrics.precision_score(actual, predicted, average=None, sample_weight=weights)
    found = class_rates(COVID4, prevalence=shares)
    np.testing.assert_allclose(found["ppv_at_prevalence"], expected)


def test_each_diseased_class_is_called_normal_at_its_rate() -> None:
    found = class_rates(COVID4, normal=3)["called_normal"]
    np.testing.assert_allclose(found[:3], [1 / 65, 12 / 139, 4 / 141])
    assert np.isnan(found[3])


def test_rows_are_shares_and_an_absent_class_has_none() -> None:
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    assert shares[0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[1]).all()


@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_scikit_learns(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.3
    scores = np.round(rng.random(60) + 0.3 * positive, digits)
    auroc, auprc = auroc_and_auprc(positive, scores)
    assert auroc == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert auprc == pytest.approx(metrics.average_precision_score(positive, scores))


@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
def test_average_precision_changes_with_an_images_weight_as_its_derivative_says(digits: int) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.3
    scores, step = np.round(rng.random(60) + 0.3 * positive, digits), 1e-6
    expected = []
    for image in range(60):
        ends = [
            metrics.average_precision_score(
                positive, scores, sample_weight=np.ones(60) + sign * step * np.eye(60)[image]
            )
            for sign in (1, -1)
        ]
        expected.append((ends[0] - ends[1]) / (2 * step))
    np.testing.assert_allclose(auprc_derivatives(positive, scores), expected, atol=1e-7)


@pytest.mark.parametrize("positive", [[True, True], [False, False], [True]])
def test_without_a_positive_or_a_negative_there_is_no_area(positive: list[bool]) -> None:
    assert np.isnan(auroc_and_auprc(np.array(positive), np.full(len(positive), 0.5))).all()


@pytest.mark.parametrize("seed", range(2))
def test_the_probability_metrics_of_two_classes_are_scikit_learns(seed: int) -> None:
    sample = drawn(seed, 2)
    found = compute_metrics(sample, config(2))
    scores, truth = sample.probabilities[:, 1], sample.actual == 1
    assert found["overall", "brier"] == pytest.approx(metrics.brier_score_loss(truth, scores))
    assert found["overall", "log_loss"] == pytest.approx(metrics.log_loss(sample.actual, sample.probabilities))
    assert found["B", "auroc"] == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert found["B", "auprc"] == pytest.approx(metrics.average_precision_score(truth, scores))
    assert {of for of, _ in found} == {"overall", "B"}
    assert found["B", "called_normal"] == found["B", "fnr"]


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_means_over_classes_are_scikit_learns(average: str) -> None:
    sample = drawn(5, 3)
    actual, predicted, probabilities = sample.actual, sample.predicted, sample.probabilities
    found = compute_metrics(sample, config(3))
    for name, theirs in [
        ("sensitivity", metrics.recall_score),
        ("ppv", metrics.precision_score),
        ("f1", metrics.f1_score),
    ]:
        assert found[average, name] == pytest.approx(theirs(actual, predicted, average=average))
    auroc = metrics.roc_auc_score(actual, probabilities, multi_class="ovr", average=average)
    assert found[average, "auroc"] == pytest.approx(auroc)
    auprc = metrics.average_precision_score(np.eye(3)[actual], probabilities, average=average)
    assert found[average, "auprc"] == pytest.approx(auprc)
    assert found["overall", "brier"] == pytest.approx(
        metrics.brier_score_loss(actual, probabilities, scale_by_half=False)
    )


def test_a_class_without_images_has_no_mean() -> None:
    sample = Sample(np.array([0, 1, 1]), np.full((3, 3), 1 / 3), np.array(["", "", ""]))
    found = compute_metrics(sample, config(3))
    assert np.isnan([found["C", "sensitivity"], found["macro", "sensitivity"], found["macro", "auroc"]]).all()
    assert found["C", "f1"] == 0
