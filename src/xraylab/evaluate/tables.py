"""What `evaluate` writes: records become rows of CSV and JSON files here, under the names of their columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from xraylab import files, tables
from xraylab.evaluate import calibration, subgroups
from xraylab.evaluate.comparisons import Comparison
from xraylab.evaluate.config import OVERALL, EvalConfig
from xraylab.evaluate.confusion import Floats, Ints, confusion_matrix
from xraylab.evaluate.intervals import Metric
from xraylab.evaluate.metrics import has_both, row_shares
from xraylab.evaluate.operating_points import AtThreshold, all_rules, operating_points
from xraylab.evaluate.predictions import Run, Study, mean_over_repeats
from xraylab.evaluate.samples import Sample
from xraylab.evaluate.study import MEAN, REPEAT, Evaluation, StudyMetric
from xraylab.evaluate.temperature import scale
from xraylab.params.evaluate import Evaluate

COMPARISON_COLUMNS = (
    "kind", "role", "about", "first", "second", "chosen_on_test", "metric", "difference", "ci_low", "ci_high", "p",
    "p_holm", "p_at_most", "tests", "test", "why", "error", "seeds_error", "detectable", "first_sd", "second_sd",
    "margin", "margin_low", "margin_high", "not_worse", "equivalent", "first_alone_right", "second_alone_right",
    "sentence",
)  # fmt: skip
GROUP_COLUMNS = (
    "experiment", "chosen_on", "grouping", "group", "images", "patients", "suppressed",
    "class", "metric", "value", "ci_low", "ci_high", "ci_method", "n", "why",
    "reference", "difference", "difference_ci_low", "difference_ci_high",
)  # fmt: skip
WITH_INTERVAL = {"accuracy": "accuracy", "precision": "ppv", "recall": "sensitivity", "f1": "f1", "auroc": "auroc"}
WITHOUT_INTERVAL = ("balanced_accuracy", "specificity", "npv", "mcc", "kappa", "auprc", "brier")


def to_row(record: Any) -> dict[str, Any]:
    """Column -> value of a record; those of the records that it holds stand in their place."""
    row: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, AtThreshold):
            row |= threshold_row(value)
        else:
            row |= to_row(value) if is_dataclass(value) else {field.name.rstrip("_"): value}
    return row


def threshold_row(at: AtThreshold) -> dict[str, Any]:
    """Counts, and each rate with its limits."""
    row: dict[str, Any] = {"tn": at.tn, "fp": at.fp, "fn": at.fn, "tp": at.tp}
    for rate in at.rates:
        row |= {rate.name: rate.value, f"{rate.name}_ci_low": rate.ci_low, f"{rate.name}_ci_high": rate.ci_high}
    return row


def comparison_row(comparison: Comparison) -> dict[str, Any]:
    row = to_row(comparison)
    return {name: row[name] for name in COMPARISON_COLUMNS}


def at_threshold_row(comparison: Comparison) -> dict[str, Any]:
    return {"point": comparison.point} | comparison_row(comparison)


def write_curves(folder: Path, run: Run, cfg: EvalConfig, bins: int) -> None:
    """The history of one run, and the images and curves of its best epoch on the test split."""
    name, test = f"{run.experiment}-{run.repeat}", run.test["best"]
    tables.write(run.history, folder / f"curves/{name}.csv")
    tables.write(_images(run, cfg.classes), folder / f"images/{name}.csv")
    for label in cfg.reported:
        if has_both(test.actual == label):
            file = f"{name}/{cfg.classes[label]}.csv"
            tables.write(roc(test.actual, test.probabilities, label), folder / "roc" / file)
            tables.write(precision_recall(test.actual, test.probabilities, label), folder / "pr" / file)
    write_calibration_curves(folder, name, run, cfg, bins)


def write_calibration_curves(folder: Path, name: str, run: Run, cfg: EvalConfig, bins: int) -> None:
    """Reliability before and after scaling, smooth curve and decision curve, of the best epoch on the test split.

    `name`: of the files, without suffix.
    """
    test = run.test["best"]
    judged = calibration.judged(test, test.probabilities, cfg.positive)
    tables.write(_filled_bins(judged, bins), folder / f"reliability/{name}.csv")
    tables.write(calibration.calibration_curve(judged, cfg.confidence), folder / f"calibration_curve/{name}.csv")
    if cfg.positive is not None:
        decision_curve = calibration.net_benefit(test, cfg.positive, cfg.prevalence)
        tables.write(decision_curve, folder / f"net_benefit/{name}.csv")
    if run.valid:
        valid = run.valid["best"]
        scaled = scale(test.probabilities, calibration.fit_temperature(valid.actual, valid.probabilities))
        judged = calibration.judged(test, scaled, cfg.positive)
        tables.write(_filled_bins(judged, bins), folder / f"reliability_scaled/{name}.csv")


def _images(run: Run, classes: list[str]) -> pd.DataFrame:
    """Of each test image the actual and predicted class, and the probability of the predicted one."""
    test, names = run.test["best"], np.array(classes)
    highest = test.probabilities.max(axis=1)
    return pd.DataFrame(
        {"id": run.ids, "actual": names[test.actual], "predicted": names[test.predicted], "probability": highest}
    )


def roc(actual: Ints, probabilities: Floats, label: int) -> pd.DataFrame:
    """The ROC curve of one class against the rest: fpr, tpr, and the probability from which an image counts as it."""
    fpr, tpr, threshold = roc_curve(actual == label, probabilities[:, label])
    return pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": threshold})


def precision_recall(actual: Ints, probabilities: Floats, label: int) -> pd.DataFrame:
    """One class against the rest: recall, precision, and the probability from which an image counts as it."""
    precision, recall, threshold = precision_recall_curve(actual == label, probabilities[:, label])
    return pd.DataFrame({"recall": recall, "precision": precision, "threshold": np.append(threshold, np.inf)})


def _filled_bins(judged: calibration.Judged, bins: int) -> pd.DataFrame:
    table = calibration.reliability(judged, bins)
    return table[table["n"] > 0]


def write_tables(folder: Path, study: Study, evaluation: Evaluation, cfg: EvalConfig, params: Evaluate) -> None:
    """Metrics, comparisons, operating points, calibration, goals and epochs, as docs/evaluation.md lists them."""
    metrics = pd.DataFrame([to_row(row) for row in evaluation.metrics]).astype({"number": "Int64"})
    tables.write(metrics, folder / "metrics.csv")
    tables.write(spread(metrics), folder / "spread.csv")
    points = list(operating_point_rows(study.runs, cfg, params))
    tables.write(pd.DataFrame(points), folder / "operating_points.csv")
    compared = [comparison_row(row) for row in evaluation.comparisons]
    tables.write(pd.DataFrame(compared, columns=list(COMPARISON_COLUMNS)), folder / "comparisons.csv")
    compared = [at_threshold_row(row) for row in evaluation.at_thresholds]
    tables.write(pd.DataFrame(compared, columns=["point", *COMPARISON_COLUMNS]), folder / "at_thresholds.csv")
    tables.write(pd.DataFrame([epoch_row(row) for row in evaluation.epochs]), folder / "epochs.csv")
    files.write_json([to_row(row) for row in evaluation.goals], folder / "goals.json")
    files.write_json(list(calibration_rows(study.runs, cfg, params.ece_bins)), folder / "calibration.json")
    files.write_json([matrix_row(run, cfg) for run in study.runs], folder / "confusion_matrices.json")


def _best_epoch_of(run: Run) -> dict[str, Any]:
    return {"experiment": run.experiment, "repeat": run.repeat, "chosen_on": run.monitored_split}


def spread(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of every metric over repeats, and over rounds where folds are pooled."""
    table = metrics[metrics["kind"] != MEAN]
    keys = ["experiment", "checkpoint", "split", "chosen_on", "kind", "class", "metric"]
    grouped = table.assign(value=table["value"].astype(float)).groupby(keys, sort=False)["value"]
    return grouped.agg(["mean", "std", "count"]).reset_index().rename(columns={"std": "sd", "count": "n"})


