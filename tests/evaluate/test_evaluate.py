"""Metrics against scikit-learn and scipy, and what the stage makes of a study's predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn import metrics
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from xraylab import files, tables
from xraylab.errors import DataError, MissingError
from xraylab.evaluate import confusion
from xraylab.evaluate.confusion import confusion_matrix
from xraylab.evaluate.metrics import auroc as auroc_of
from xraylab.evaluate.metrics import log_loss
from xraylab.evaluate.scores import Averages, MeanScores, rank
from xraylab.evaluate.tables import roc as roc_of
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.stages import evaluate

PUBLISHED = {"split": {"valid_pct": 0.0}, "train": {"monitor": "test_f1"}}
FOLDS = {"split": {"strategy": "folds", "folds": 3, "test_pct": None}}
THREE = {"data": {"classes": ["Normal", "Opacity", "Viral Pneumonia"], "positive": None}}
DRAWS = {
    "ordinary": lambda rng, classes: rng.integers(0, classes, (2, 40)),
    "one class absent": lambda rng, classes: rng.integers(1, classes, (2, 40)),
    "nothing predicted positive": lambda rng, classes: [rng.integers(0, classes, 40), np.zeros(40, int)],
    "nothing positive": lambda rng, classes: [np.zeros(40, int), rng.integers(0, classes, 40)],
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_counts_agree_with_scikit_learn(draw: str, classes: int, seed: int) -> None:
    actual, predicted = DRAWS[draw](np.random.default_rng(seed), classes)
    labels = list(range(classes))
    matrix = confusion_matrix(actual, predicted, classes)
    assert (matrix == metrics.confusion_matrix(actual, predicted, labels=labels)).all()
    assert confusion.accuracy(matrix) == metrics.accuracy_score(actual, predicted)
    for ours, theirs in [
        (confusion.precision, metrics.precision_score),
        (confusion.recall, metrics.recall_score),
        (confusion.f1, metrics.f1_score),
    ]:
        single = theirs(actual, predicted, labels=[1], average=None, zero_division=0)[0]
        macro = theirs(actual, predicted, labels=labels, average="macro", zero_division=0)
        assert ours(matrix, 1) == pytest.approx(single)
        assert ours(matrix, None) == pytest.approx(macro)


def test_no_image_at_all_scores_zero() -> None:
    assert confusion.accuracy(np.zeros((2, 2), int)) == 0


def _drawn(seed: int, classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(60) % classes)
    logits = rng.normal(size=(60, classes)).round(1) + np.eye(classes)[actual]
    return actual, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_the_binary_auroc_is_the_mann_whitney_statistic_and_the_area_under_the_curve(seed: int) -> None:
    actual, probabilities = _drawn(seed, 2)
    scores = probabilities[:, 1]
    u = mannwhitneyu(scores[actual == 1], scores[actual == 0]).statistic
    expected = u / ((actual == 1).sum() * (actual == 0).sum())
    curve = roc_of(actual, probabilities, 1)
    assert auroc_of(actual, probabilities, 1) == pytest.approx(expected)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_loss_of_three_classes_agree_with_scikit_learn(seed: int) -> None:
    actual, probabilities = _drawn(seed, 3)
    auroc = metrics.roc_auc_score(actual, probabilities, multi_class="ovr", average="macro")
    assert auroc_of(actual, probabilities, None) == pytest.approx(auroc)
    assert log_loss(actual, probabilities) == pytest.approx(metrics.log_loss(actual, probabilities))


def test_auroc_is_none_where_a_class_has_no_image() -> None:
    assert auroc_of(np.array([1, 1]), np.array([[0.2, 0.8], [0.6, 0.4]]), 1) is None
    assert auroc_of(np.array([0, 1]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]), None) is None


def test_a_probability_of_zero_is_a_large_loss_and_not_an_infinite_one() -> None:
    assert log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(87.336, abs=1e-3)


def _mean(experiment: str, f1: float, log_loss: float, split: str = "valid") -> MeanScores:
    return MeanScores(experiment, "best", split, Averages(f1 / 2, None, None, f1, None, log_loss))


@pytest.mark.parametrize(
    ("metric", "order"),
    [("f1", ["c", "b", "d", "a"]), ("accuracy", ["c", "b", "d", "a"]), ("loss", ["a", "c", "b", "d"])],
)
def test_equal_experiments_are_ordered_by_loss_and_then_as_they_come(metric: str, order: list[str]) -> None:
    means = [_mean("a", 0.8, 0.1), _mean("b", 0.9, 0.3), _mean("c", 0.9, 0.2), _mean("d", 0.9, 0.3)]
    on_test = [_mean("d", 1.0, 0.0, "test")]
    assert [row.experiment for row in rank(on_test + means, "valid", metric)] == order


def _evaluated(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> tuple[Params, Paths]:
    given, paths = finished_study.make(root, changes, **more)
    evaluate.run(given, paths)
    return given, paths


def _summary(paths: Paths) -> Any:
    return files.read_json(paths.evaluation / "summary.json")


def test_the_tables_hold_what_scikit_learn_finds_in_the_predictions(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    table = tables.read(paths.prediction("l2", 0))
    part = table[(table["checkpoint"] == "last") & (table["split"] == "test")]
    actual, predicted = part["label"] == "TB", part["p_TB"] > part["p_Healthy"]
    rows = tables.read(paths.comparison).set_index(["experiment", "repeat", "checkpoint", "split"])
    row = rows.loc[("l2", 0, "last", "test")]
    assert [row[["tn", "fp"]].tolist(), row[["fn", "tp"]].tolist()] == metrics.confusion_matrix(
        actual, predicted
    ).tolist()
    assert row["f1"] == pytest.approx(metrics.f1_score(actual, predicted))
    assert row["auroc"] == pytest.approx(metrics.roc_auc_score(actual, part["p_TB"]))
    assert (row["epoch"], row["n"], row["chosen_on"]) == (5, 16, "none")


def test_each_run_has_its_series(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    history = paths.model("l2", 0) / "history.csv"
    assert (paths.evaluation / "curves/l2-0.csv").read_bytes() == history.read_bytes()
    best = files.read_json(paths.test_metrics)["l2"]["test"]
    roc = tables.read(paths.evaluation / "roc/l2-0/TB.csv")
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(best["auroc"], abs=1e-6)
    images = tables.read(paths.evaluation / "images/l2-0.csv")
    assert list(images["id"]) == list(tables.read(paths.split / "test_data.csv")["id"])
    assert (images["actual"] == images["predicted"]).mean() == pytest.approx(best["accuracy"], abs=1e-6)


def test_every_class_of_three_has_its_roc_curve(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, THREE)
    names = sorted(path.name for path in (paths.evaluation / "roc/baseline-0").iterdir())
    assert names == ["Normal.csv", "Opacity.csv", "Viral Pneumonia.csv"]
    assert "tp" not in tables.read(paths.comparison)


def _sharpen(paths: Paths, experiment: str, split: str, right: float) -> None:
    """Make an experiment's probability of the right class `right` for every image of a split."""
    path = paths.prediction(experiment, 0)
    table = tables.read(path)
    here = table["split"] == split
    for label in ("Healthy", "TB"):
        table.loc[here, f"p_{label}"] = np.where(table.loc[here, "label"] == label, right, 1 - right)
    tables.write(table, path)


