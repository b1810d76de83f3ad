"""Prediction tables, checked against the split that they were made for, and the runs of a study as arrays."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables
from xraylab.errors import DataError
from xraylab.evaluate.confusion import Floats, Ints
from xraylab.evaluate.samples import Sample, Texts, concatenate
from xraylab.params.config import Params
from xraylab.paths import Paths

CHECKPOINTS = ("best", "last")
OFF = 1e-3  # probabilities are float32, and tables from elsewhere may be rounded


@dataclass(frozen=True)
class Run:
    """One experiment and repeat. Samples are by checkpoint; `valid` is empty where there is no validation split."""

    experiment: str
    repeat: int
    monitored_split: str  # which selected the best epoch: valid, or in published mode test
    ids: Texts  # of the test images
    test: dict[str, Sample]
    valid: dict[str, Sample]
    history: pd.DataFrame
    epochs: dict[str, int]
    predictions_sha256: str = ""

    def chosen_on(self, checkpoint: str) -> str:
        return self.monitored_split if checkpoint == "best" else "none"


@dataclass(frozen=True)
class Study:
    """All runs, and the experiment that the others are compared with."""

    runs: Sequence[Run]
    baseline: str
    folds: int | None
    sources: Sequence[str] = ()  # with these, each repeat tests one
    models: Sequence[dict[str, Any]] = ()  # the model.json of each run

    @property
    def by_experiment(self) -> dict[str, list[Run]]:
        names = dict.fromkeys(run.experiment for run in self.runs)
        return {name: [run for run in self.runs if run.experiment == name] for name in names}


def read_study(paths: Paths, params: Params) -> Study:
    """The runs of every experiment, the baseline first, and repeat.

    Errors: DataError unless the predictions are of the images of their split; MissingError.
    """
    models, sources = read_models(paths, params)
    runs = [_read_run(paths, model, params.data.classes, sources) for model in models]
    return Study(runs, params.study.baseline, paths.folds, sources, models)


def read_models(paths: Paths, params: Params) -> tuple[list[dict[str, Any]], list[str]]:
    """The model.json of every experiment, the baseline first, and repeat; and the sources that the repeats test.

    Errors: MissingError.
    """
    names = dict.fromkeys([params.study.baseline, *params.experiments])
    sources = files.read_json(paths.split / "summary.json")["test_sources"]
    models = [
        files.read_json(paths.model(name, repeat) / "model.json") for name in names for repeat in params.study.repeats
    ]
    return models, sources


def _read_run(paths: Paths, model: dict[str, Any], classes: list[str], sources: list[str]) -> Run:
    experiment, repeat = model["experiment"], model["repeat"]
    table, images = read_predictions(paths, experiment, repeat, classes)
    tested = {"test": sources[repeat % len(sources)]} if sources else {}
    samples = {
        split: {name: _sample(select(table, name, split), rows, classes, tested.get(split)) for name in CHECKPOINTS}
        for split, rows in images.items()
    }
    return Run(
        experiment=experiment,
        repeat=repeat,
        monitored_split=model["monitor"].partition("_")[0],
        ids=select(table, "best", "test")["id"].to_numpy(str),
        test=samples["test"],
        valid=samples.get("valid", {}),
        history=tables.read(paths.model(experiment, repeat) / "history.csv"),
        epochs={name: model[f"{name}_epoch"] for name in CHECKPOINTS},
        predictions_sha256=files.sha256(paths.prediction(experiment, repeat)),
    )


def read_predictions(
    paths: Paths, experiment: str, repeat: int, classes: list[str], multi_label: bool = False
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The predictions of a run, and the images of the splits that it predicts; both are checked against each other."""
    path, folder = paths.prediction(experiment, repeat), paths.split_of(repeat)
    table = tables.read(path)
    images = {split: tables.read(folder / f"{split}_data.csv") for split in ("valid", "test")}
    images = {split: rows for split, rows in images.items() if len(rows)}
    check(table, images, classes, path, folder.relative_to(paths.root).as_posix(), multi_label)
    return table, images