def operating_point_rows(runs: Iterable[Run], cfg: EvalConfig, params: Evaluate) -> Iterator[dict[str, Any]]:
    """Each run's thresholds, fixed on its own validation images, and its test metrics there; best epochs."""
    rules = all_rules(params.sensitivities, params.specificities)
    for run in runs:
        for point in operating_points(run.valid.get("best"), run.test["best"], cfg, rules):
            row = to_row(point)
            yield _best_epoch_of(run) | {column: value for column, value in row.items() if column != "test"}


def epoch_row(row: StudyMetric) -> dict[str, Any]:
    cells = to_row(row)
    keys = {"experiment": row.experiment, "repeat": row.number, "chosen_on": row.chosen_on}
    return keys | {name: cells[name] for name in ("metric", "value", "ci_low", "ci_high")}


def calibration_rows(runs: Iterable[Run], cfg: EvalConfig, bins: int) -> Iterator[dict[str, Any]]:
    """Each run's temperature, and its calibration before and after; best epochs."""
    for run in runs:
        scaling = calibration.calibrate(run.valid.get("best"), run.test["best"], cfg, bins)
        before, after = (None if each is None else to_row(each) for each in (scaling.before, scaling.after))
        yield _best_epoch_of(run) | {"temperature": scaling.temperature, "before": before, "after": after}