def test_the_top_two_are_ranked_on_validation_though_the_test_says_otherwise(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, keep=("baseline", "l2", "dropout"))
    for experiment, valid, test in [("baseline", 0.4, 0.9), ("l2", 0.9, 0.4), ("dropout", 0.8, 0.4)]:
        _sharpen(paths, experiment, "valid", valid)
        _sharpen(paths, experiment, "test", test)
    evaluate.run(given, paths)
    summary = _summary(paths)
    assert (summary["ranked_on"], summary["top_two"]) == ("valid", ["l2", "dropout"])
    assert [files.read_json(paths.test_metrics)[name]["test"]["f1"] for name in ("baseline", "l2")] == [1.0, 0.0]


def test_dvc_lists_the_metric_that_ranks_each_experiment_and_the_test_metric_of_the_first(tmp_path: Path) -> None:
    changes = {"study": {"baseline": "l2", "repeats": [0, 3]}, "evaluate": {"primary": "balanced_accuracy"}}
    _, paths = _evaluated(tmp_path, changes, skill=1.0)
    rows = tables.read(paths.comparison)
    best = rows[rows["checkpoint"] == "best"].groupby(["split", "experiment"])[["f1", "balanced_accuracy"]].mean()
    ranked = best.loc["valid"]["f1"]
    assert files.read_json(paths.metrics) == {
        "l2": pytest.approx(ranked["l2"], abs=1e-6),
        "baseline": pytest.approx(ranked["baseline"], abs=1e-6),
        "test.balanced_accuracy": pytest.approx(best.loc["test", ranked.idxmax()]["balanced_accuracy"], abs=1e-6),
    }
    assert list(files.read_json(paths.metrics)) == ["l2", "baseline", "test.balanced_accuracy"]


