"""Paired tests against statsmodels, every swap written out, a jackknife, and a published pair."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from statistics_samples import config, drawn
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from xraylab.evaluate import resampling
from xraylab.evaluate.comparisons import Comparison, describe
from xraylab.evaluate.metrics import Key
from xraylab.evaluate.resampling import Jackknife, sign_test, variance
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.significance import Difference, compare_repeats, compare_runs, holm


def pair(seed: int, classes: int = 2, patients: int | None = None, images: int = 60) -> tuple[Sample, Sample]:
    """Two classifiers of the same images, the second of them worse."""
    first = drawn(seed, classes, images, patients)
    rng = np.random.default_rng(seed + 100)
    logits = np.log(first.probabilities) + rng.normal(0, 0.8, first.probabilities.shape)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return first, Sample(first.actual, probabilities, first.patients)


def compared(first: Sample, second: Sample, classes: int = 2, **changes: Any) -> dict[str, Difference]:
    return {row.metric: row for row in compare_runs(first, second, config(classes, **changes))}


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (3, 0), (1, 4), (12, 5), (40, 40)])
def test_signs_of_images_are_the_exact_mcnemar_test(ours: int, theirs: int) -> None:
    net = np.array([1] * ours + [-1] * theirs + [0] * 9)
    expected = mcnemar([[9, ours], [theirs, 0]], exact=True).pvalue
    assert sign_test(net) == pytest.approx(min(expected, 1))


def test_the_published_tb_experiments_are_not_shown_to_differ() -> None:
    """913 against 910 right of 920: even if the better one loses no image, p is 0.25."""
    assert sign_test(np.array([1] * 3 + [0] * 917)) == 0.25
    assert sign_test(np.array([1] * 8 + [-1] * 5 + [0] * 907)) > 0.5


@pytest.mark.parametrize("net", [[3, -1, 2], [2, 2, -1, 0, 1], [1, -1], [4], [-2, -2, -3, -1, -1]])
def test_signs_of_patients_are_all_signs_written_out(net: list[int]) -> None:
    sums = [np.dot(signs, np.abs(net)) for signs in itertools.product([-1, 1], repeat=len(net))]
    expected = np.mean([abs(total) >= abs(sum(net)) for total in sums])
    assert sign_test(np.array(net)) == pytest.approx(expected)


def test_accuracy_is_tested_by_the_net_of_each_patient() -> None:
    actual = np.repeat([1, 0], 18)
    names = np.repeat(np.arange(12), 3).astype(str)
    rng = np.random.default_rng(0)
    right = rng.random((2, 36)) < np.array([[0.9], [0.6]])
    samples = [Sample(actual, np.eye(2)[np.where(own, actual, 1 - actual)], names) for own in right]
    net = (right[0].astype(int) - right[1]).reshape(12, 3).sum(axis=1)
    sums = [np.dot(signs, np.abs(net)) for signs in itertools.product([-1, 1], repeat=12)]
    row = compared(*samples)["accuracy"]
    assert row.p == pytest.approx(np.mean([abs(total) >= abs(net.sum()) for total in sums]))
    assert row.test == "exact McNemar, signs of whole patients"
    alone = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert (row.first_alone_right, row.second_alone_right) == alone


@pytest.mark.parametrize("method", ["one", "ties", "many"])
def test_holm_is_statsmodels(method: str) -> None:
    ps = {"one": [0.03], "ties": [0.02, 0.02, 0.5], "many": [0.2, 0.001, 0.04, 0.9, 0.011]}[method]
    np.testing.assert_allclose(holm(ps), multipletests(ps, method="holm")[1])


def test_holm_leaves_out_what_is_no_test() -> None:
    found = holm([0.01, float("nan"), 0.04])
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


def _every_swap(first: Sample, second: Sample, score: Any) -> float:
    """The p of a score's difference from all swaps of whole patients, written out."""
    patients = np.unique(first.patients)
    seen, far = None, []
    for which in itertools.product([False, True], repeat=len(patients)):
        swap = np.isin(first.patients, patients[np.array(which)])
        ours = np.where(swap, second.predicted, first.predicted)
        theirs = np.where(swap, first.predicted, second.predicted)
        difference = score(first.actual, ours) - score(first.actual, theirs)
        seen = difference if seen is None else seen
        far.append(abs(difference) >= abs(seen) - 1e-12)
    return float(np.mean(far))


