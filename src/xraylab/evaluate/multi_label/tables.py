"""What `evaluate` writes of a multi-label study: the tables of single-label studies, with a column or key `class`."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables, targets
from xraylab.evaluate import tables as binary
from xraylab.evaluate.comparisons import Comparison
from xraylab.evaluate.config import MACRO, EvalConfig
from xraylab.evaluate.multi_label.metrics import MICRO, of_finding, why_undefined
from xraylab.evaluate.multi_label.samples import FindingsRun, FindingsStudy, mean_over_repeats
from xraylab.evaluate.multi_label.study import TEST, FindingsEvaluation
from xraylab.evaluate.multi_label.subgroups import aurocs_by_group
from xraylab.evaluate.study import MEAN, REPEAT, StudyMetric, mean_values
from xraylab.params.evaluate import Evaluate
from xraylab.task import MULTI_LABEL

CHIEF = ("auroc", "auprc", "f1", "sensitivity", "specificity", "ppv", "npv", "accuracy", "mcc", "brier", "log_loss")
HEADLINE = ("auroc", "auprc", "f1")
DECIMALS = 6
RUN_KEYS = ["experiment", "repeat", "checkpoint", "split", "chosen_on"]


def write_curves(folder: Path, run: FindingsRun, cfg: EvalConfig, bins: int) -> None:
    """The history of one run, and the images and curves of each finding of its best epoch on the test split."""
    name = f"{run.experiment}-{run.repeat}"
    tables.write(run.history, folder / f"curves/{name}.csv")
    tables.write(_images(run, cfg.classes), folder / f"images/{name}.csv")
    for number, binary_cfg in _evaluated(run, cfg):
        each = run.of(number)
        test, file = each.test["best"], f"{name}/{cfg.classes[number]}"
        tables.write(binary.roc(test.actual, test.probabilities, 1), folder / f"roc/{file}.csv")
        tables.write(binary.precision_recall(test.actual, test.probabilities, 1), folder / f"pr/{file}.csv")
        binary.write_calibration_curves(folder, file, each, binary_cfg, bins)


def _evaluated(run: FindingsRun, cfg: EvalConfig) -> Iterator[tuple[int, EvalConfig]]:
    """The findings that some test images have and others have not, each with its configuration."""
    for number in range(len(cfg.classes)):
        if not why_undefined(run.test["best"], number):
            yield number, of_finding(cfg, number)


def _images(run: FindingsRun, findings: list[str]) -> pd.DataFrame:
    """Of each test image the findings that it has, those it is classified as having, and its highest probability."""
    test = run.test["best"]
    called = (test.probabilities >= test.thresholds).astype(float)
    return pd.DataFrame(
        {
            "id": run.ids,
            "actual": [targets.joined(row, findings) for row in test.labels],
            "predicted": [targets.joined(row, findings) for row in called],
            "probability": test.probabilities.max(axis=1),
        }
    )


def write_tables(
    folder: Path, study: FindingsStudy, evaluation: FindingsEvaluation, cfg: EvalConfig, params: Evaluate
) -> None:
    """Metrics, operating points, calibration, goals, epochs and co-occurrence, as docs/evaluation.md lists them."""
    metrics = pd.DataFrame([binary.to_row(row) for row in evaluation.metrics]).astype({"number": "Int64"})
    tables.write(metrics, folder / "metrics.csv")
    tables.write(binary.spread(metrics), folder / "spread.csv")
    tables.write(pd.DataFrame([binary.epoch_row(row) for row in evaluation.epochs]), folder / "epochs.csv")
    files.write_json([binary.to_row(row) for row in evaluation.goals], folder / "goals.json")
    points, calibrations, matrices = [], [], []
    for run in study.runs:
        for number, binary_cfg in _evaluated(run, cfg):
            each, name = run.of(number), cfg.classes[number]
            points += list(binary.operating_point_rows([each], binary_cfg, params))
            calibrations += [
                {"class": name, **row} for row in binary.calibration_rows([each], binary_cfg, params.ece_bins)
            ]
            matrices.append({"class": name, **binary.matrix_row(each, binary_cfg)})
    tables.write(pd.DataFrame(points), folder / "operating_points.csv")
    files.write_json(calibrations, folder / "calibration.json")
    files.write_json(matrices, folder / "confusion_matrices.json")
    compared = pd.DataFrame(map(comparison_row, evaluation.comparisons), columns=["class", *binary.COMPARISON_COLUMNS])
    tables.write(compared, folder / "comparisons.csv")
    tables.write(pd.DataFrame(columns=["point", *binary.COMPARISON_COLUMNS]), folder / "at_thresholds.csv")
    tables.write(co_occurrence(study, cfg.classes), folder / "co_occurrence.csv")


def write_groups(folder: Path, study: FindingsStudy, index: pd.DataFrame, cfg: EvalConfig, params: Evaluate) -> None:
    """AUROCs of every experiment by sex, age band, view and source, of the mean probability over repeats."""
    rows = []
    for experiment, runs in study.by_experiment.items():
        ids, sample = mean_over_repeats(runs, "best")
        images = index.set_index("id").loc[ids.tolist()]
        keys = {"experiment": experiment, "chosen_on": runs[0].monitored_split}
        groups = aurocs_by_group(sample, images, cfg, params.age_bands, params.min_group_size)
        rows += [keys | binary.to_row(row) | {"findings": over} for row, over in groups]
    tables.write(pd.DataFrame(rows, columns=[*binary.GROUP_COLUMNS, "findings"]), folder / "subgroups.csv")


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    return {"class": comparison.class_, **binary.comparison_row(comparison)}


def co_occurrence(study: FindingsStudy, names: list[str]) -> pd.DataFrame:
    """Of each two findings: the test images where both are known, those that have both, and how many by chance."""
    _, findings = mean_over_repeats(study.by_experiment[study.baseline], "best")
    rows = []
    for first, second in combinations(range(len(names)), 2):
        pair = findings.labels[:, [first, second]]
        pair = pair[~np.isnan(pair).any(axis=1)]
        one, other = pair.sum(axis=0)
        expected = one * other / len(pair) if len(pair) else 0.0
        rows.append((names[first], names[second], len(pair), int(pair.all(axis=1).sum()), expected))
    return pd.DataFrame(rows, columns=["finding", "other", "images", "both", "expected"])


def count_labels(images: pd.DataFrame, split: pd.Series, findings: list[str]) -> pd.DataFrame:
    """findings.csv: in each split, how many images are labelled how, and how many known patients have the finding.

    `split` names the split of each of the `images`, rows of the index.
    """
    rows = []
    for name, table in images.groupby(split, sort=False):
        labels = targets.values(table, findings)
        for finding, column in zip(findings, labels.T, strict=True):
            having = table.loc[column == 1, "patient"].astype(str)
            counts = [int((column == value).sum()) for value in (1, 0, targets.UNCERTAIN)]
            rows.append((name, finding, *counts, int(np.isnan(column).sum()), having[having != ""].nunique()))
    columns = ["split", "class", "positive", "negative", "uncertain", "missing", "positive_patients"]
    return pd.DataFrame(rows, columns=columns)


def comparison_table(evaluation: FindingsEvaluation) -> pd.DataFrame:
    """reports/comparison.csv, for people: the chief means over findings of every run, checkpoint and split."""
    rows = []
    for keys, metrics in _macro_of_runs(evaluation.metrics).items():
        row: dict[str, Any] = dict(zip(RUN_KEYS, keys, strict=True))
        for name in CHIEF:
            metric = metrics[name].result
            row[name] = metric.value
            if metrics[name].split == TEST:
                row |= {f"{name}_ci_low": metric.ci_low, f"{name}_ci_high": metric.ci_high}
        rows.append(row)
    columns = [*RUN_KEYS, *(f"{name}{end}" for name in CHIEF for end in ("", "_ci_low", "_ci_high"))]
    return pd.DataFrame(rows, columns=columns)


def _macro_of_runs(metrics: Sequence[StudyMetric]) -> dict[tuple[Any, ...], dict[str, StudyMetric]]:
    """(experiment, repeat, checkpoint, split, chosen_on) -> name -> the mean over findings."""
    runs: dict[tuple[Any, ...], dict[str, StudyMetric]] = {}
    for row in metrics:
        if (row.kind, row.result.class_) == (REPEAT, MACRO):
            keys = row.experiment, row.number, row.checkpoint, row.split, row.chosen_on
            runs.setdefault(keys, {})[row.result.metric] = row
    return runs


def metrics_on_test(study: FindingsStudy, evaluation: FindingsEvaluation) -> dict[str, Any]:
    """The test metrics of each experiment, of the best epochs; means over repeats, or rounds of folds."""
    metrics: dict[str, Any] = {}
    for experiment, runs in study.by_experiment.items():
        means = mean_values(evaluation.metrics, experiment, "best", TEST)
        metrics[experiment] = {"chosen_on": "test"} if runs[0].monitored_split == "test" else {}
        metrics[experiment]["test"] = {name: _rounded(means[MACRO, name]) for name in HEADLINE}
        metrics[experiment]["findings"] = {
            class_: _rounded(value)
            for (class_, name), value in means.items()
            if name == "auroc" and class_ not in (MACRO, MICRO)
        }
    return metrics


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def summary(study: FindingsStudy, evaluation: FindingsEvaluation, cfg: EvalConfig, ranked_by: str) -> dict[str, Any]:
    """What the report needs besides the tables and curves: the keys of a single-label study, and those of findings."""
    over = [cfg.classes[number] for number in evaluation.defined]
    test = study.runs[0].test["best"]
    return {
        "task": MULTI_LABEL,
        "classes": cfg.classes,
        "positive": None,
        "macro_over": over,
        "not_evaluated": {
            name: _why_left_out(study, number) for number, name in enumerate(cfg.classes) if name not in over
        },
        "baseline": study.baseline,
        "chosen_on_test": list(dict.fromkeys(run.experiment for run in study.runs if run.monitored_split == "test")),
        "ranked_on": evaluation.ranked_on,
        "ranked_by": ranked_by,
        "ranking": [binary.to_row(row) for row in evaluation.ranking],
        "top_two": evaluation.top_two,
        "means": list(_means(study, evaluation)),
        "runs": study.models,
        "results": list(_results(study, evaluation)),
        "folds": study.folds,
        "test_sources": study.sources,
        "comparisons": [comparison_row(row) for row in evaluation.comparisons],
        "at_thresholds": [],
        "goals": [binary.to_row(row) for row in evaluation.goals],
        "intervals": {
            "units": len(test.units.strata),
            "confidence": cfg.confidence,
            "n_permutations": cfg.n_permutations,
            "patients": test.units.patients,
            "rests_on": _rests_on(test.units.clustered, test.units.patients),
        },
        "primary": cfg.primary,
        "predictions": {f"{run.experiment}/{run.repeat}": run.predictions_sha256 for run in study.runs},
        "mean_metrics": [binary.to_row(row) for row in evaluation.metrics if row.kind == MEAN],
    }


def _why_left_out(study: FindingsStudy, number: int) -> str:
    """Why the finding is not in the means of the test split."""
    every = [(run.repeat, why_undefined(run.test["best"], number)) for run in study.runs]
    repeat, why = next((repeat, why) for repeat, why in every if why)
    where = f" of fold {repeat % study.folds}" if study.folds else ""
    return why.replace("image", "test image", 1) + where


def _rests_on(clustered: bool, patients: int | None) -> str:
    if patients is None:
        return "patients are unknown, so each image counts as one patient, with all findings"
    return f"a patient counts once, with all {'images and ' if clustered else ''}findings"


def _results(study: FindingsStudy, evaluation: FindingsEvaluation) -> Iterator[dict[str, Any]]:
    """The means over findings of each run, checkpoint and split."""
    epochs = {(run.experiment, run.repeat): run.epochs for run in study.runs}
    for keys, metrics in _macro_of_runs(evaluation.metrics).items():
        row: dict[str, Any] = dict(zip(RUN_KEYS, keys, strict=True))
        row["epoch"] = epochs[row["experiment"], row["repeat"]][row["checkpoint"]]
        yield row | {name: metrics[name].result.value for name in CHIEF}


def _means(study: FindingsStudy, evaluation: FindingsEvaluation) -> Iterator[dict[str, Any]]:
    for experiment in study.by_experiment:
        for checkpoint in ("best", "last"):
            for split in ("valid", TEST):
                means = mean_values(evaluation.metrics, experiment, checkpoint, split)
                if means:
                    keys = {"experiment": experiment, "checkpoint": checkpoint, "split": split}
                    yield keys | {name: means[MACRO, name] for name in CHIEF}


def notes(summary: dict[str, Any]) -> Iterator[str]:
    """Which findings have no metrics and why, and what the means are over."""
    for name, why in summary["not_evaluated"].items():
        yield f"note: {name} is not in the means over findings: {why}"
    if summary["not_evaluated"]:
        yield f"note: means are over {len(summary['macro_over'])} of {len(summary['classes'])} findings"