def test_published_mode_is_marked_everywhere(tmp_path: Path) -> None:
    images = {split: {"Healthy": count, "TB": count} for split, count in [("train", 8), ("valid", 0), ("test", 8)]}
    _, paths = _evaluated(tmp_path, PUBLISHED, images=images)
    rows = tables.read(paths.comparison)
    assert set(rows["split"]) == {"test"}
    assert set(zip(rows["checkpoint"], rows["chosen_on"], strict=True)) == {("best", "test"), ("last", "none")}
    for row in files.read_json(paths.test_metrics).values():
        assert set(row) == {"chosen_on", "test"}
        assert row["chosen_on"] == "test"
    summary = _summary(paths)
    assert (summary["ranked_on"], summary["chosen_on_test"]) == ("test", ["baseline", "l2"])


def test_one_experiment_that_chooses_on_test_is_marked_alone(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, {"experiments": {"l2": {"train": {"monitor": "test_f1"}}}})
    shown = files.read_json(paths.test_metrics)
    assert {name: row.get("chosen_on") for name, row in shown.items()} == {"baseline": None, "l2": "test"}
    assert _summary(paths)["chosen_on_test"] == ["l2"]


def test_metrics_are_means_over_repeats(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, {"study": {"repeats": [0, 3]}}, skill=1.0)
    rows = tables.read(paths.comparison)
    best = rows[(rows["experiment"] == "l2") & (rows["checkpoint"] == "best") & (rows["split"] == "test")]
    assert list(best["repeat"]) == [0, 3]
    assert best["f1"].nunique() == 2
    assert files.read_json(paths.test_metrics)["l2"]["test"] == {
        name: pytest.approx(best[name].mean(), abs=1e-6) for name in ("accuracy", "f1", "auroc")
    }


def _of_fold(paths: Paths, repeat: int, checkpoint: str = "best") -> pd.DataFrame:
    table = tables.read(paths.prediction("l2", repeat))
    return table[(table["checkpoint"] == checkpoint) & (table["split"] == "test")]


def _pooled(paths: Paths, **wanted: Any) -> dict[str, Any]:
    (row,) = (row for row in _summary(paths)["pooled"] if all(row[key] == value for key, value in wanted.items()))
    return row


def test_metrics_pooled_over_folds_are_those_of_every_image_tested_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, paths = _evaluated(tmp_path, FOLDS | {"study": {"repeats": [2, 0, 1]}}, skill=1.0)
    assert "note:" not in capsys.readouterr().out
    for checkpoint in ("best", "last"):
        together = pd.concat([_of_fold(paths, repeat, checkpoint) for repeat in range(3)])
        assert len(together) == together["id"].nunique() == 48
        row = _pooled(paths, experiment="l2", checkpoint=checkpoint)
        actual, predicted = together["label"] == "TB", together["p_TB"] > together["p_Healthy"]
        assert row["confusion"] == metrics.confusion_matrix(actual, predicted).tolist()
        assert row["f1"] == pytest.approx(metrics.f1_score(actual, predicted))
        assert row["auroc"] == pytest.approx(metrics.roc_auc_score(actual, together["p_TB"]))
        assert (row["n"], row["round"], row["folds"], row["split"]) == (48, 0, [0, 1, 2], "test")
    best = _pooled(paths, experiment="l2", checkpoint="best")
    apart = (
        tables.read(paths.comparison).set_index(["experiment", "checkpoint", "split", "repeat"]).sort_index()["auroc"]
    )
    shown = files.read_json(paths.test_metrics)["l2"]
    assert shown["test"] == {name: pytest.approx(best[name], abs=1e-6) for name in ("accuracy", "f1", "auroc")}
    assert shown["test"]["auroc"] != pytest.approx(apart["l2", "best", "test"].mean(), abs=1e-6)
    assert list(shown) == ["test"]


