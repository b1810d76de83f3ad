"""Experiments of multi-label studies against each other, over findings and in groups of images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import finished_findings
import numpy as np
import pandas as pd
import pytest
import small
from refused import problems
from sklearn.metrics import roc_auc_score
from statistics_samples import config as eval_config

from xraylab import files, tables, targets
from xraylab.evaluate.multi_label.comparisons import Compared, compare_findings, compare_macro
from xraylab.evaluate.multi_label.samples import Findings
from xraylab.evaluate.multi_label.subgroups import aurocs_by_group
from xraylab.evaluate.resampling import Influence, degrees_of_freedom, joint_degrees_of_freedom
from xraylab.evaluate.significance import SEEDS, Difference, compare_repeats, compare_runs
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.stages import evaluate

CFG = eval_config(3, positive=None, negative_class=None)
ONE = eval_config(2)


def _networks(seed: int, number: int, patients: int = 70, images: int = 2, skill: float = 1.2) -> list[Findings]:
    """Networks on the same images, with 3 findings that go together."""
    rng = np.random.default_rng(seed)
    of_image = np.repeat(np.arange(patients), images)
    cause = rng.normal(size=(patients, 1))[of_image] + rng.normal(size=(len(of_image), 3))
    labels = (cause > 0.7).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    shared = rng.normal(size=labels.shape)
    scores = [skill * (labels == 1) + shared + rng.normal(size=labels.shape) for _ in range(number)]
    names, thresholds = of_image.astype(str), np.full(labels.shape, 0.5)
    return [Findings(labels, 1 / (1 + np.exp(-each)), thresholds, names) for each in scores]


def _copies(findings: Findings) -> Findings:
    """Its first finding three times."""
    arrays = (findings.labels, findings.probabilities, findings.thresholds)
    return Findings(*(np.tile(each[:, :1], (1, 3)) for each in arrays), findings.patients)


def _compared(findings: Findings) -> Compared:
    return Compared(findings, [0, 1, 2], CFG)


def _auroc(rows: list[Difference]) -> Difference:
    return next(row for row in rows if row.metric == "auroc")


def test_the_mean_of_one_finding_under_three_names_is_tested_as_that_finding() -> None:
    """Paired DeLong by patient of the finding alone; tests of findings taken as independent would be far surer."""
    first, second = _networks(0, 2)
    alone = _auroc(compare_runs(first.samples[0], second.samples[0], ONE))
    mean = _auroc(compare_macro([_compared(_copies(first))], [_compared(_copies(second))], None))
    assert mean.test == "paired DeLong over findings, of patients (Obuchowski)"
    assert mean.p == pytest.approx(alone.p, abs=0.01)
    assert (mean.difference, mean.error) == pytest.approx((alone.difference, alone.error), rel=0.01)
    assert mean.freedom == pytest.approx(alone.freedom, rel=0.15)


def test_the_mean_over_seeds_of_one_finding_under_three_names_is_tested_as_that_finding() -> None:
    runs = _networks(1, 6)
    alone = _auroc(
        compare_repeats([each.samples[0] for each in runs[:3]], [each.samples[0] for each in runs[3:]], ONE, None)
    )
    first, second = ([_compared(_copies(each)) for each in part] for part in (runs[:3], runs[3:]))
    mean = _auroc(compare_macro(first, second, None))
    assert mean.test == alone.test == SEEDS
    assert (mean.p, mean.error, mean.freedom) == pytest.approx((alone.p, alone.error, alone.freedom), rel=0.02)
    assert mean.first_sd == pytest.approx(alone.first_sd)


@pytest.mark.parametrize("name", ["auroc", "f1", "balanced_accuracy"])
def test_the_error_of_a_difference_agrees_with_leaving_out_each_patient(name: str) -> None:
    first, second = _networks(2, 2, patients=150)
    patients = np.unique(first.patients)
    left_out = []
    for patient in patients:
        rest = first.patients != patient
        left_out.append(_compared(first[rest]).macro(name) - _compared(second[rest]).macro(name))
    jackknife = np.sqrt((len(patients) - 1) * np.var(left_out))
    rows = compare_macro([_compared(first)], [_compared(second)], None)
    assert next(row.error for row in rows if row.metric == name) == pytest.approx(jackknife, rel=0.06)


def test_single_findings_are_compared_in_the_primary_metric_alone() -> None:
    first, second = _networks(3, 2)
    rows = compare_findings([_compared(first)], [_compared(second)], None)
    assert [(name, row.metric) for name, row in rows] == [("A", "auroc"), ("B", "auroc"), ("C", "auroc")]
    alone = _auroc(compare_runs(first.samples[1], second.samples[1], ONE))
    assert rows[1][1] == alone


def test_degrees_of_freedom_do_not_grow_with_copies() -> None:
    values = np.random.default_rng(0).normal(size=(20, 1))
    values -= values.mean()
    alone, copies = (Influence(np.tile(values, (1, n)), np.full(n, 20)) for n in (1, 4))
    assert joint_degrees_of_freedom(alone) == pytest.approx(degrees_of_freedom(alone))
    assert joint_degrees_of_freedom(copies) == pytest.approx(19, rel=1e-3)
    assert degrees_of_freedom(copies) == pytest.approx(4 * 19)


def _evaluated(root: Path, changes: dict[str, Any] | None = None, **more: Any) -> Paths:
    params, paths = finished_findings.make(root, changes, **more)
    evaluate.run(params, paths)
    return paths


def test_the_mean_auroc_decides_and_findings_are_exploratory(tmp_path: Path) -> None:
    paths = _evaluated(tmp_path)
    table = tables.read(paths.evaluation / "comparisons.csv")
    rows = table[table["kind"] == "baseline"].set_index(["class", "metric"])
    assert rows.index[rows["role"] == "primary"].tolist() == [("macro", "auroc")]
    exploratory = rows[rows["role"] == "exploratory"]
    assert exploratory.index.tolist() == [
        *(("macro", name) for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1")),
        *((name, "auroc") for name in finished_findings.FINDINGS),
    ]
    assert set(exploratory["tests"]) == {9}
    assert rows.loc[("macro", "auroc"), "sentence"].startswith(
        "Of these two trained networks, l2’s is not shown to differ from baseline’s: macro AUROC "
    )
    assert ": AUROC of Hernia " in rows.loc[("Hernia", "auroc"), "sentence"]
    summary = files.read_json(paths.evaluation / "summary.json")
    assert [row["class"] for row in summary["comparisons"]] == table["class"].tolist()


def test_folds_are_pooled_and_tested_over_folds(tmp_path: Path) -> None:
    changes = {
        "split": {"strategy": "folds", "folds": 3, "test_pct": None},
        "study": {"repeats": [0, 1, 2]},
    }
    paths = _evaluated(tmp_path, changes)
    table = tables.read(paths.evaluation / "metrics.csv")
    rounds = table[(table["kind"] == "round") & (table["experiment"] == "l2") & (table["checkpoint"] == "best")]
    parts = []
    for repeat in range(3):
        predicted = tables.read(paths.prediction("l2", repeat))
        predicted = predicted[(predicted["checkpoint"] == "best") & (predicted["split"] == "test")]
        images = tables.read(paths.split_of(repeat) / "test_data.csv").set_index("id").loc[predicted["id"]]
        parts.append((targets.values(images, ["Effusion"])[:, 0], predicted["p_Effusion"].to_numpy()))
    labels, p = (np.concatenate(each) for each in zip(*parts, strict=True))
    known = targets.known(labels)
    row = rounds[(rounds["class"] == "Effusion") & (rounds["metric"] == "auroc")].iloc[0]
    assert float(row["value"]) == pytest.approx(roc_auc_score(labels[known], p[known]))
    compared = tables.read(paths.evaluation / "comparisons.csv")
    primary = compared[compared["role"] == "primary"].iloc[0]
    assert primary["test"] == "corrected t over folds (Nadeau and Bengio)"
    shown = files.read_json(paths.test_metrics)["l2"]["findings"]["Effusion"]
    assert shown == pytest.approx(float(row["value"]), abs=1e-6)


def test_the_mean_of_a_group_is_over_findings_that_are_frequent_in_each() -> None:
    (findings,) = _networks(5, 1, patients=100)
    findings.labels[:, 2] = np.where(np.arange(200) < 12, 1.0, 0.0)  # all among the first group
    images = pd.DataFrame({"sex": np.repeat(["F", "M"], 100), "patient": findings.patients})
    rows = aurocs_by_group(findings, images, CFG, [18], min_size=10)
    of_mean = {row.group: (row.result, over) for row, over in rows if row.result and row.result.class_ == "macro"}
    assert {over for _, over in of_mean.values()} == {2}
    for group, part in (("F", slice(0, 100)), ("M", slice(100, 200))):
        expected = []
        for number in (0, 1):
            labels, p = findings.labels[part, number], findings.probabilities[part, number]
            expected.append(roc_auc_score(labels[~np.isnan(labels)], p[~np.isnan(labels)]))
        metric = of_mean[group][0]
        assert metric is not None
        assert metric.value == pytest.approx(np.mean(expected))
    hidden = [row for row, _ in rows if row.result and row.result.class_ == "C"]
    assert {(row.group, row.suppressed) for row in hidden} == {("F", True), ("M", True)}
    assert all(row.result and row.result.value is None for row in hidden)


def _multi(change: dict[str, Any]) -> Any:
    def spoil(tree: small.Tree) -> None:
        tree.update(config.merge(config.merge(tree, finished_findings.MULTI), {"evaluate": change}))

    return spoil


FOUR = ", ".join(finished_findings.FINDINGS)
REFUSED = {
    "a healthy class": (
        {"negative_class": "Hernia"},
        "evaluate.negative_class: must be null with data.task: multi-label, where an image may have no finding",
    ),
    "one prevalence": (
        {"prevalence": 0.1},
        f"evaluate.prevalence: needs a list with data.task: multi-label, one for each of {FOUR}",
    ),
    "too few prevalences": (
        {"prevalence": [0.1, 0.2]},
        f"evaluate.prevalence: 2 prevalences for the findings {FOUR}",
    ),
    "a goal that findings have not": (
        {"goals": {"at_most": {"train_test_gap": 0.1}}},
        "evaluate.goals.at_most: train_test_gap is no metric of a multi-label study: remove it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_findings_is_refused(case: str, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    assert problems(tmp_path, _multi(change)) == [message]


def test_prevalences_goals_and_a_primary_sensitivity_are_of_findings(tmp_path: Path) -> None:
    changes = {
        "evaluate": {
            "prevalence": [0.5, 0.4, 0.3, 0.2],
            "primary": "sensitivity",
            "goals": {"at_least": {"auroc": 0.5, "sensitivity": 0.99}},
        }
    }
    paths = _evaluated(tmp_path, changes)
    verdicts = {(row["experiment"], row["metric"]): row for row in files.read_json(paths.evaluation / "goals.json")}
    assert verdicts["l2", "auroc"]["verdict"] == "met"
    assert verdicts["l2", "sensitivity"]["verdict"] == "not met"
    table = tables.read(paths.evaluation / "metrics.csv")
    best = table[(table["experiment"] == "l2") & (table["checkpoint"] == "best") & (table["kind"] == "mean")]
    macro = best[(best["class"] == "macro") & (best["metric"] == "auroc")]["value"]
    assert verdicts["l2", "auroc"]["values"] == pytest.approx(macro.astype(float).tolist())
    assert set(best[best["metric"] == "ppv_at_prevalence"]["class"]) == set(finished_findings.FINDINGS)
    compared = tables.read(paths.evaluation / "comparisons.csv")
    primary = compared[compared["role"] == "primary"]
    assert set(primary["class"] + " " + primary["metric"]) == {"macro sensitivity"}


def test_a_patient_shared_by_two_findings_is_one() -> None:
    """Means of findings on other images of the same patients know that these are the same."""
    findings = _networks(6, 1, patients=60)[0]
    odd = np.arange(len(findings.patients)) % 2 == 1
    labels = np.nan_to_num(findings.labels)
    labels[odd, 0], labels[~odd, 1] = np.nan, np.nan
    split = replace(findings, labels=labels)
    assert split.units_of(0).tolist() == split.units_of(1).tolist()
    assert len(split.units.strata) == 60
