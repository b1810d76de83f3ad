"""Evaluation of multi-label studies: each finding, macro and micro means, and what the stage writes of them."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import finished_findings
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn import metrics
from statistics_samples import config as eval_config

from xraylab import files, tables, targets
from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.intervals import Metric
from xraylab.evaluate.multi_label.metrics import MICRO, OF_FINDING, OF_PAIRS, compute_metrics, of_finding
from xraylab.evaluate.multi_label.samples import Findings, fit_thresholds
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.report.records import Summary
from xraylab.report.summary import for_terminal, largest_differences
from xraylab.stages import evaluate

LAST_TEST = ("l2", "last", "repeat", "test")


class Evaluated(NamedTuple):
    params: Params
    paths: Paths
    printed: str

    def metrics(self, *keys: str) -> pd.DataFrame:
        """(class, metric) -> row, of an experiment, checkpoint, kind and split."""
        table = tables.read(self.paths.evaluation / "metrics.csv")
        for name, value in zip(("experiment", "checkpoint", "kind", "split"), keys, strict=True):
            table = table[table[name] == value]
        table["value"] = pd.to_numeric(table["value"])
        return table.set_index(["class", "metric"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A study in which no image has a mass."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *texts: printed.append(" ".join(map(str, texts))))
        params, paths = finished_findings.make(tmp_path_factory.mktemp("study"), absent=("Mass",))
        evaluate.run(params, paths)
    return Evaluated(params, paths, "\n".join(printed))


class Truth(NamedTuple):
    """Known labels, probabilities and classifications, by finding."""

    labels: list[Any]
    probabilities: list[Any]
    called: list[Any]


@pytest.fixture(scope="module")
def truth(study: Evaluated) -> Truth:
    """Of the last epoch of l2, from the files that the stage reads."""
    table = tables.read(study.paths.prediction("l2", 0))
    parts = {}
    for split in ("valid", "test"):
        rows = table[(table["checkpoint"] == "last") & (table["split"] == split)]
        images = tables.read(study.paths.split / f"{split}_data.csv").set_index("id").loc[rows["id"]]
        parts[split] = targets.values(images, finished_findings.FINDINGS), rows.filter(like="p_").to_numpy()
    labels, probabilities, called = [], [], []
    for number in range(len(finished_findings.FINDINGS)):
        valid, test = ((y[:, number], p[:, number]) for y, p in parts.values())
        fpr, tpr, thresholds = metrics.roc_curve(valid[0] == 1, valid[1], sample_weight=targets.known(valid[0]) * 1.0)
        threshold = thresholds[np.argmax(np.round(tpr - fpr, 12))] if (valid[0] == 1).any() else 0.5
        known = targets.known(test[0])
        labels.append(test[0][known])
        probabilities.append(test[1][known])
        called.append(test[1][known] >= threshold)
    return Truth(labels, probabilities, called)


def _expected(labels: Any, p: Any, called: Any) -> dict[str, float]:
    return {
        "auroc": metrics.roc_auc_score(labels, p),
        "auprc": metrics.average_precision_score(labels, p),
        "sensitivity": metrics.recall_score(labels, called),
        "specificity": metrics.recall_score(labels, called, pos_label=0),
        "ppv": metrics.precision_score(labels, called),
        "npv": metrics.precision_score(labels, called, pos_label=0),
        "f1": metrics.f1_score(labels, called),
        "accuracy": metrics.accuracy_score(labels, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, called),
        "mcc": metrics.matthews_corrcoef(labels, called),
        "brier": metrics.brier_score_loss(labels, p),
        "log_loss": metrics.log_loss(labels, p),
    }


def test_each_finding_has_the_metrics_that_scikit_learn_finds_in_its_known_labels(
    study: Evaluated, truth: Truth
) -> None:
    values = study.metrics(*LAST_TEST)["value"]
    expected = [_expected(*each) for each in zip(*(part[:3] for part in truth), strict=True)]
    for name, metric in zip(finished_findings.FINDINGS[:3], expected, strict=True):
        assert values[name].to_dict() == pytest.approx(metric)
    macro = {name: np.mean([each[name] for each in expected]) for name in OF_FINDING}
    assert values[MACRO].to_dict() == pytest.approx(macro)
    pooled = _expected(*(np.concatenate(part) for part in truth))
    assert values[MICRO].to_dict() == pytest.approx({name: pooled[name] for name in OF_PAIRS})


def test_a_finding_that_no_test_image_has_is_said_and_in_no_mean(study: Evaluated) -> None:
    rows = study.metrics(*LAST_TEST).loc["Mass"]
    assert rows["value"].isna().all()
    assert set(rows["why"]) == {"no image has the finding"}
    assert study.printed == (
        "note: Mass is not in the means over findings: no test image has the finding\n"
        "note: means are over 3 of 4 findings"
    )
    summary = files.read_json(study.paths.evaluation / "summary.json")
    assert summary["macro_over"] == ["Atelectasis", "Effusion", "Hernia"]
    assert summary["not_evaluated"] == {"Mass": "no test image has the finding"}
    assert not (study.paths.evaluation / "roc/l2-0/Mass.csv").exists()
    assert (study.paths.evaluation / "roc/l2-0/Hernia.csv").is_file()


def test_dvc_shows_the_means_and_the_auroc_of_each_finding(study: Evaluated) -> None:
    values = study.metrics("l2", "best", "repeat", "test")["value"]
    shown = files.read_json(study.paths.test_metrics)["l2"]
    assert shown["test"] == {name: pytest.approx(values[MACRO, name], abs=1e-6) for name in ("auroc", "auprc", "f1")}
    aurocs = {name: pytest.approx(values[name, "auroc"], abs=1e-6) for name in finished_findings.FINDINGS[:3]}
    assert shown["findings"] == aurocs | {"Mass": None}
    few = files.read_json(study.paths.metrics)
    assert list(few) == ["baseline", "l2", "test.auroc"]
    ranking = files.read_json(study.paths.evaluation / "summary.json")["ranking"]  # at 0.5, as training monitors
    assert [few[row["experiment"]] for row in ranking] == pytest.approx([row["f1"] for row in ranking], abs=1e-6)
    first = "l2" if few["l2"] > few["baseline"] else "baseline"
    assert few["test.auroc"] == files.read_json(study.paths.test_metrics)[first]["test"]["auroc"]


def test_show_names_the_findings_that_differ_most(study: Evaluated) -> None:
    values = study.metrics("l2", "best", "repeat", "test")["value"]
    baseline = study.metrics("baseline", "best", "repeat", "test")["value"]
    moved = {name: values[name, "auroc"] - baseline[name, "auroc"] for name in finished_findings.FINDINGS[:3]}
    order = sorted(moved, key=lambda name: -abs(moved[name]))
    evaluated = Summary.of(files.read_json(study.paths.evaluation / "summary.json"))
    (sentence,) = largest_differences(evaluated, count=2)
    assert sentence.startswith("Exploratory: largest differences in AUROC, l2 less baseline: ")
    named = [f"{name} ({moved[name]:+.3f}, p " for name in order]
    assert 0 < sentence.index(named[0]) < sentence.index(named[1])
    assert order[2] not in sentence
    console = Console(width=500, record=True, file=StringIO())
    console.print(for_terminal(evaluated))
    assert "largest differences in AUROC, l2 less baseline" in console.export_text()


def test_labels_are_counted_as_the_index_has_them(study: Evaluated) -> None:
    counts = tables.read(study.paths.evaluation / "findings.csv").set_index(["split", "class"])
    images = tables.read(study.paths.split / "test_data.csv")
    column = images["y_Effusion"]
    expected = [(column == 1).sum(), (column == 0).sum(), (column == -1).sum(), column.isna().sum()]
    assert counts.loc[("test", "Effusion")].tolist()[:4] == expected
    assert counts.loc[("test", "Effusion"), "positive_patients"] == images[column == 1]["patient"].nunique()
    assert min(expected) > 0


def test_co_occurrence_counts_images_where_both_are_known(study: Evaluated) -> None:
    table = tables.read(study.paths.evaluation / "co_occurrence.csv").set_index(["finding", "other"])
    images = tables.read(study.paths.split / "test_data.csv")[["y_Atelectasis", "y_Hernia"]]
    known = images[images.isin([0, 1]).all(axis=1)]
    row = table.loc[("Atelectasis", "Hernia")]
    assert (row["images"], row["both"]) == (len(known), (known == 1).all(axis=1).sum())
    assert row["expected"] == pytest.approx((known == 1).mean().prod() * len(known))


def _findings(seed: int, findings: int = 3, patients: int = 60, images: int = 2) -> Findings:
    rng = np.random.default_rng(seed)
    n = patients * images
    labels = (rng.random((n, findings)) < 0.3).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    p = 1 / (1 + np.exp(-(rng.normal(size=labels.shape) + 1.2 * (labels == 1))))
    return Findings(labels, p, np.full(labels.shape, 0.5), np.repeat(np.arange(patients), images).astype(str))


def _config(findings: int) -> EvalConfig:
    return eval_config(findings, positive=None, negative_class=None)


def _macro(findings: Findings, name: str) -> Metric:
    cfg = _config(findings.labels.shape[1])
    rows = compute_metrics(findings, cfg, range(len(cfg.classes)), intervals=True)
    return next(row for row in rows if (row.class_, row.metric) == (MACRO, name))


@pytest.mark.parametrize("name", ["auprc", "f1", "specificity", "brier"])
def test_the_mean_of_one_finding_under_three_names_is_as_sure_as_that_finding(name: str) -> None:
    one = _findings(0, findings=1)
    three = Findings(
        np.tile(one.labels, (1, 3)), np.tile(one.probabilities, (1, 3)), np.tile(one.thresholds, (1, 3)), one.patients
    )
    assert _macro(three, name).interval == pytest.approx(_macro(one, name).interval, rel=0.005)


@pytest.mark.parametrize("name", ["auroc", "auprc", "f1"])
def test_the_interval_of_a_mean_agrees_with_leaving_out_each_patient(name: str) -> None:
    """The delete-one jackknife of the mean itself, unstratified; both are within some per cent of each other."""
    findings = _findings(1, patients=120)
    patients = np.unique(findings.patients)
    left_out = np.array([_value(findings[findings.patients != patient], name) for patient in patients])
    error = np.sqrt((len(patients) - 1) / len(patients) * np.square(left_out - left_out.mean()).sum())
    row = _macro(findings, name)
    assert row.interval is not None
    value, low, high = row.interval
    assert (high - low) / 2 == pytest.approx(1.98 * error, rel=0.12)
    assert low < value < high


def _value(findings: Findings, name: str) -> float:
    cfg = _config(findings.labels.shape[1])
    rows = compute_metrics(findings, cfg, range(len(cfg.classes)), intervals=False)
    return next(row.value for row in rows if (row.class_, row.metric) == (MACRO, name)) or 0.0


def test_pairs_of_an_image_without_patient_go_together() -> None:
    """Fourteen copies of a finding are fourteen times as many pairs, and no more to go by."""
    one = _findings(2, findings=1, images=1)
    one = Findings(one.labels, one.probabilities, one.thresholds, np.full(len(one.labels), ""))
    copies = Findings(
        *(np.tile(each, (1, 14)) for each in (one.labels, one.probabilities, one.thresholds)), one.patients
    )
    cfg = _config(1)
    of_one = {row.metric: row for row in compute_metrics(one, cfg, [0], intervals=True) if row.class_ == MICRO}
    many = replace(cfg, classes=[f"f{number}" for number in range(14)])
    of_many = {
        row.metric: row for row in compute_metrics(copies, many, range(14), intervals=True) if row.class_ == MICRO
    }
    for name in ("f1", "auprc"):
        assert of_many[name].interval == pytest.approx(of_one[name].interval, rel=0.02)
    assert of_many["ppv"].ci_method == "logit t of images"


def test_a_mean_with_a_finding_of_too_few_patients_has_no_interval_and_says_which() -> None:
    findings = _findings(3)
    findings.labels[:, 1] = np.where(np.arange(len(findings.labels)) < 2, 1.0, 0.0)
    row = _macro(findings, "auroc")
    assert row.value is not None
    assert row.interval is None
    assert row.why == "only 1 patient with B; at least 2 are needed"


def test_the_mean_auprc_needs_twenty_patients_of_each_finding() -> None:
    """With ten positive images of the rarest finding its 95 % interval contained the truth in 86 % of 300 studies."""
    findings = _findings(3, patients=120)
    findings.labels[:, 1] = np.where(np.arange(len(findings.labels)) < 38, 1.0, 0.0)
    assert _macro(findings, "auprc").why == "only 19 patients with B; at least 20 are needed"
    assert _macro(findings, "auroc").interval is not None
    findings = replace(findings, labels=findings.labels.copy())
    findings.labels[:40, 1] = 1.0
    assert _macro(findings, "auprc").interval is not None


def test_prevalences_are_of_each_finding() -> None:
    cfg = eval_config(3, positive=None, negative_class=None, prevalence=np.array([0.1, 0.2, 0.3]))
    assert of_finding(cfg, 1).prevalence == pytest.approx([0.8, 0.2])
    findings = _findings(4)
    rows = {(row.class_, row.metric): row.value for row in compute_metrics(findings, cfg, range(3), intervals=False)}
    se, sp = rows["B", "sensitivity"], rows["B", "specificity"]
    assert se is not None
    assert sp is not None
    assert rows["B", "ppv_at_prevalence"] == pytest.approx(0.2 * se / (0.2 * se + 0.8 * (1 - sp)))


def test_thresholds_without_both_classes_are_a_half() -> None:
    labels = np.array([[0, 0, np.nan], [0, 1, np.nan], [0, 0, np.nan], [0, 1, 1]], float)
    p = np.array([[0.1, 0.1, 0.1], [0.2, 0.3, 0.2], [0.3, 0.2, 0.3], [0.4, 0.9, 0.4]])
    assert fit_thresholds(labels, p).tolist() == [0.5, 0.3, 0.5]


def test_experiments_are_ranked_by_what_training_monitors_on_validation_images(tmp_path: Path) -> None:
    params, paths = finished_findings.make(tmp_path, {"train": {"monitor": "valid_loss"}})
    evaluate.run(params, paths)
    summary = files.read_json(paths.evaluation / "summary.json")
    losses = {}
    for name in ("baseline", "l2"):
        table = tables.read(paths.prediction(name, 0))
        rows = table[(table["checkpoint"] == "best") & (table["split"] == "valid")]
        images = tables.read(paths.split / "valid_data.csv").set_index("id").loc[rows["id"]]
        labels, p = targets.values(images, finished_findings.FINDINGS), rows.filter(like="p_").to_numpy()
        losses[name] = metrics.log_loss(labels[targets.known(labels)], p[targets.known(labels)])
    assert [row["experiment"] for row in summary["ranking"]] == sorted(losses, key=lambda name: losses[name])
    assert {row["experiment"]: row["log_loss"] for row in summary["ranking"]} == pytest.approx(losses)
    assert (summary["ranked_on"], summary["ranked_by"]) == ("valid", "loss")
