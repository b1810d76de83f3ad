"""Everything that is evaluated of a multi-label study: metrics of all runs, the ranking, comparisons and goals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from xraylab.evaluate import metrics as binary
from xraylab.evaluate.comparisons import Comparison
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.multi_label.comparisons import compare_experiments
from xraylab.evaluate.multi_label.metrics import compute_metrics
from xraylab.evaluate.multi_label.samples import (
    DEFAULT_THRESHOLD,
    Findings,
    FindingsRun,
    FindingsStudy,
    mean_over_repeats,
    pool_folds,
)
from xraylab.evaluate.predictions import CHECKPOINTS
from xraylab.evaluate.study import MEAN, REPEAT, ROUND, GoalVerdict, StudyMetric, epochs_to_highest, judge_goals
from xraylab.params.evaluate import Evaluate

VALID, TEST = "valid", "test"


@dataclass(frozen=True)
class Ranked:
    """The means over findings of the images that rank experiments, at 0.5 as in training, and over repeats."""

    experiment: str
    auroc: float | None
    auprc: float | None
    f1: float | None
    accuracy: float | None
    log_loss: float | None  # of all known labels


@dataclass(frozen=True)
class FindingsEvaluation:
    """`defined`: the findings that means of the test split are over."""

    defined: list[int]
    ranked_on: str
    ranking: list[Ranked]
    metrics: list[StudyMetric]
    epochs: list[StudyMetric]
    comparisons: list[Comparison]
    goals: list[GoalVerdict]

    @property
    def top_two(self) -> list[str]:
        return [row.experiment for row in self.ranking[:2]]


def evaluate_study(study: FindingsStudy, cfg: EvalConfig, params: Evaluate, metric: str) -> FindingsEvaluation:
    """Experiments are ranked by `metric` on validation images, or on test images where there are none."""
    ranked_on = VALID if any(run.valid for run in study.runs) else TEST
    metrics, ranking = study_metrics(study, cfg), rank(study, ranked_on, metric)
    epochs = epochs_to_highest([run.of(0) for run in study.runs])
    return FindingsEvaluation(
        defined=study.defined(TEST),
        ranked_on=ranked_on,
        ranking=ranking,
        metrics=metrics,
        epochs=epochs,
        comparisons=compare_experiments(study, [row.experiment for row in ranking[:2]], ranked_on, cfg),
        goals=judge_goals([*metrics, *epochs], params.goals, cfg),
    )


def study_metrics(study: FindingsStudy, cfg: EvalConfig) -> list[StudyMetric]:
    """Every metric of every repeat, checkpoint and split, of rounds and means, with intervals on the test split."""
    over = {split: study.defined(split) for split in (VALID, TEST)}
    rows: list[StudyMetric] = []
    for runs, checkpoint in product(study.by_experiment.values(), CHECKPOINTS):
        of_repeats = [row for run in runs for row in _of_run(run, checkpoint, over, cfg)]
        rows += of_repeats + _of_rounds(runs, study.folds, checkpoint, over[TEST], cfg)
        rows += _of_mean(runs, checkpoint, over[TEST], cfg, of_repeats)
    return rows


def _of_run(run: FindingsRun, checkpoint: str, over: dict[str, list[int]], cfg: EvalConfig) -> list[StudyMetric]:
    keys = run.experiment, checkpoint, run.chosen_on(checkpoint), REPEAT, run.repeat
    return [
        StudyMetric(*keys, split, row)
        for split, samples in ((VALID, run.valid), (TEST, run.test))
        if samples
        for row in compute_metrics(samples[checkpoint], cfg, over[split], intervals=split == TEST)
    ]


def _of_rounds(
    runs: Sequence[FindingsRun], folds: int | None, checkpoint: str, over: list[int], cfg: EvalConfig
) -> list[StudyMetric]:
    keys = runs[0].experiment, checkpoint, runs[0].chosen_on(checkpoint), ROUND
    pooled = pool_folds(runs, folds, checkpoint) if folds else {}
    return [
        StudyMetric(*keys, number, TEST, row)
        for number, findings in pooled.items()
        for row in compute_metrics(findings, cfg, over, intervals=True)
    ]


def _of_mean(
    runs: Sequence[FindingsRun], checkpoint: str, over: list[int], cfg: EvalConfig, of_repeats: list[StudyMetric]
) -> list[StudyMetric]:
    """Of one run they are its own."""
    if len(runs) == 1:
        return [replace(row, kind=MEAN, number=None) for row in of_repeats if row.split == TEST]
    keys = runs[0].experiment, checkpoint, runs[0].chosen_on(checkpoint), MEAN, None, TEST
    _, findings = mean_over_repeats(runs, checkpoint)
    return [StudyMetric(*keys, row) for row in compute_metrics(findings, cfg, over, intervals=True)]


def rank(study: FindingsStudy, split: str, metric: str) -> list[Ranked]:
    """The experiments from the best to the worst by the mean over repeats of their best epochs on `split`.

    `metric` is auroc, auprc, f1, accuracy or loss; an undefined one comes last. Equal ones are ordered by their loss,
    then as they come in the study.
    """
    over = study.defined(split)
    rows = []
    for experiment, runs in study.by_experiment.items():
        each = [_scores((run.valid if split == VALID else run.test)["best"], over) for run in runs]
        means = {name: _mean([scores[name] for scores in each]) for name in each[0]}
        rows.append(Ranked(experiment, **means))
    name, sign = ("log_loss", 1) if metric == "loss" else (metric, -1)

    def place(row: Ranked) -> tuple[float, float]:
        value = getattr(row, name)
        return (np.inf if value is None else sign * value), np.inf if row.log_loss is None else row.log_loss

    return sorted(rows, key=place)


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None


def _scores(findings: Findings, over: Sequence[int]) -> dict[str, float | None]:
    """What training monitors: means over findings, those of classification at 0.5, and over all known labels."""
    known = ~np.isnan(findings.labels)
    labels, p = findings.labels, findings.probabilities
    called = p >= DEFAULT_THRESHOLD
    areas = [binary.auroc_and_auprc(labels[known[:, f], f] == 1, p[known[:, f], f]) for f in over]
    f1 = [_f1(labels[known[:, f], f] == 1, called[known[:, f], f]) for f in over]
    of_actual = np.where(labels == 1, p, 1 - p)[known]
    return {
        "auroc": _mean([auroc for auroc, _ in areas]) if over else None,
        "auprc": _mean([auprc for _, auprc in areas]) if over else None,
        "f1": _mean(f1) if over else None,
        "accuracy": float((called == (labels == 1))[known].mean()) if known.any() else None,
        "log_loss": float(-np.log(np.maximum(of_actual, np.finfo(np.float32).tiny)).mean()) if known.any() else None,
    }


def _f1(positive: np.ndarray, called: np.ndarray) -> float:
    return float(2 * (positive & called).sum() / max(positive.sum() + called.sum(), 1))
