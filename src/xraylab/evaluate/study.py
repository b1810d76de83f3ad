"""Everything that is evaluated of a study: the metrics of all runs, the ranking, comparisons and goals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from xraylab.evaluate.comparisons import Comparison, compare_at_thresholds, compare_experiments
from xraylab.evaluate.config import OVERALL, EvalConfig
from xraylab.evaluate.intervals import Metric, metrics_with_intervals, metrics_without_intervals
from xraylab.evaluate.operating_points import fixed_rules
from xraylab.evaluate.predictions import CHECKPOINTS, Run, Study, mean_over_repeats, pool_folds
from xraylab.evaluate.scores import MeanScores, RoundScores, RunScores, average, rank, score_rounds, score_runs
from xraylab.params.evaluate import Evaluate, Goals

REPEAT, ROUND, MEAN = "repeat", "round", "mean"
EPOCHS, GAP = "epochs_to_highest_accuracy", "train_test_gap"
MET, NOT_MET, UNDECIDED = "met", "not met", "undecided"


@dataclass(frozen=True)
class StudyMetric:
    """`kind` is repeat, round (the folds of one round pooled) or mean (the mean probability over repeats)."""

    experiment: str
    checkpoint: str
    chosen_on: str
    kind: str
    number: int | None  # of the repeat or round
    split: str
    result: Metric


@dataclass(frozen=True)
class GoalVerdict:
    """Of an experiment, over its repeats (or rounds); `each` and `values` are each one's."""

    experiment: str
    metric: str
    goal: str
    chosen_on: str
    verdict: str
    each: dict[int | None, str]
    values: list[float | None]


@dataclass(frozen=True)
class Evaluation:
    results: list[RunScores]
    rounds: list[RoundScores]
    means: list[MeanScores]
    ranked_on: str
    ranking: list[MeanScores]
    metrics: list[StudyMetric]
    epochs: list[StudyMetric]
    comparisons: list[Comparison]
    at_thresholds: list[Comparison]
    goals: list[GoalVerdict]

    @property
    def top_two(self) -> list[str]:
        return [row.experiment for row in self.ranking[:2]]


def evaluate_study(study: Study, cfg: EvalConfig, params: Evaluate, metric: str) -> Evaluation:
    """Experiments are ranked by `metric` on validation images, or on test images where there are none."""
    results, rounds = score_runs(study.runs, cfg.positive), score_rounds(study, cfg.positive)
    means = average(results, rounds)
    ranked_on = "valid" if any(run.valid for run in study.runs) else "test"
    ranking = rank(means, ranked_on, metric)
    metrics, epochs = study_metrics(study, cfg), epochs_to_highest(study.runs)
    rules = fixed_rules(params.sensitivities, params.specificities)
    return Evaluation(
        results=results,
        rounds=rounds,
        means=means,
        ranked_on=ranked_on,
        ranking=ranking,
        metrics=metrics,
        epochs=epochs,
        comparisons=compare_experiments(study, [row.experiment for row in ranking[:2]], ranked_on, cfg),
        at_thresholds=compare_at_thresholds(study, rules, cfg),
        goals=judge_goals([*metrics, *epochs], params.goals, cfg),
    )


def study_metrics(study: Study, cfg: EvalConfig) -> list[StudyMetric]:
    """Every metric of every repeat, checkpoint and split, of rounds and means, with intervals on the test split."""
    rows: list[StudyMetric] = []
    for runs in study.by_experiment.values():
        for checkpoint in CHECKPOINTS:
            of_repeats = [row for run in runs for row in _of_run(run, checkpoint, cfg)]
            rows += of_repeats + _of_rounds(runs, study.folds, checkpoint, cfg)
            rows += _of_mean(runs, checkpoint, cfg, of_repeats)
    return rows


def _of_run(run: Run, checkpoint: str, cfg: EvalConfig) -> list[StudyMetric]:
    keys = run.experiment, checkpoint, run.chosen_on(checkpoint), REPEAT, run.repeat
    on_valid = metrics_without_intervals(run.valid[checkpoint], cfg) if run.valid else []
    on_test = metrics_with_intervals(run.test[checkpoint], cfg)
    accuracy = next(row for row in on_test if (row.class_, row.metric) == (OVERALL, "accuracy"))
    on_test.append(train_test_gap(run.history, run.epochs[checkpoint], accuracy))
    return [StudyMetric(*keys, split, row) for split, rows in (("valid", on_valid), ("test", on_test)) for row in rows]


def _of_rounds(runs: Sequence[Run], folds: int | None, checkpoint: str, cfg: EvalConfig) -> list[StudyMetric]:
    keys = runs[0].experiment, checkpoint, runs[0].chosen_on(checkpoint), ROUND
    pooled = pool_folds(runs, folds, checkpoint) if folds else {}
    return [
        StudyMetric(*keys, number, "test", row)
        for number, sample in pooled.items()
        for row in metrics_with_intervals(sample, cfg)
    ]