def test_a_second_round_of_folds_is_pooled_by_itself_and_the_metrics_are_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, paths = _evaluated(tmp_path, FOLDS | {"study": {"repeats": [0, 1, 2, 3, 5]}}, skill=1.0)
    first, second = (_pooled(paths, experiment="l2", checkpoint="best", round=number) for number in (0, 1))
    assert (second["folds"], second["n"]) == ([0, 2], len(_of_fold(paths, 3)) + len(_of_fold(paths, 5)))
    shown = files.read_json(paths.test_metrics)["l2"]["test"]
    assert shown["f1"] == pytest.approx((first["f1"] + second["f1"]) / 2, abs=1e-6)
    assert (
        "note: round 1 of the repeats tests fold 0, 2 of 3 alone; its metrics pool these\n" in capsys.readouterr().out
    )


def test_predictions_of_another_fold_are_refused(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, FOLDS | {"study": {"repeats": [0, 1, 2]}})
    tables.write(tables.read(paths.prediction("l2", 2)), paths.prediction("l2", 1))
    with pytest.raises(DataError) as error:
        evaluate.run(given, paths)
    assert error.value.headline == (
        f"{paths.prediction('l2', 1)} does not match data/split/fold-1; `dvc repro` makes it anew:"
    )
    assert error.value.problems[0] == "best, valid: 16 images have no prediction, such as Healthy/test1.png (Healthy)"


