"""Metrics of several findings are scikit-learn's, of the labels that are known."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from xraylab.evaluate import macro


def draw(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 60 images and four findings, some not known, and their probabilities."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 4)) < [0.5, 0.2, 0.1, 0.4]).astype(float)
    p = (rng.random((60, 4)) + 0.3 * labels) / 1.3
    labels[rng.random((60, 4)) < 0.2] = np.nan
    return labels, p.round(1) if ties else p


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_each_mean_is_over_the_known_labels_of_each_finding(seed: int, ties: bool) -> None:
    labels, p = draw(seed, ties)
    known = ~np.isnan(labels)
    pairs = [(labels[rows, n], p[rows, n]) for n, rows in enumerate(known.T)]
    assert macro.scores(labels, p) == pytest.approx({
        "auroc": np.mean([roc_auc_score(*pair) for pair in pairs]),
        "auprc": np.mean([average_precision_score(*pair) for pair in pairs]),
        "f1": np.mean([f1_score(actual, scored >= 0.5) for actual, scored in pairs]),
        "accuracy": np.mean((p >= 0.5)[known] == labels[known]),
    })  # fmt: skip


def test_a_finding_that_is_always_there_or_never_has_no_auroc() -> None:
    labels, p = draw(0, ties=False)
    alone = macro.scores(labels[:, :1], p[:, :1])
    labels[:, 1], labels[:, 2], labels[:, 3] = 0, 1, np.nan
    result = macro.scores(labels, p)
    assert (result["auroc"], result["auprc"]) == (alone["auroc"], alone["auprc"])
    assert result["f1"] == pytest.approx((alone["f1"] + f1_score(labels[:, 2], p[:, 2] >= 0.5)) / 2)


def test_without_known_labels_nothing_is_defined() -> None:
    assert all(map(math.isnan, macro.scores(np.full((3, 2), np.nan), np.full((3, 2), 0.5)).values()))