def matrix_row(run: Run, cfg: EvalConfig) -> dict[str, Any]:
    """The best epoch's confusion on the test split: counts, and each row as shares of its class."""
    test = run.test["best"]
    counts = confusion_matrix(test.actual, test.predicted, len(cfg.classes))
    shares = [[None if np.isnan(share) else share for share in row] for row in row_shares(counts).tolist()]
    return _best_epoch_of(run) | {"classes": cfg.classes, "counts": counts.tolist(), "row_shares": shares}


def write_groups(folder: Path, study: Study, index: pd.DataFrame, cfg: EvalConfig, params: Evaluate) -> None:
    """The metrics of every experiment by sex, age band, view and source, of the mean probability over repeats."""
    rows = []
    for experiment, runs in study.by_experiment.items():
        ids, sample = mean_over_repeats(runs, "best")
        images = index.set_index("id").loc[ids.tolist()]
        keys = {"experiment": experiment, "chosen_on": runs[0].monitored_split}
        groups = subgroups.metrics_by_group(sample, images, cfg, params.age_bands, params.min_group_size)
        rows += [keys | to_row(row) for row in groups]
    tables.write(pd.DataFrame(rows, columns=list(GROUP_COLUMNS)), folder / "subgroups.csv")


def write_demographics(
    folder: Path, index: pd.DataFrame, split: pd.Series, params: Evaluate, findings: Sequence[str] = ()
) -> None:
    """Who is in each split; `split` names each image's. `findings`: of a multi-label study."""
    rows = subgroups.count_groups(index, split, params.age_bands, params.min_group_size, findings)
    tables.write(demographics(rows), folder / "demographics.csv")


def demographics(rows: Sequence[subgroups.GroupSize]) -> pd.DataFrame:
    table = pd.DataFrame([vars(row) for row in rows])
    return table.astype({"images": "Int64", "patients": "Int64"})