def check(
    table: pd.DataFrame,
    images: dict[str, pd.DataFrame],
    classes: list[str],
    path: Path,
    folder: str,
    multi_label: bool = False,
) -> None:
    """Errors: DataError unless `table` has every image of every split once per checkpoint, with probabilities.

    They add up to 1, but for those of findings (`multi_label`), and the images are in the order of their split, as the
    stage `predict` writes them. `path` and `folder` name the table and the splits in the message.
    """
    columns = ["checkpoint", "split", "id", "label", *probability_columns(classes)]
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: `dvc repro` makes it anew")
    problems = [
        f"{checkpoint}, {split}: {problem}"
        for checkpoint in CHECKPOINTS
        for split, rows in images.items()
        for problem in _differences(select(table, checkpoint, split), rows)
    ]
    others = ~(table["checkpoint"].isin(CHECKPOINTS) & table["split"].isin([*images]))
    if others.any():
        row = table[others].iloc[0]
        problems.append(f"there are rows of no checkpoint or split: {row['checkpoint']}, {row['split']}")
    if problems:
        raise DataError(f"{path} does not match {folder}; `dvc repro` makes it anew:", problems)
    numbers = table[probability_columns(classes)].apply(pd.to_numeric, errors="coerce")
    if not numbers.stack(future_stack=True).between(0, 1).all():
        raise DataError(f"{path} holds a probability that is not a number from 0 to 1: `dvc repro` makes it anew")
    off = (numbers.sum(axis=1) - 1).abs() > OFF
    if not multi_label and off.any():
        row = table[off].iloc[0]
        raise DataError(
            f"{path}: the probabilities of {row['id']} ({row['checkpoint']}, {row['split']}) add up to "
            f"{numbers[off].iloc[0].sum():.4g}, and not to 1: `dvc repro` makes it anew"
        )


def select(table: pd.DataFrame, checkpoint: str, split: str) -> pd.DataFrame:
    return table[(table["checkpoint"] == checkpoint) & (table["split"] == split)]


def to_arrays(rows: pd.DataFrame, classes: list[str]) -> tuple[Ints, Floats]:
    """The actual class numbers (n,) and the class probabilities (n, classes)."""
    return rows["label"].map(classes.index).to_numpy(int), rows[probability_columns(classes)].to_numpy(float)


def _sample(rows: pd.DataFrame, images: pd.DataFrame, classes: list[str], source: str | None) -> Sample:
    patients = images.set_index("id")["patient"].astype(str).reindex(rows["id"].tolist()).to_numpy(str)
    sources = None if source is None else np.full(len(patients), source)
    return Sample(*to_arrays(rows, classes), patients, sources)


def probability_columns(classes: list[str]) -> list[str]:
    return [f"p_{label}" for label in classes]


def _differences(rows: pd.DataFrame, images: pd.DataFrame) -> Iterator[str]:
    predicted = Counter(zip(rows["id"], rows["label"], strict=True))
    expected = Counter(zip(images["id"], images["label"], strict=True))
    yield from _count(expected - predicted, "has no prediction", "have no prediction")
    yield from _count(predicted - expected, "is predicted but not in the split", "are predicted but not in the split")
    if predicted == expected and rows["id"].tolist() != images["id"].tolist():
        yield "the images are in another order than in the split"


def _count(images: Counter[tuple[str, str]], one: str, many: str) -> Iterator[str]:
    if images:
        name, label = min(images)
        number = images.total()
        yield f"{number} image{'s' * (number > 1)} {many if number > 1 else one}, such as {name} ({label})"


def rounds(repeats: Sequence[int], folds: int) -> dict[int, list[int]]:
    """Round (repeat // folds) -> its repeats, both ascending.

    With folds, each repeat tests another part of the images. Repeats 0 to folds - 1 are one round, in which every image
    is tested once; the next `folds` repeats are the next round.
    """
    members: dict[int, list[int]] = {}
    for repeat in sorted(repeats):
        members.setdefault(repeat // folds, []).append(repeat)
    return members


def pool_folds(runs: Sequence[Run], folds: int, checkpoint: str) -> dict[int, Sample]:
    """Round -> the test images of its folds together, each with the probabilities of the one run that tested it.

    A pooled AUROC compares probabilities of different networks, so it can be lower than the mean over the folds. Where
    each fold tests a source of its own it would say little, since each network puts its threshold elsewhere: there
    every metric is the mean over sources.
    """
    samples = {run.repeat: run.test[checkpoint] for run in runs}
    members = rounds(list(samples), folds)
    return {number: concatenate([samples[repeat] for repeat in repeats]) for number, repeats in members.items()}


def mean_over_repeats(runs: Sequence[Run], checkpoint: str) -> tuple[Texts, Sample]:
    """Each test image once, in the order of ids, with the mean of its probabilities over the runs that test it.

    With folds every image is tested by some runs only, so this pools the folds.
    """
    ids = np.concatenate([run.ids for run in runs])
    unique, first, position = np.unique(ids, return_index=True, return_inverse=True)
    every = concatenate([run.test[checkpoint] for run in runs])
    times = np.bincount(position)
    columns = [np.bincount(position, column) / times for column in every.probabilities.T]
    return unique, replace(every[first], probabilities=np.column_stack(columns))