@pytest.mark.parametrize("seed", range(2))
def test_every_swap_of_whole_patients_is_gone_through(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual, names = np.repeat([0, 1], 14), (np.arange(28) % 6).astype(str)
    logits = 1.5 * actual + rng.normal(size=(2, 28)) * [[0.7], [1.5]] - 0.75
    samples = [Sample(actual, np.stack([1 - p, p], axis=1), names) for p in 1 / (1 + np.exp(-logits))]
    scores = {
        "f1": metrics.f1_score,
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "sensitivity": metrics.recall_score,
        "specificity": lambda y, p: metrics.recall_score(1 - y, 1 - p),
        "accuracy": metrics.accuracy_score,
    }
    found = compared(*samples)
    for name, score in scores.items():
        assert found[name].p == pytest.approx(_every_swap(*samples, score)), name
    assert found["f1"].test == "all swaps of whole patients"


def test_drawn_swaps_come_near_the_exact_p_and_are_never_0(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair(1)
    exact = compared(first, second)
    monkeypatch.setattr(resampling, "MAX_OUTCOMES", 1)
    drawn_ = compared(first, second)
    assert drawn_["f1"].test == "10,000 swaps of whole patients"
    for name in ("f1", "balanced_accuracy", "sensitivity", "specificity"):
        error = np.sqrt(exact[name].p * (1 - exact[name].p) / 10_000)
        assert drawn_[name].p == pytest.approx(exact[name].p, abs=4 * error + 1e-4)
    actual = np.repeat([0, 1], 40)
    perfect, wrong = (Sample(actual, np.eye(2)[labels], np.full(80, "")) for labels in (actual, 1 - actual))
    row = compared(perfect, wrong)["f1"]
    assert (row.p, row.p_at_most) == (pytest.approx(1 / 10_001), True)
    told = describe(changed({"p_holm": row.p, "p_at_most": True}), 0.95)
    assert told.endswith("p <= 0.0001.")


def test_one_positive_that_one_alone_finds_proves_nothing() -> None:
    actual = np.repeat([1, 0], 20)
    first = Sample(actual, np.eye(2)[actual], np.full(40, ""))
    missed = actual.copy()
    missed[0] = 0
    found = compared(first, Sample(actual, np.eye(2)[missed], first.patients))
    assert {name: row.p for name, row in found.items() if name != "auroc"} == dict.fromkeys(
        ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"), 1.0
    )
    assert all(row.ci_low <= 0 <= row.ci_high for row in found.values() if row.ci_low is not None)


def test_an_interval_never_leaves_out_0_where_its_test_does_not_reject() -> None:
    """Five images to none: McNemar's p is .0625, though the interval of a normal difference begins above 0."""
    actual = np.repeat([1, 0], 100)
    missed = actual.copy()
    missed[:5] = 0
    first, second = (Sample(actual, np.eye(2)[labels], np.full(200, "")) for labels in (actual, missed))
    row = compared(first, second)["accuracy"]
    assert row.p == pytest.approx(0.0625)
    assert (row.ci_low, row.ci_high) == pytest.approx((0, 0.05))


def test_paired_delong_is_the_jackknife_of_the_difference() -> None:
    first, second = pair(0)
    row = compared(first, second)["auroc"]
    positive = first.actual == 1
    ours, theirs = first.probabilities[:, 1], second.probabilities[:, 1]
    difference = metrics.roc_auc_score(positive, ours) - metrics.roc_auc_score(positive, theirs)
    error = np.sqrt(_jackknife(positive, ours, theirs))
    assert row.difference == pytest.approx(difference)
    assert 29 <= row.freedom <= 58
    assert row.ci_high - row.ci_low == pytest.approx(2 * stats.t.ppf(0.975, row.freedom) * error)
    assert row.p == pytest.approx(2 * stats.t.sf(abs(difference) / error, row.freedom))
    assert row.test == "paired DeLong"


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
    actual = (np.arange(43) < 12).astype(int)
    protein, score = (np.array(text.split(), float) for text in (TOTAL_PROTEIN, K_G_SCORE))
    samples = [Sample(actual, np.stack([-own, own], axis=1) / 100, np.full(43, "")) for own in (-protein, score)]
    whole = [Jackknife(sample, config(2)).influence(Key("B", "auroc")) for sample in samples]
    errors = [np.sqrt(variance(own)) for own in whole if own is not None]
    assert errors == pytest.approx([0.1000, 0.1028], abs=5e-5)
    row = compared(*samples)["auroc"]
    assert row.difference == pytest.approx(0.6478 - 0.7258, abs=1e-4)
    assert row.error == pytest.approx(0.1046, abs=5e-5)
    z = row.difference / row.error
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(0.4561, abs=1e-4)


def test_the_same_predictions_do_not_differ() -> None:
    first, _ = pair(0)
    for name, row in compared(first, first).items():
        p = None if name == "auroc" else 1  # no swap changes anything; the AUROCs' difference has no variance
        assert (row.difference, row.ci_low, row.ci_high, row.p) == (0, None, None, p)
        assert row.why == "no discordant images"


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
    for positives, negatives in [(7, 40), (11, 13), (29, 37), (40, 6)]:
        orders = [separated(positives, negatives, kind) for kind in (first, second)]
        for patients in (None, 23):
            names = separated(positives, negatives, first, patients).patients
            both = [Sample(order.actual, order.probabilities, names) for order in orders]
            row = compared(*both)["auroc"]
            assert (row.ci_low, row.ci_high, row.p) == (None, None, None)
            expected = {"perfect": 1, "wrong": 0, "constant": 0.5}
            assert row.difference == pytest.approx(expected[first] - expected[second])
            assert row.why


def test_fewer_than_five_patients_of_a_class_are_not_tested_and_it_is_said_why() -> None:
    first, second = pair(0)
    rows = np.concatenate([np.flatnonzero(first.actual == 1)[:4], np.flatnonzero(first.actual == 0)])
    chosen = np.isin(np.arange(60), rows)
    found = compared(first[chosen], second[chosen])
    why = "only 4 images of B; at least 5 are needed"
    for name in ("auroc", "accuracy", "f1", "sensitivity"):
        assert (found[name].p, found[name].ci_low, found[name].why) == (None, None, why)
    assert found["specificity"].p is not None
    row = replace(changed({"p_holm": None}), result=found["auroc"])
    assert describe(row, 0.95).endswith(f"no interval, no test ({why}).")


def test_where_a_class_is_absent_there_is_no_auroc_to_compare() -> None:
    first, second = pair(0)
    positive = first.actual == 1
    row = compared(first[positive], second[positive])["auroc"]
    assert (row.difference, row.p) == (None, None)


def _networks(seeds: int, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    actual, shared = np.repeat([0, 1], 20), rng.normal(size=40)
    skills = rng.normal(2, 0.5, (2, seeds, 1))
    p = 1 / (1 + np.exp(-(skills * (actual - 0.5) + shared + rng.normal(size=(2, seeds, 40)))))
    return [[Sample(actual, np.stack([1 - own, own], axis=1), np.full(40, "")) for own in each] for each in p]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_are_to_a_setting_what_readers_are_to_a_modality(seeds: int) -> None:
    """Obuchowski and Rockette with readers within modalities, from covariances that leaving out each image gives."""
    first, second = _networks(seeds)
    positive = first[0].actual == 1
    areas = np.array([metrics.roc_auc_score(positive, run.probabilities[:, 1]) for run in [*first, *second]])
    scores = np.array([run.probabilities[:, 1] for run in [*first, *second]])
    covariance = np.zeros((2 * seeds, 2 * seeds))
    for kind in (True, False):
        members = np.flatnonzero(positive == kind)
        left_out = np.array(
            [[metrics.roc_auc_score(np.delete(positive, i), np.delete(own, i)) for i in members] for own in scores]
        )
        apart = left_out - left_out.mean(axis=1, keepdims=True)
        covariance += (len(members) - 1) / len(members) * apart @ apart.T
    setting = np.repeat([0, 1], seeds)
    same = setting[:, None] == setting
    cov2, cov3 = covariance[same & ~np.eye(2 * seeds, dtype=bool)].mean(), covariance[~same].mean()
    within = np.mean([areas[setting == number].var(ddof=1) for number in (0, 1)])
    error2 = 2 / seeds * (within + seeds * max(cov2 - cov3, 0))
    (row,) = (row for row in compare_repeats(first, second, config(2), None) if row.metric == "auroc")
    assert row.difference == pytest.approx(areas[:seeds].mean() - areas[seeds:].mean())
    assert row.error == pytest.approx(np.sqrt(error2))
    of_seeds, most = 2 * within / seeds, 2 * (seeds - 1)
    assert most <= row.freedom <= most * (error2 / of_seeds) ** 2 + 1e-9
    assert (row.first_sd, row.second_sd) == pytest.approx([areas[setting == n].std(ddof=1) for n in (0, 1)])


def test_seeds_that_give_the_same_network_are_not_tested_against_themselves() -> None:
    first, _ = _networks(1)
    rows = compare_repeats(first * 3, first * 3, config(2), None)
    assert {(row.p, row.why) for row in rows} == {(None, "the difference does not vary")}


def test_folds_have_nadeau_and_bengios_corrected_t() -> None:
    """Five folds: the variance of the five differences times 1 / 5 + 1 / 4, since four fifths of training is shared."""
    pairs = [_networks(1, seed) for seed in range(5)]
    first, second = [own[0][0] for own in pairs], [own[1][0] for own in pairs]
    differences = [
        metrics.f1_score(a.actual, a.predicted) - metrics.f1_score(b.actual, b.predicted)
        for a, b in zip(first, second, strict=True)
    ]
    error = np.sqrt(np.var(differences, ddof=1) * (1 / 5 + 1 / 4))
    (row,) = (row for row in compare_repeats(first, second, config(2), 5) if row.metric == "f1")
    assert row.p == pytest.approx(2 * stats.t.sf(abs(np.mean(differences)) / error, 4))
    assert row.ci_low == pytest.approx(np.mean(differences) - stats.t.ppf(0.975, 4) * error)
    few = compare_repeats(first[:2], second[:2], config(2), 5)
    assert {row.why for row in few} == {"2 folds were tested: a test takes 3 or more"}


RESULT = Difference("f1", 0.0104, ci_low=-0.006, ci_high=0.0269)
COMPARED = Comparison(
    "baseline", "settings", "dropout", "baseline", False, RESULT, role="primary", p_holm=0.312, tests=1
)


def changed(fields: dict[str, Any]) -> Comparison:
    """The comparison with fields of it, of its result, or of what its margin shows replaced."""
    row = COMPARED
    for name, value in fields.items():
        for part in ("result", "against_margin"):
            if hasattr(getattr(row, part), name):
                row = replace(row, **{part: replace(getattr(row, part), **{name: value})})
        row = replace(row, **{name: value}) if hasattr(row, name) else row
    return row


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31."),
        (
            {"p_holm": 0.0004, "ci_low": 0.004, "tests": 4},
            "dropout has a higher F1 than baseline: "
            "F1 +0.010, 95 % CI +0.004 to +0.027, p < 0.001 (corrected for 4 experiments).",
        ),
        (
            {"p_holm": 0.0004, "ci_low": 0.004, "about": "trained networks"},
            "Of these two trained networks, dropout’s has a higher F1 than baseline’s: "
            "F1 +0.010, 95 % CI +0.004 to +0.027, p < 0.001.",
        ),
        (
            {
                "metric": "auroc",
                "difference": -0.2,
                "ci_low": None,
                "ci_high": None,
                "p_holm": 0.012,
                "role": "exploratory",
            },
            "Exploratory: dropout has a lower AUROC than baseline: AUROC -0.200, no interval, p = 0.012.",
        ),
        (
            {"p_holm": 0.0004, "p_at_most": True, "tests": 9, "role": "exploratory"},
            "Exploratory: dropout has a higher F1 than baseline: F1 +0.010, 95 % CI -0.006 to +0.027, "
            "p <= 0.0004 (corrected for 9 tests).",
        ),
        ({"difference": None}, "dropout and baseline have no F1 to compare."),
        (
            {"margin": 0.05, "not_worse": True, "equivalent": True},
            "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31"
            "; equivalent within 0.05.",
        ),
        (
            {"margin": 0.02, "not_worse": True, "equivalent": False},
            "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31"
            "; not worse than baseline by 0.02 or more.",
        ),
        (
            {"margin": 0.005, "not_worse": False, "equivalent": False},
            "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31"
            "; a difference of 0.005 for the worse is not excluded.",
        ),
        (
            {"chosen_on_test": True},
            "dropout is not shown to differ from baseline: F1 +0.010, 95 % CI -0.006 to +0.027, p = 0.31"
            "; chosen on these very test images, so this proves nothing.",
        ),
    ],
)
def test_a_sentence_claims_what_the_test_shows(changes: dict[str, Any], said: str) -> None:
    assert describe(changed(changes), 0.95) == said