def _of_mean(runs: Sequence[Run], checkpoint: str, cfg: EvalConfig, of_repeats: list[StudyMetric]) -> list[StudyMetric]:
    """Of one run they are its own."""
    if len(runs) > 1:
        keys = runs[0].experiment, checkpoint, runs[0].chosen_on(checkpoint), MEAN, None, "test"
        _, sample = mean_over_repeats(runs, checkpoint)
        return [StudyMetric(*keys, row) for row in metrics_with_intervals(sample, cfg)]
    on_test = [row for row in of_repeats if row.split == "test" and row.result.metric != GAP]
    return [replace(row, kind=MEAN, number=None) for row in on_test]


def mean_values(
    metrics: Sequence[StudyMetric], experiment: str, checkpoint: str, split: str
) -> dict[tuple[str, str], float | None]:
    """(class, metric) -> its mean over repeats, or over rounds of pooled folds; None where one of these has none."""
    rows = [row for row in metrics if (row.experiment, row.checkpoint, row.split) == (experiment, checkpoint, split)]
    kind = ROUND if any(row.kind == ROUND for row in rows) else REPEAT
    values: dict[tuple[str, str], list[float | None]] = {}
    for row in (row for row in rows if row.kind == kind):
        values.setdefault((row.result.class_, row.result.metric), []).append(row.result.value)
    return {key: None if None in each else float(np.mean(each)) for key, each in values.items()}  # type: ignore[arg-type]


def train_test_gap(history: pd.DataFrame, epoch: int, accuracy: Metric) -> Metric:
    """Training accuracy of the epoch less test accuracy, with the interval that the latter gives it.

    Training accuracy is the running mean over the epoch's batches, augmentation and dropout at work.
    """
    train = float(history.loc[history["epoch"] == epoch, "train_accuracy"].iloc[0])
    value, low, high = (
        None if end is None else train - end for end in (accuracy.value, accuracy.ci_high, accuracy.ci_low)
    )
    return replace(accuracy, metric=GAP, value=value, ci_low=low, ci_high=high)


def epochs_to_highest(runs: Sequence[Run]) -> list[StudyMetric]:
    """How many epochs each run took to the first with the highest accuracy on the split that chose the epoch.

    It is a count, and so its own interval.
    """
    rows = []
    for run in runs:
        split = run.monitored_split
        accuracy = pd.to_numeric(run.history[f"{split}_accuracy"], errors="coerce")
        epochs = int(accuracy.to_numpy().argmax()) + 1
        metric = Metric(OVERALL, EPOCHS, epochs, epochs, epochs, None, None, None)
        rows.append(StudyMetric(run.experiment, "best", split, REPEAT, run.repeat, split, metric))
    return rows


def judge_goals(metrics: Sequence[StudyMetric], goals: Goals, cfg: EvalConfig) -> list[GoalVerdict]:
    """Per experiment and goal, on the best epoch of every repeat, or of every round where folds are pooled.

    Metrics are overall where there is such a one, else of the positive class or the mean over classes.
    """
    chosen = [
        row for row in metrics if row.checkpoint == "best" and (row.split == "test" or row.result.metric == EPOCHS)
    ]
    kind = ROUND if any(row.kind == ROUND for row in chosen) else REPEAT
    overall = {row.result.metric for row in chosen if row.result.class_ == OVERALL}
    rows = [
        row
        for row in chosen
        if row.kind == (REPEAT if row.result.metric in (GAP, EPOCHS) else kind)
        and row.result.class_ == (OVERALL if row.result.metric in overall else cfg.main_class)
    ]
    verdicts = []
    for experiment in dict.fromkeys(row.experiment for row in rows):
        for limits, at_least in ((goals.at_least, True), (goals.at_most, False)):
            for name, goal in limits.items():
                repeats = [row for row in rows if (row.experiment, row.result.metric) == (experiment, name)]
                verdicts.append(_verdict(repeats, goal, at_least))
    return verdicts


def _verdict(rows: Sequence[StudyMetric], goal: float, at_least: bool) -> GoalVerdict:
    """`rows`: one metric of one experiment, of each repeat. What all repeats say, else undecided."""
    each = {row.number: judge(row.result, goal, at_least) for row in rows}
    verdict = next(iter(each.values())) if len(set(each.values())) == 1 else UNDECIDED
    text = f"at {'least' if at_least else 'most'} {goal:g}"
    values = [row.result.value for row in rows]
    return GoalVerdict(rows[0].experiment, rows[0].result.metric, text, rows[0].chosen_on, verdict, each, values)


def judge(metric: Metric, goal: float, at_least: bool) -> str:
    """Met where the whole interval keeps the goal, not met where none of it does, undecided without an interval."""
    if metric.interval is None:
        return UNDECIDED
    _, low, high = metric.interval
    worst, best = (low, high) if at_least else (-high, -low)
    limit = goal if at_least else -goal
    return MET if worst >= limit else NOT_MET if best < limit else UNDECIDED