def test_without_folds_nothing_is_pooled(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    assert (_summary(paths)["folds"], _summary(paths)["pooled"]) == (None, [])


def test_the_baseline_comes_first(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, {"study": {"baseline": "l2"}})
    assert list(files.read_json(paths.test_metrics)) == ["l2", "baseline"]


def test_a_test_split_of_one_class_has_no_auroc_and_no_curve(tmp_path: Path) -> None:
    images = {"train": {"Healthy": 4, "TB": 4}, "valid": {"Healthy": 4, "TB": 4}, "test": {"Healthy": 4, "TB": 0}}
    _, paths = _evaluated(tmp_path, images=images)
    assert files.read_json(paths.test_metrics)["l2"]["test"]["auroc"] is None
    assert not (paths.evaluation / "roc").exists()


def test_missing_predictions_are_named_with_the_remedy(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    path = paths.prediction("l2", 0)
    path.unlink()
    with pytest.raises(MissingError) as error:
        evaluate.run(given, paths)
    assert str(error.value) == f"{path} does not exist: `dvc repro` makes it"


def _refused(given: Params, paths: Paths, table: pd.DataFrame) -> str:
    tables.write(table, paths.prediction("l2", 0))
    with pytest.raises(DataError) as error:
        evaluate.run(given, paths)
    assert not paths.metrics.exists()
    return str(error.value)


def test_predictions_of_another_split_are_refused(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    table = tables.read(paths.prediction("l2", 0))
    on_test = (table["checkpoint"] == "last") & (table["split"] == "test")
    table.loc[on_test & (table["id"] == "TB/test3.png"), "label"] = "Healthy"
    dropped = on_test & table["id"].isin(["Healthy/test5.png", "Healthy/test6.png"])
    assert _refused(given, paths, table[~dropped]) == (
        f"{paths.prediction('l2', 0)} does not match data/split; `dvc repro` makes it anew:\n"
        "  - last, test: 3 images have no prediction, such as Healthy/test5.png (Healthy)\n"
        "  - last, test: 1 image is predicted but not in the split, such as TB/test3.png (Healthy)"
    )


def test_an_image_predicted_twice_is_refused(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    table = tables.read(paths.prediction("l2", 0))
    assert _refused(given, paths, pd.concat([table, table.iloc[:1]])) == (
        f"{paths.prediction('l2', 0)} does not match data/split; `dvc repro` makes it anew:\n"
        "  - best, valid: 1 image is predicted but not in the split, such as Healthy/valid0.png (Healthy)"
    )


EDITS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "add up": (
        lambda table: table.assign(p_TB=table["p_TB"].where(table.index > 0, 0.9), p_Healthy=0.8),
        "the probabilities of Healthy/valid0.png (best, valid) add up to 1.7, and not to 1: `dvc repro` makes it anew",
    ),
    "reversed": (lambda table: table[::-1], "best, test: the images are in another order than in the split"),
    "cut": (lambda table: table[:-1], "last, test: 1 image has no prediction, such as TB/test"),
    "relabelled": (
        lambda table: table.assign(label=table["label"].where(table.index > 0, "TB")),
        "best, valid: 1 image is predicted but not in the split, such as Healthy/valid0.png (TB)",
    ),
    "other rows": (
        lambda table: pd.concat([table, table[:1].assign(split="train")]),
        "there are rows of no checkpoint or split: best, train",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_table_that_was_edited_by_hand_is_refused(tmp_path: Path, edit: str) -> None:
    given, paths = finished_study.make(tmp_path)
    change, message = EDITS[edit]
    assert message in _refused(given, paths, change(tables.read(paths.prediction("l2", 0))))


def test_predictions_without_a_class_are_refused(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    table = tables.read(paths.prediction("l2", 0)).drop(columns="p_TB")
    assert _refused(given, paths, table) == f"{paths.prediction('l2', 0)} has no column p_TB: `dvc repro` makes it anew"


@pytest.mark.parametrize("value", [None, float("inf"), -0.1])
def test_what_is_no_probability_is_refused(tmp_path: Path, value: float | None) -> None:
    given, paths = finished_study.make(tmp_path)
    table = tables.read(paths.prediction("l2", 0))
    table.loc[3, "p_TB"] = value
    assert _refused(given, paths, table) == (
        f"{paths.prediction('l2', 0)} holds a probability that is not a number from 0 to 1: `dvc repro` makes it anew"
    )


def _metrics(paths: Paths, **wanted: Any) -> pd.DataFrame:
    table = tables.read(paths.evaluation / "metrics.csv")
    chosen = {"checkpoint": "best", "split": "test", "kind": "repeat"} | {
        name.rstrip("_"): value for name, value in wanted.items()
    }
    return table[np.all([table[key] == value for key, value in chosen.items()], axis=0)]


def _metric(paths: Paths, **wanted: Any) -> pd.Series:
    (row,) = (row for _, row in _metrics(paths, **wanted).iterrows())
    return row


def _probabilities(paths: Paths, experiment: str, repeat: int, split: str = "test") -> pd.DataFrame:
    table = tables.read(paths.prediction(experiment, repeat))
    return table[(table["checkpoint"] == "best") & (table["split"] == split)]


def _name_patients(paths: Paths, images_each: int) -> None:
    for split in ("valid", "test"):
        path = paths.split / f"{split}_data.csv"
        images = tables.read(path)
        tables.write(images.assign(patient=[f"p{number // images_each}" for number in range(len(images))]), path)


def test_metrics_of_a_run_have_intervals_on_the_test_split_alone(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    part = _probabilities(paths, "l2", 0)
    right = int(((part["p_TB"] > 0.5) == (part["label"] == "TB")).sum())
    row = _metric(paths, experiment="l2", class_="overall", metric="accuracy")
    assert (float(row["ci_low"]), float(row["ci_high"])) == pytest.approx(
        proportion_confint(right, 16, method="wilson")
    )
    assert (row["ci_method"], row["n"], row["number"]) == ("Wilson", 16, "0")
    assert set(_metrics(paths, split="valid")["ci_low"]) == {""}
    wide = tables.read(paths.comparison).set_index(["experiment", "checkpoint", "split"])
    assert float(wide.loc[("l2", "best", "test"), "accuracy_ci_low"]) == float(row["ci_low"])
    assert _summary(paths)["intervals"]["rests_on"] == "patients are unknown, so each image counts as one patient"


def test_where_patients_repeat_they_count_once(tmp_path: Path) -> None:
    given, paths = finished_study.make(
        tmp_path, images={split: {"Healthy": 12, "TB": 12} for split in ("valid", "test")}
    )
    _name_patients(paths, 2)
    evaluate.run(given, paths)
    by = _metrics(paths, experiment="l2").set_index(["class", "metric"])["ci_method"]
    assert by["TB", "auroc"] == "Newcombe, variance of Obuchowski"
    assert {name for name in by if name} - {"Newcombe, variance of Obuchowski", "Wilson of patients"} == {
        "logit t of patients",
        *(f"jackknife of patients, {scale} t" for scale in ("logit", "atanh", "log")),
    }
    tests = {row["metric"]: row["test"] for row in _summary(paths)["comparisons"]}
    assert tests["accuracy"] == "exact McNemar, signs of whole patients"
    assert tests["auroc"] == "paired DeLong of patients (Obuchowski)"
    assert {tests[name] for name in ("f1", "sensitivity", "specificity")} == {"all swaps of whole patients"}
    assert _summary(paths)["intervals"]["patients"] == 12


def test_few_patients_have_no_interval_and_the_table_says_why(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path)
    _name_patients(paths, 2)
    evaluate.run(given, paths)
    row = _metric(paths, experiment="l2", class_="TB", metric="auroc")
    assert (row["ci_low"], row["why"]) == ("", "only 4 patients of TB; at least 5 are needed")
    (row,) = (row for row in _summary(paths)["comparisons"] if (row["kind"], row["role"]) == ("baseline", "primary"))
    assert (row["p"], row["why"]) == (None, "only 4 patients of TB; at least 5 are needed")


def test_the_ensemble_is_of_every_image_and_the_tests_are_of_the_mean_over_repeats(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, {"study": {"repeats": [0, 3]}}, skill=1.0)
    means, alone = {}, {}
    for name in ("baseline", "l2"):
        parts = [_probabilities(paths, name, repeat).set_index("id") for repeat in (0, 3)]
        truth = parts[0]["label"] == "TB"
        means[name] = (parts[0]["p_TB"] + parts[1]["p_TB"][parts[0].index]) / 2
        alone[name] = np.mean([metrics.f1_score(part["label"] == "TB", part["p_TB"] > 0.5) for part in parts])
    f1 = {name: metrics.f1_score(truth, p > 0.5) for name, p in means.items()}
    assert _metric(paths, experiment="l2", kind="mean", class_="TB", metric="f1")["value"] == pytest.approx(f1["l2"])
    (row,) = (row for row in _summary(paths)["comparisons"] if (row["kind"], row["metric"]) == ("baseline", "f1"))
    assert row["difference"] == pytest.approx(alone["l2"] - alone["baseline"])
    assert (row["about"], row["test"]) == ("settings", "Obuchowski-Rockette, seeds and patients")
    spread = tables.read(paths.evaluation / "spread.csv").set_index(
        ["experiment", "checkpoint", "split", "class", "metric"]
    )
    each = _metrics(paths, experiment="l2", class_="TB", metric="f1")["value"].astype(float)
    row = spread.loc[("l2", "best", "test", "TB", "f1")]
    assert (float(row["mean"]), float(row["sd"])) == pytest.approx((each.mean(), each.std(ddof=1)))


def test_the_primary_metric_is_corrected_over_experiments_and_the_rest_over_all_of_it(tmp_path: Path) -> None:
    given = {"evaluate": {"primary": "f1"}}
    _, paths = _evaluated(tmp_path, given, keep=("baseline", "l2", "dropout", "contrast"), skill=1.0)
    summary = _summary(paths)
    once = [row for row in summary["comparisons"] if row["kind"] == "baseline" or "baseline" not in summary["top_two"]]
    primary, rest = ([row for row in once if row["role"] == role] for role in ("primary", "exploratory"))
    assert [row["first"] for row in primary] == ["l2", "dropout", "contrast"]
    assert {row["metric"] for row in primary} == {"f1"}
    assert {row["metric"] for row in rest} >= {"auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"}
    for rows in (primary, rest):
        tested = [row for row in rows if row["p"] is not None]
        expected = multipletests([row["p"] for row in tested], method="holm")[1]
        assert [row["p_holm"] for row in tested] == pytest.approx(list(expected))
        assert {row["tests"] for row in rows} == {len(tested)}
    assert not any(row["chosen_on_test"] for row in once)
    assert {row["about"] for row in once} == {"trained networks"}


@pytest.mark.parametrize("weakest", ["baseline", "dropout"])
def test_the_two_best_are_one_comparison(weakest: str, tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, keep=("baseline", "l2", "dropout"), skill=1.0)
    _sharpen(paths, weakest, "valid", 0.4)
    evaluate.run(given, paths)
    summary = _summary(paths)
    best = [row for row in summary["comparisons"] if row["kind"] == "top two"]
    assert len(best) == 6
    if weakest == "baseline":
        assert [[row["first"], row["second"]] for row in best] == [summary["top_two"]] * 6
        assert {row["role"] for row in best} == {"exploratory"}
        assert {row["tests"] for row in best} == {2 * 5 + 6}
    else:
        against = [row for row in summary["comparisons"] if (row["kind"], row["first"]) == ("baseline", "l2")]
        assert best == [row | {"kind": "top two"} for row in against]


def test_a_margin_is_judged_on_the_interval_that_all_experiments_keep_together(tmp_path: Path) -> None:
    given = {"evaluate": {"margin": 0.35, "primary": "auroc"}}
    _, paths = _evaluated(tmp_path, given, keep=("baseline", "l2", "dropout"), skill=1.0)
    rows = [row for row in _summary(paths)["comparisons"] if (row["kind"], row["role"]) == ("baseline", "primary")]
    for row in rows:
        middle, half = row["difference"], row["ci_high"] - row["difference"]
        assert row["margin_high"] - middle > half
        assert (row["margin_low"] + row["margin_high"]) / 2 == pytest.approx(middle)
        assert row["not_worse"] == (row["margin_low"] > -0.35)
        assert row["equivalent"] == (row["margin_low"] > -0.35 and row["margin_high"] < 0.35)
        assert ("equivalent within 0.35" in row["sentence"]) == row["equivalent"]


def test_one_experiment_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, keep=("baseline",))
    assert _summary(paths)["comparisons"] == []
    assert len(tables.read(paths.evaluation / "comparisons.csv")) == 0


def test_pooled_folds_are_compared_on_every_image_once(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, FOLDS | {"study": {"repeats": [0, 1, 2]}}, skill=1.0)
    row = _metric(paths, experiment="l2", kind="mean", class_="overall", metric="accuracy")
    pooled = _metric(paths, experiment="l2", kind="round", class_="overall", metric="accuracy")
    assert (row["value"], row["n"]) == (pooled["value"], 48)
    assert pooled["value"] == pytest.approx(_pooled(paths, experiment="l2", checkpoint="best")["accuracy"])


def test_thresholds_come_from_the_validation_split(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path, skill=1.0)
    points = tables.read(paths.evaluation / "operating_points.csv")
    row = points[(points["experiment"] == "l2") & (points["point"] == "fixed for 90 % sensitivity on validation")].iloc[
        0
    ]
    valid, test = (_probabilities(paths, "l2", 0, split) for split in ("valid", "test"))
    positives = np.sort(valid.loc[valid["label"] == "TB", "p_TB"])
    assert row["threshold"] == pytest.approx(positives[0])  # 8 positives: 90 % of them are all
    called = test["p_TB"] >= positives[0]
    assert row["sensitivity"] == pytest.approx(metrics.recall_score(test["label"] == "TB", called))


def test_published_mode_marks_its_tests_and_fixes_no_threshold_on_test(tmp_path: Path) -> None:
    images = {split: {"Healthy": count, "TB": count} for split, count in [("train", 8), ("valid", 0), ("test", 8)]}
    _, paths = _evaluated(tmp_path, PUBLISHED, images=images)
    assert set(_metrics(paths)["chosen_on"]) == {"test"}
    assert all(row["chosen_on_test"] for row in _summary(paths)["comparisons"])
    points = tables.read(paths.evaluation / "operating_points.csv")
    assert set(points.loc[points["threshold"] != "", "point"]) == {"0.5"}
    assert set(points.loc[points["threshold"] == "", "why"].str.split(":").str[0]) == {"not available"}
    assert {row["temperature"] for row in files.read_json(paths.evaluation / "calibration.json")} == {None}
    assert not (paths.evaluation / "reliability_scaled").exists()


def test_goals_come_out_met_not_met_or_undecided(tmp_path: Path) -> None:
    goals = {
        "at_least": {"accuracy": 0.1, "f1": 0.999, "specificity": 0.999},
        "at_most": {"train_test_gap": -0.9, "epochs_to_highest_accuracy": 6},
    }
    _, paths = _evaluated(tmp_path, {"evaluate": {"goals": goals}}, skill=0.5)
    verdicts = {
        row["metric"]: row["verdict"]
        for row in files.read_json(paths.evaluation / "goals.json")
        if row["experiment"] == "baseline"
    }
    assert verdicts == {
        "accuracy": "met",
        "f1": "not met",
        "specificity": "not met",
        "train_test_gap": "not met",
        "epochs_to_highest_accuracy": "met",
    }


def test_groups_are_those_of_the_index(tmp_path: Path) -> None:
    given, paths = finished_study.make(
        tmp_path, images={split: {"Healthy": 12, "TB": 12} for split in finished_study.SPLITS}
    )
    index = tables.read(paths.index)
    tables.write(index.assign(sex=["F", "M"] * (len(index) // 2), age="61", view=""), paths.index)
    evaluate.run(given, paths)
    groups = tables.read(paths.evaluation / "subgroups.csv")
    row = groups[(groups["experiment"] == "l2") & (groups["group"] == "F") & (groups["metric"] == "accuracy")].iloc[0]
    part = _probabilities(paths, "l2", 0).set_index("id")
    women = part.loc[list(index.loc[index.index % 2 == 0, "id"][lambda ids: ids.isin(part.index)])]
    assert (row["images"], row["grouping"]) == (12, "sex")
    assert float(row["value"]) == pytest.approx(((women["p_TB"] > 0.5) == (women["label"] == "TB")).mean())


def test_without_known_groups_the_table_is_empty_and_can_be_read(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    assert len(tables.read(paths.evaluation / "subgroups.csv")) == 0


def test_three_classes_have_means_and_a_rate_called_normal(tmp_path: Path) -> None:
    given = THREE | {"evaluate": {"negative_class": "Normal", "prevalence": [0.8, 0.15, 0.05]}}
    _, paths = _evaluated(tmp_path, given, skill=1.0)
    part = _probabilities(paths, "l2", 0)
    columns = ["p_Normal", "p_Opacity", "p_Viral Pneumonia"]
    predicted = part[columns].to_numpy().argmax(axis=1)
    opaque = part["label"].to_numpy() == "Opacity"
    row = _metric(paths, experiment="l2", class_="Opacity", metric="called_normal")
    assert row["value"] == pytest.approx((predicted[opaque] == 0).mean())
    assert len(_metrics(paths, experiment="l2", class_="Normal", metric="called_normal")) == 0
    assert len(_metrics(paths, experiment="l2", class_="Opacity", metric="ppv_at_prevalence")) == 1
    truth = part["label"].map(given["data"]["classes"].index)
    weighted = metrics.f1_score(truth, predicted, average="weighted")
    assert _metric(paths, experiment="l2", class_="weighted", metric="f1")["value"] == pytest.approx(weighted)
    matrices = files.read_json(paths.evaluation / "confusion_matrices.json")
    (own,) = (row for row in matrices if row["experiment"] == "l2")
    np.testing.assert_allclose(own["row_shares"], metrics.confusion_matrix(truth, predicted, normalize="true"))


def test_curves_for_plots_agree_with_scikit_learn(tmp_path: Path) -> None:
    _, paths = _evaluated(tmp_path)
    part = _probabilities(paths, "l2", 0)
    pr = tables.read(paths.evaluation / "pr/l2-0/TB.csv")
    expected = metrics.average_precision_score(part["label"] == "TB", part["p_TB"])
    assert -(np.diff(pr["recall"]) * pr["precision"][:-1]).sum() == pytest.approx(expected)
    for folder in ("reliability", "reliability_scaled"):
        table = tables.read(paths.evaluation / folder / "l2-0.csv")
        assert table["n"].sum() == 16
        assert (table["n"] > 0).all()


def test_evaluating_again_gives_the_same_bytes(tmp_path: Path) -> None:
    given, paths = _evaluated(tmp_path)
    before = {path: path.read_bytes() for path in paths.reports.rglob("*") if path.is_file()}
    evaluate.run(given, paths)
    assert {path: path.read_bytes() for path in paths.reports.rglob("*") if path.is_file()} == before
