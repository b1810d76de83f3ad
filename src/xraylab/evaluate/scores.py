"""The few scores by which experiments are ranked: of each run, pooled over folds, and averaged over repeats."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import tables
from xraylab.errors import DataError, MissingError
from xraylab.evaluate import confusion
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.confusion import confusion_matrix
from xraylab.evaluate.metrics import auroc, log_loss
from xraylab.evaluate.predictions import CHECKPOINTS, Run, Study, pool_folds, rounds, select, to_arrays
from xraylab.evaluate.samples import Sample
from xraylab.paths import Paths

HEADLINE = ("accuracy", "f1", "auroc")
DECIMALS = 6


@dataclass(frozen=True)
class Averages:
    """precision, recall, f1 and auroc are of the positive class, or the mean over classes; None where not defined."""

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    log_loss: float | None


@dataclass(frozen=True)
class Scores:
    n: int
    averages: Averages
    confusion: list[list[int]]


@dataclass(frozen=True)
class RunScores:
    experiment: str
    repeat: int
    checkpoint: str
    split: str
    epoch: int
    chosen_on: str
    scores: Scores


@dataclass(frozen=True)
class RoundScores:
    """Over the folds that one round of an experiment's repeats tested."""

    experiment: str
    round: int
    folds: list[int]
    checkpoint: str
    split: str
    scores: Scores


@dataclass(frozen=True)
class MeanScores:
    experiment: str
    checkpoint: str
    split: str
    averages: Averages


def score(sample: Sample, positive: int | None) -> Scores:
    """The scores of the images, or their mean over sources; `positive` None: means over classes."""
    matrix = confusion_matrix(sample.actual, sample.predicted, sample.probabilities.shape[1])
    averages = Averages(
        accuracy=confusion.accuracy(matrix),
        precision=confusion.precision(matrix, positive),
        recall=confusion.recall(matrix, positive),
        f1=confusion.f1(matrix, positive),
        auroc=auroc(sample.actual, sample.probabilities, positive),
        log_loss=log_loss(sample.actual, sample.probabilities),
    )
    if sample.by_source:
        averages = _mean([score(part, positive).averages for part in sample.by_source])
    return Scores(len(sample.actual), averages, matrix.tolist())


def score_runs(runs: Sequence[Run], positive: int | None) -> list[RunScores]:
    rows = []
    for run, checkpoint in product(runs, CHECKPOINTS):
        for split, samples in (("valid", run.valid), ("test", run.test)):
            if samples:
                epoch, chosen_on = run.epochs[checkpoint], run.chosen_on(checkpoint)
                scores = score(samples[checkpoint], positive)
                rows.append(RunScores(run.experiment, run.repeat, checkpoint, split, epoch, chosen_on, scores))
    return rows


def score_rounds(study: Study, positive: int | None) -> list[RoundScores]:
    """Of each experiment, round and checkpoint, over its folds."""
    rows = []
    for experiment, runs in study.by_experiment.items() if study.folds else ():
        folds = study.folds or 1
        pooled = {checkpoint: pool_folds(runs, folds, checkpoint) for checkpoint in CHECKPOINTS}
        for number, repeats in rounds([run.repeat for run in runs], folds).items():
            tested = [repeat % folds for repeat in repeats]
            for checkpoint, samples in pooled.items():
                scores = score(samples[number], positive)
                rows.append(RoundScores(experiment, number, tested, checkpoint, "test", scores))
    return rows


def average(results: Sequence[RunScores], rounds: Sequence[RoundScores]) -> list[MeanScores]:
    """The means over repeats, per experiment, checkpoint and split; None where one of these has none.

    With folds, on the test split over the rounds of pooled folds.
    """
    groups: dict[tuple[str, str, str], list[Averages]] = {}
    apart = [row for row in results if row.split != "test" or not rounds]
    rows: Sequence[RunScores | RoundScores] = [*apart, *rounds]
    for row in rows:
        groups.setdefault((row.experiment, row.checkpoint, row.split), []).append(row.scores.averages)
    return [MeanScores(*key, _mean(group)) for key, group in groups.items()]


def _mean(scores: Sequence[Averages]) -> Averages:
    values = zip(*(astuple(each) for each in scores), strict=True)
    return Averages(*(None if None in each else sum(each) / len(each) for each in values))


def rank(means: Sequence[MeanScores], split: str, metric: str) -> list[MeanScores]:
    """The experiments from the best to the worst by the mean score of their best epochs on `split`.

    `metric` is f1, accuracy or loss. Equal ones are ordered by their loss, then as they come in `means`.
    """
    name, sign = ("log_loss", 1) if metric == "loss" else (metric, -1)
    of_split = [row for row in means if (row.checkpoint, row.split) == ("best", split)]
    return sorted(of_split, key=lambda row: (sign * getattr(row.averages, name), row.averages.log_loss))


def metrics_on_test(results: Sequence[RunScores], means: Sequence[MeanScores]) -> dict[str, Any]:
    """The test scores of each experiment's best epochs; those chosen on test data are marked."""
    metrics: dict[str, Any] = {row.experiment: {} for row in results}
    for row in results:
        if (row.checkpoint, row.chosen_on) == ("best", "test"):
            metrics[row.experiment]["chosen_on"] = "test"
    for mean in means:
        if (mean.checkpoint, mean.split) == ("best", "test"):
            values = {name: getattr(mean.averages, name) for name in HEADLINE}
            rounded = {name: None if value is None else round(value, DECIMALS) for name, value in values.items()}
            metrics[mean.experiment]["test"] = rounded
    return metrics


def score_ensemble(paths: Paths, runs: list[str], cfg: EvalConfig, checkpoint: str, split: str) -> dict[str, Any]:
    """The number of `runs`, each an experiment or experiment/repeat, and the scores of their mean probability.

    Errors: MissingError for a run without predictions, DataError where two do not predict the same images.
    """
    every = read_ensemble(paths, runs, checkpoint, split)
    arrays = [to_arrays(rows, cfg.classes) for rows in every]
    mean = np.mean([probabilities for _, probabilities in arrays], axis=0)
    scores = score(Sample(arrays[0][0], mean, every[0]["id"].to_numpy(str)), cfg.positive)
    return {"runs": len(every), "n": scores.n, **asdict(scores.averages), "confusion": scores.confusion}


def read_ensemble(paths: Paths, runs: list[str], checkpoint: str, split: str) -> list[pd.DataFrame]:
    """The predictions of each run for the same images of the split. Errors as for `score_ensemble`."""
    files = list(dict.fromkeys(file for run in runs for file in _prediction_files(paths, run)))
    every = [select(tables.read(file), checkpoint, split).reset_index(drop=True) for file in files]
    for file, rows in zip(files, every, strict=True):
        if not rows[["id", "label"]].equals(every[0][["id", "label"]]):
            raise DataError(
                f"{_run_name(files[0])} and {_run_name(file)} predict other {split} images, as runs of different folds "
                "do: name runs of one fold"
            )
    if every[0].empty:
        raise DataError(f"the {split} split has no images: score the other split")
    return every


def _prediction_files(paths: Paths, run: str) -> list[Path]:
    experiment, _, repeat = run.partition("/")
    files = sorted((paths.predictions / experiment).glob(f"{repeat or '*'}.csv"))
    if not files:
        raise MissingError(f"{run} has no predictions: `dvc repro` makes those of the experiments in params.yaml")
    return files


def _run_name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"
