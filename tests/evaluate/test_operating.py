"""Thresholds and temperatures come from validation images; small groups are hidden; goals need certainty."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn import metrics
from sklearn.calibration import calibration_curve
from statistics_samples import config, drawn
from statsmodels.stats.proportion import proportion_confint

from xraylab.evaluate import calibration, subgroups
from xraylab.evaluate import operating_points as operating
from xraylab.evaluate.calibration import Judged, judged
from xraylab.evaluate.comparisons import Comparison, compare_at_thresholds
from xraylab.evaluate.intervals import Metric, difference_interval
from xraylab.evaluate.predictions import Run, Study
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.study import StudyMetric, epochs_to_highest, judge, judge_goals, train_test_gap
from xraylab.evaluate.tables import GROUP_COLUMNS, to_row
from xraylab.evaluate.temperature import scale
from xraylab.params.evaluate import Goals

WANTED = operating.all_rules([0.9, 0.95], [0.7])
POINTS = [
    "0.5",
    "highest Youden index on validation",
    "fixed for 90 % sensitivity on validation",
    "fixed for 95 % sensitivity on validation",
    "fixed for 70 % specificity on validation",
]


def curve(positive: list[int], scores: list[float]) -> operating.ThresholdCurve:
    found = operating.threshold_curve(np.array(positive) == 1, np.array(scores))
    assert found is not None
    return found


@pytest.mark.parametrize("digits", [1, 8], ids=["ties", "no ties"])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_the_best_of_all_that_could_be_tried(seed: int, digits: int) -> None:
    sample = drawn(seed, 2)
    positive, scores = sample.actual == 1, sample.probabilities[:, 1].round(digits)
    found = operating.threshold_curve(positive, scores)
    assert found is not None
    rates = {}
    for threshold in np.unique(scores):
        called = scores >= threshold
        rates[threshold] = (metrics.recall_score(positive, called), metrics.recall_score(~positive, ~called))
    best = max(sum(pair) for pair in rates.values())
    assert sum(rates[operating.youden(found)]) == pytest.approx(best)
    at = operating.at_sensitivity(found, 0.9)
    assert at == max(threshold for threshold, (sensitivity, _) in rates.items() if sensitivity >= 0.9)
    at = operating.at_specificity(found, 0.7)
    assert at == min((threshold for threshold, (_, spec) in rates.items() if spec >= 0.7), default=None)


def test_youden_is_scikit_learns_curve_at_its_highest() -> None:
    sample = drawn(7, 2)
    scores = sample.probabilities[:, 1]
    fpr, tpr, thresholds = metrics.roc_curve(sample.actual, scores, drop_intermediate=False)
    found = operating.threshold_curve(sample.actual == 1, scores)
    assert found is not None
    assert operating.youden(found) == thresholds[np.argmax(np.round(tpr - fpr, 12))]


def test_a_specificity_that_no_threshold_reaches_is_not_available() -> None:
    same = curve([1, 0, 0], [0.9, 0.9, 0.9])
    assert operating.at_specificity(same, 0.7) is None
    valid = Sample(np.array([1, 0, 0]), np.full((3, 2), 0.5), np.full(3, ""))
    rows = operating.operating_points(valid, valid, config(2), WANTED)
    assert rows[-1].why == "not available: no threshold reaches it on the validation images"
    assert rows[-1].test is None


def test_the_test_split_moves_no_threshold() -> None:
    valid, test = drawn(0, 2), drawn(1, 2)
    rows = operating.operating_points(valid, test, config(2), WANTED)
    swapped = operating.operating_points(valid, drawn(2, 2), config(2), WANTED)
    assert [row.point for row in rows] == POINTS
    assert [row.threshold for row in rows] == [row.threshold for row in swapped]
    for row in rows:
        called, on_test = test.probabilities[:, 1] >= row.threshold, row.test
        tn, fp, fn, tp = metrics.confusion_matrix(test.actual, called).ravel()
        assert (on_test.tn, on_test.fp, on_test.fn, on_test.tp) == (tn, fp, fn, tp)
        expected = proportion_confint(tp, tp + fn, method="wilson")
        sensitivity = on_test.rates[0]
        assert sensitivity.name == "sensitivity"
        assert (sensitivity.ci_low, sensitivity.ci_high) == pytest.approx(expected)


@pytest.mark.parametrize("valid", [None, drawn(0, 2)[drawn(0, 2).actual == 1]], ids=["no split", "one class"])
def test_without_validation_there_is_one_half_alone(valid: Sample | None) -> None:
    rows = operating.operating_points(valid, drawn(1, 2), config(2), WANTED)
    assert [row.threshold for row in rows] == [0.5, None, None, None, None]
    why = "not available: there are no validation images of the class and of the rest to fix it on"
    assert {row.why for row in rows[1:]} == {why}
    assert {row.test for row in rows[1:]} == {None}


def test_of_more_classes_each_has_its_own_points_and_patients_are_drawn() -> None:
    valid, test = drawn(0, 3, patients=20), drawn(1, 3, patients=20)
    rows = operating.operating_points(valid, test, config(3), WANTED)
    assert [row.class_ for row in rows] == [label for label in "ABC" for _ in POINTS]
    on_test = rows[5].test
    wilson = proportion_confint(on_test.tp, on_test.tp + on_test.fn, method="wilson")
    assert on_test.rates[0].ci_low != pytest.approx(wilson[0], abs=1e-6)


def test_reliability_is_scikit_learns_curve_and_ece_a_sum_by_hand() -> None:
    sample = drawn(0, 2, images=300)
    said = judged(sample, sample.probabilities, 1)
    table = calibration.reliability(said, 10)
    filled = table[table["n"] > 0]
    observed, mean = calibration_curve(said.outcome, said.probability, n_bins=10)
    np.testing.assert_allclose(filled["observed"], observed)
    np.testing.assert_allclose(filled["probability"], mean)
    by_hand = calibration.reliability(
        Judged(np.array([0.1, 0.3, 0.7, 0.7, 1.0, 0.0]), np.array([0, 1, 1, 0, 1, 0.0]), np.arange(6)), 10
    )
    assert by_hand["n"].tolist() == [2, 0, 1, 0, 0, 0, 2, 0, 0, 1]
    assert calibration.ece(by_hand) == pytest.approx((2 * 0.05 + 0.7 + 2 * 0.2) / 6)


def test_of_more_classes_the_highest_probability_is_judged() -> None:
    sample = Sample(np.array([0, 2]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]), np.full(2, ""))
    said = judged(sample, sample.probabilities, None)
    assert (said.probability.tolist(), said.outcome.tolist()) == ([0.5, 0.8], [1, 0])


def test_the_temperature_is_the_slope_of_a_logistic_regression_upside_down() -> None:
    sample = drawn(0, 2, images=400)
    logits = np.log(sample.probabilities[:, 1] / sample.probabilities[:, 0])
    slope = sm.Logit(sample.actual, logits[:, None]).fit(disp=False).params[0]
    assert calibration.fit_temperature(sample.actual, sample.probabilities) == pytest.approx(1 / slope, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_undoes_what_made_probabilities_too_sure(classes: int) -> None:
    rng = np.random.default_rng(0)
    honest = rng.dirichlet(np.ones(classes), 4000)
    actual = (honest.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    sure = scale(honest, 0.5)
    valid, test = (Sample(actual[part], sure[part], np.full(2000, "")) for part in (slice(2000), slice(2000, None)))
    found = calibration.calibrate(valid, test, config(classes), 10)
    assert found.temperature == pytest.approx(2, rel=0.08)
    assert found.after.ece < 0.03 < found.before.ece
    assert (found.after.n, found.after.bins) == (2000, 10)
    assert found.after.log_loss == pytest.approx(metrics.log_loss(actual[2000:], honest[2000:]), rel=0.01)


def test_without_validation_no_temperature_is_fitted() -> None:
    found = calibration.calibrate(None, drawn(0, 2), config(2), 10)
    assert (found.temperature, found.after) == (None, None)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "under 18"),
        ("17", "under 18"),
        ("18", "18 to 39"),
        ("64", "40 to 64"),
        ("65", "65 and over"),
        ("", "unknown"),
    ],
)
def test_ages_fall_into_bands(age: str, band: str) -> None:
    assert subgroups.age_band(age, [18, 40, 65]) == band


def _grouped(sexes: list[str], actual: list[int] | None = None) -> pd.DataFrame:
    sample = drawn(0, 2, images=len(sexes))
    if actual is not None:
        sample = Sample(np.array(actual), sample.probabilities, sample.patients)
    images = pd.DataFrame({"sex": sexes, "view": "PA", "age": "50"})
    rows = subgroups.metrics_by_group(sample, images, config(2), [18, 40, 65], 10)
    return pd.DataFrame([to_row(row) for row in rows], columns=list(GROUP_COLUMNS))


def test_groups_have_the_metrics_of_their_images() -> None:
    sexes = ["F"] * 30 + ["M"] * 30
    table = _grouped(sexes)
    assert set(zip(table["grouping"], table["group"], strict=True)) == {("sex", "F"), ("sex", "M")}
    sample = drawn(0, 2)
    women = table[(table["group"] == "F") & (table["metric"] == "sensitivity")].iloc[0]
    expected = metrics.recall_score(sample.actual[:30], sample.predicted[:30])
    assert (women["value"], women["images"]) == (pytest.approx(expected), 30)
    assert women["ci_low"] < women["value"] <= women["ci_high"]


def test_a_small_group_is_hidden_with_its_number() -> None:
    table = _grouped(["F"] * 30 + ["M"] * 12 + ["X"] * 9 + [""] * 9)
    hidden = table[table["group"].isin(["X", "unknown"])]
    assert len(hidden) == 2
    assert hidden["suppressed"].all()
    assert hidden[["images", "patients", "value", "ci_low", "ci_high", "n"]].isna().all(axis=None)
    assert set(table["group"]) - set(hidden["group"]) == {"F", "M"}


def test_a_hidden_group_cannot_be_told_by_subtraction_from_all_images() -> None:
    table = _grouped(["F"] * 40 + ["M"] * 11 + [""] * 9)
    assert set(table.loc[table["images"].isna(), "group"]) == {"M", "unknown"}
    assert _grouped(["F"] * 55 + ["M"] * 5)["images"].isna().all()  # where nothing else can hide it, all are hidden


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ({"a": 50, "b": 30, "c": 12}, set()),
        ({"a": 50, "b": 30, "c": 9}, {"b", "c"}),
        ({"a": 50, "b": 30, "c": 9, "d": 8}, {"c", "d"}),
        ({"a": 50, "b": 30, "c": 4, "d": 5}, {"b", "c", "d"}),  # 9 in all are still too few
        ({"a": 50, "b": 0}, {"a", "b"}),
    ],
)
def test_what_is_suppressed_is_two_groups_and_ten_images_or_nothing(counts: dict[str, int], hidden: set[str]) -> None:
    assert subgroups.suppress(counts, 10) == hidden


def test_groups_are_compared_with_the_largest_by_newcombes_interval() -> None:
    """Newcombe, Stat Med 17 (1998) 873, table II: 56/70 against 48/80 differ by 0.2, 0.0524 to 0.3339."""
    first, second = (
        (part / whole, *proportion_confint(part, whole, method="wilson")) for part, whole in [(56, 70), (48, 80)]
    )
    assert difference_interval(first, second) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    table = _grouped(["F"] * 35 + ["M"] * 25).set_index(["group", "metric"])
    assert set(table["reference"]) == {"F"}
    assert table.loc["F", "difference"].isna().all()
    men, women = table.loc[("M", "accuracy")], table.loc[("F", "accuracy")]
    assert men["difference"] == pytest.approx(men["value"] - women["value"])
    assert men["difference_ci_low"] < men["difference"] < men["difference_ci_high"]


def test_a_metric_of_few_images_is_hidden_though_its_group_is_large() -> None:
    table = _grouped(["F"] * 30 + ["M"] * 30, [1] * 25 + [0] * 5 + [0, 1] * 15).set_index(["group", "metric"])
    assert table.loc[("F", "specificity"), "suppressed"]
    assert pd.isna(table.loc[("F", "specificity"), "value"])
    assert pd.isna(table.loc[("F", "specificity"), "n"])
    assert table.loc[("F", "auroc"), "suppressed"]
    assert table.loc[("M", "specificity"), "suppressed"]  # else it would be all negatives less the men's
    assert not table.loc[("F", "sensitivity"), "suppressed"]


@pytest.mark.parametrize(
    ("value", "low", "high", "goal", "at_least", "verdict"),
    [
        (0.9, 0.86, 0.93, 0.85, True, "met"),
        (0.9, 0.84, 0.93, 0.85, True, "undecided"),
        (0.8, 0.75, 0.84, 0.85, True, "not met"),
        (0.03, 0.01, 0.05, 0.05, False, "met"),
        (0.03, 0.01, 0.06, 0.05, False, "undecided"),
        (0.1, 0.06, 0.12, 0.05, False, "not met"),
        (1.0, None, None, 0.85, True, "undecided"),
        (20, 20, 20, 20, False, "met"),
        (21, 21, 21, 20, False, "not met"),
    ],
)
def test_goals_are_judged_on_the_interval(
    value: float, low: float | None, high: float | None, goal: float, at_least: bool, verdict: str
) -> None:
    metric = Metric("overall", "accuracy", value, low, high, None, None, None)
    assert judge(metric, goal, at_least) == verdict


def test_repeats_that_disagree_leave_a_goal_undecided() -> None:
    goals = Goals(at_least={"accuracy": 0.5}, at_most={})
    intervals = {"met": (0.6, 0.9), "not met": (0.1, 0.4)}
    for each, verdict in ((("met", "met"), "met"), (("met", "not met"), "undecided")):
        repeats = [Metric("overall", "accuracy", 0.5, *intervals[name], None, None, None) for name in each]
        rows = [StudyMetric("l2", "best", "valid", "repeat", n, "test", metric) for n, metric in enumerate(repeats)]
        (judged_goal,) = judge_goals(rows, goals, config(2))
        assert (judged_goal.verdict, judged_goal.each) == (verdict, dict(enumerate(each)))


def test_epochs_count_to_the_first_of_the_highest_and_the_gap_is_of_the_chosen_epoch() -> None:
    history = pd.DataFrame(
        {"epoch": range(4), "train_accuracy": [0.6, 0.8, 0.9, 0.95], "valid_accuracy": [0.5, 0.8, 0.8, 0.7]}
    )
    (row,) = epochs_to_highest([replace(_runs([0])[0], history=history)])
    assert row.result.interval == (2, 2, 2)
    gap = train_test_gap(history, 2, Metric("overall", "accuracy", 0.85, 0.8, 0.89, "Wilson", 20, None))
    assert gap.interval == pytest.approx((0.05, 0.01, 0.1))
    assert gap.metric == "train_test_gap"


def _runs(seeds: list[int], monitored_split: str = "valid", images: int = 200) -> list[Run]:
    """One run of an experiment `a`, `b`, ... for each seed, on the same images."""
    made = []
    for number, seed in enumerate(seeds):
        samples = {split: {"best": drawn(seed + offset, 2, images)} for split, offset in (("valid", 50), ("test", 0))}
        names = {"experiment": "ab"[number % 2], "repeat": number // 2, "monitored_split": monitored_split}
        empty = {"ids": np.array([]), "history": pd.DataFrame(), "epochs": {}}
        made.append(Run(**names, **empty, test=samples["test"], valid=samples["valid"]))
    actual = made[0].test["best"].actual
    return [replace(run, test={"best": replace(run.test["best"], actual=actual)}) for run in made]


def _at_thresholds(runs: list[Run], points: dict[str, operating.Rule], classes: int = 2) -> list[Comparison]:
    return compare_at_thresholds(Study(runs, "a", None), points, config(classes))


def test_experiments_are_compared_at_their_own_thresholds_by_what_these_call() -> None:
    runs, points = _runs([0, 1]), operating.fixed_rules([0.9], [0.7])
    found = _at_thresholds(runs, points)
    assert [(row.point, row.result.metric) for row in found] == [
        (point, metric) for point in points for metric in ("sensitivity", "specificity")
    ]
    rates = []
    for run in runs:
        valid, test = run.valid["best"], run.test["best"]
        threshold = operating.at_sensitivity(curve(valid.actual.tolist(), valid.probabilities[:, 1].tolist()), 0.9)
        called = test.probabilities[:, 1] >= threshold
        rates.append((called[test.actual == 1].mean(), 1 - called[test.actual == 0].mean()))
    assert [row.result.difference for row in found[:2]] == pytest.approx(np.subtract(rates[1], rates[0]))
    assert {(row.role, row.tests, row.about) for row in found} == {("exploratory", 4, "trained networks")}
    assert all(row.result.p <= row.p_holm <= 1 for row in found)


def test_a_comparison_at_a_threshold_knows_repeats_and_published_mode_and_needs_validation() -> None:
    points = operating.fixed_rules([0.9], [])
    several = _at_thresholds(_runs([0, 1, 2, 3, 4, 5]), points)
    assert {row.about for row in several} == {"settings"}
    assert not any(row.chosen_on_test for row in several)
    assert all(row.chosen_on_test for row in _at_thresholds(_runs([0, 1], "test"), points))
    assert _at_thresholds([replace(run, valid={}) for run in _runs([0, 1])], points) == []
    assert _at_thresholds([replace(_runs([0, 1])[0], valid={}), _runs([0, 1])[1]], points) == []
    assert _at_thresholds(_runs([0, 1]), points, classes=3) == []


def test_a_thresholds_validation_metrics_stand_beside_it() -> None:
    valid = drawn(0, 2)
    row = operating.operating_points(valid, drawn(1, 2), config(2), operating.fixed_rules([0.9], []))[1]
    called = valid.probabilities[:, 1] >= row.threshold
    assert row.valid_sensitivity == pytest.approx(metrics.recall_score(valid.actual, called))
    assert row.valid_sensitivity >= 0.9
    assert row.valid_specificity == pytest.approx(metrics.recall_score(valid.actual, called, pos_label=0))