def comparison_table(evaluation: Evaluation, cfg: EvalConfig) -> pd.DataFrame:
    """reports/comparison.csv, for people: the chief metrics of every run, checkpoint and split side by side."""
    table = pd.DataFrame([to_row(row) for row in evaluation.results]).drop(columns="confusion")
    by_run = _by_run(evaluation.metrics, cfg)
    rows = [by_run[row.experiment, row.repeat, row.checkpoint, row.split] for row in evaluation.results]
    for name in WITHOUT_INTERVAL:
        table[name] = pd.Series([row[name].value for row in rows], dtype=float)
    for name, metric in WITH_INTERVAL.items():
        table[f"{name}_ci_low"] = pd.Series([row[metric].ci_low for row in rows], dtype=float)
        table[f"{name}_ci_high"] = pd.Series([row[metric].ci_high for row in rows], dtype=float)
    if cfg.positive is None:
        return table
    cells = np.array([row.scores.confusion for row in evaluation.results])
    order = [1 - cfg.positive, cfg.positive]
    (tn, fp), (fn, tp) = np.moveaxis(cells[:, order][:, :, order], 0, -1)
    return table.assign(tn=tn, fp=fp, fn=fn, tp=tp)


def _by_run(
    metrics: Iterable[StudyMetric], cfg: EvalConfig
) -> dict[tuple[str, int | None, str, str], dict[str, Metric]]:
    """(experiment, repeat, checkpoint, split) -> name -> the metric, overall, or of the main class."""
    by_run: dict[tuple[str, int | None, str, str], dict[str, Metric]] = {}
    for row in metrics:
        metric = row.result
        if row.kind == REPEAT and metric.class_ in (OVERALL, cfg.main_class):
            of_run = by_run.setdefault((row.experiment, row.number, row.checkpoint, row.split), {})
            if metric.class_ == OVERALL or metric.metric not in of_run:
                of_run[metric.metric] = metric
    return by_run


def summary(study: Study, evaluation: Evaluation, cfg: EvalConfig, ranked_by: str) -> dict[str, Any]:
    """What the report needs besides the tables and curves."""
    ranking = [to_row(row) for row in evaluation.ranking]
    return {
        "classes": cfg.classes,
        "positive": None if cfg.positive is None else cfg.classes[cfg.positive],
        "baseline": study.baseline,
        "chosen_on_test": list(dict.fromkeys(run.experiment for run in study.runs if run.monitored_split == "test")),
        "ranked_on": evaluation.ranked_on,
        "ranked_by": ranked_by,
        "ranking": [{name: row[name] for name in ("experiment", "f1", "accuracy", "log_loss")} for row in ranking],
        "top_two": evaluation.top_two,
        "means": [to_row(row) for row in evaluation.means],
        "runs": study.models,
        "results": [to_row(row) for row in evaluation.results],
        "folds": study.folds,
        "pooled": [to_row(row) for row in evaluation.rounds],
        "test_sources": study.sources,
        "comparisons": [comparison_row(row) for row in evaluation.comparisons],
        "at_thresholds": [at_threshold_row(row) for row in evaluation.at_thresholds],
        "goals": [to_row(row) for row in evaluation.goals],
        "intervals": _independence(study.runs[0].test["best"], cfg),
        "primary": cfg.primary,
        "predictions": {f"{run.experiment}/{run.repeat}": run.predictions_sha256 for run in study.runs},
        "mean_metrics": _mean_rows(evaluation.metrics),
    }


def _independence(sample: Sample, cfg: EvalConfig) -> dict[str, Any]:
    """What the intervals take for independent."""
    return {
        "units": len(sample.units.strata),
        "confidence": cfg.confidence,
        "n_permutations": cfg.n_permutations,
        "patients": sample.units.patients,
        "rests_on": sample.units.description,
    }


def _mean_rows(metrics: Sequence[StudyMetric]) -> list[dict[str, Any]]:
    """The metrics of means; with several repeats `split` comes before `kind`, so that the file keeps its bytes."""
    rows = [to_row(row) for row in metrics if row.kind == MEAN]
    if len({row.number for row in metrics if row.kind == REPEAT}) > 1:
        first = ("experiment", "checkpoint", "chosen_on", "split")
        rows = [{name: row[name] for name in first} | row for row in rows]
    return rows
