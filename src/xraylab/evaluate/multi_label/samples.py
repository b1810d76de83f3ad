"""Images with the labels of several findings, and the runs of a multi-label study."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from xraylab import files, tables, targets
from xraylab.evaluate.confusion import Floats, Ints
from xraylab.evaluate.metrics import has_both
from xraylab.evaluate.operating_points import threshold_curve, youden
from xraylab.evaluate.predictions import (
    CHECKPOINTS,
    Run,
    probability_columns,
    read_models,
    read_predictions,
    rounds,
    select,
)
from xraylab.evaluate.samples import Bools, Sample, Texts, Units, group_by_patient
from xraylab.params.config import Params
from xraylab.paths import Paths

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Findings:
    """Labels are 1, 0, or NaN where they do not count (uncertain, or not labelled); (n, findings) like the next two.

    `thresholds`: the probability from which an image is classified as having the finding. `patients` (n,), '' where
    unknown. `sources` as in Sample.
    """

    labels: Floats
    probabilities: Floats
    thresholds: Floats
    patients: Texts
    sources: Texts | None = None

    @cached_property
    def samples(self) -> list[Sample]:
        """Of each finding, the images whose label is known, as two classes: without the finding and with it."""
        return [self._sample(number) for number in range(self.labels.shape[1])]

    def _sample(self, number: int) -> Sample:
        known = ~np.isnan(self.labels[:, number])
        p = self.probabilities[known, number]
        sources = None if self.sources is None else self.sources[known]
        actual = self.labels[known, number].astype(np.int64)
        return Sample(
            actual, np.column_stack([1 - p, p]), self.patients[known], sources, self.thresholds[known, number]
        )

    @cached_property
    def pairs(self) -> Sample:
        """All pairs of an image and a finding with a known label; those of one unit go together."""
        image, finding = np.nonzero(~np.isnan(self.labels))
        p = self.probabilities[image, finding]
        sources = None if self.sources is None else self.sources[image]
        actual = self.labels[image, finding].astype(np.int64)
        units = self.units.of_image[image].astype(str)
        return Sample(actual, np.column_stack([1 - p, p]), units, sources, self.thresholds[image, finding])

    @cached_property
    def units(self) -> Units:
        """Patients, shared by all findings; an image without patient is one by itself."""
        return group_by_patient(np.zeros(len(self.patients), np.int64), self.patients)

    def units_of(self, number: int) -> Ints:
        """The unit in `units` of each row of an influence on a metric of the finding."""
        sample = self.samples[number]
        of_image = self.units.of_image[~np.isnan(self.labels[:, number])]
        every = [np.ones(len(of_image), bool)]
        if sample.by_source and sample.sources is not None:
            every = [sample.sources == name for name in np.unique(sample.sources)]
        return np.concatenate(
            [
                _units_of_part(part, of_image[inside])
                for part, inside in zip(sample.by_source or [sample], every, strict=True)
            ]
        )

    def __getitem__(self, rows: Bools) -> "Findings":
        sources = None if self.sources is None else self.sources[rows]
        return Findings(
            self.labels[rows], self.probabilities[rows], self.thresholds[rows], self.patients[rows], sources
        )


def _units_of_part(part: Sample, of_image: Ints) -> Ints:
    units = np.zeros(len(part.units.strata), np.int64)
    units[part.units.of_image] = of_image
    return units


def concatenate(parts: Sequence[Findings]) -> Findings:
    sources = [part.sources for part in parts if part.sources is not None]
    return Findings(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.thresholds for part in parts]),
        np.concatenate([part.patients for part in parts]),
        np.concatenate(sources) if sources else None,
    )


@dataclass(frozen=True)
class FindingsRun:
    """One experiment and repeat, as `Run`, with the labels of all findings."""

    experiment: str
    repeat: int
    monitored_split: str
    ids: Texts
    test: dict[str, Findings]
    valid: dict[str, Findings]
    history: pd.DataFrame
    epochs: dict[str, int]
    predictions_sha256: str = ""

    def of(self, number: int) -> Run:
        """The run as one of a single finding, of the images whose label is known.

        Validation images that all have it, or all have not, are none to fix anything on.
        """
        valid = {name: each.samples[number] for name, each in self.valid.items()}
        known = ~np.isnan(self.test["best"].labels[:, number])
        return Run(
            experiment=self.experiment,
            repeat=self.repeat,
            monitored_split=self.monitored_split,
            ids=self.ids[known],
            test={name: each.samples[number] for name, each in self.test.items()},
            valid=valid if all(has_both(each.actual == 1) for each in valid.values()) else {},
            history=self.history,
            epochs=self.epochs,
            predictions_sha256=self.predictions_sha256,
        )

    def chosen_on(self, checkpoint: str) -> str:
        return self.monitored_split if checkpoint == "best" else "none"


@dataclass(frozen=True)
class FindingsStudy:
    """All runs of a multi-label study, as `Study`."""

    runs: Sequence[FindingsRun]
    baseline: str
    folds: int | None
    sources: Sequence[str] = ()
    models: Sequence[dict[str, Any]] = ()

    @property
    def by_experiment(self) -> dict[str, list[FindingsRun]]:
        names = dict.fromkeys(run.experiment for run in self.runs)
        return {name: [run for run in self.runs if run.experiment == name] for name in names}

    def defined(self, split: str) -> list[int]:
        """The findings that every run's images of the split have, and have not: those that means are over."""
        every = [run.test["best"] if split == "test" else run.valid.get("best") for run in self.runs]
        numbers = range(self.runs[0].test["best"].labels.shape[1])
        return [
            number
            for number in numbers
            if all(each is not None and has_both(each.samples[number].actual == 1) for each in every)
        ]


def read_study(paths: Paths, params: Params) -> FindingsStudy:
    """The runs of every experiment, the baseline first, and repeat.

    Errors: DataError unless the predictions are of the images of their split; MissingError.
    """
    models, sources = read_models(paths, params)
    runs = [_read_run(paths, model, params.data.classes, sources) for model in models]
    return FindingsStudy(runs, params.study.baseline, paths.folds, sources, models)


def _read_run(paths: Paths, model: dict[str, Any], findings: list[str], sources: list[str]) -> FindingsRun:
    experiment, repeat = model["experiment"], model["repeat"]
    table, images = read_predictions(paths, experiment, repeat, findings, multi_label=True)
    source = sources[repeat % len(sources)] if sources else None
    samples = {name: _of_checkpoint(table, images, name, findings, source) for name in CHECKPOINTS}
    return FindingsRun(
        experiment=experiment,
        repeat=repeat,
        monitored_split=model["monitor"].partition("_")[0],
        ids=select(table, "best", "test")["id"].to_numpy(str),
        test={name: of_splits["test"] for name, of_splits in samples.items()},
        valid={name: of_splits["valid"] for name, of_splits in samples.items() if "valid" in of_splits},
        history=tables.read(paths.model(experiment, repeat) / "history.csv"),
        epochs={name: model[f"{name}_epoch"] for name in CHECKPOINTS},
        predictions_sha256=files.sha256(paths.prediction(experiment, repeat)),
    )


def _of_checkpoint(
    table: pd.DataFrame, images: dict[str, pd.DataFrame], checkpoint: str, findings: list[str], source: str | None
) -> dict[str, Findings]:
    """The images of each split at the thresholds of the validation images."""
    thresholds = np.full(len(findings), DEFAULT_THRESHOLD)
    samples = {}
    for split, of_split in images.items():  # validation comes first
        predicted = select(table, checkpoint, split)
        rows = of_split.set_index("id").reindex(predicted["id"].tolist())
        labels = targets.values(rows, findings)
        labels = np.where(targets.known(labels), labels, np.nan)
        probabilities = predicted[probability_columns(findings)].to_numpy(float)
        if split == "valid":
            thresholds = fit_thresholds(labels, probabilities)
        sources = np.full(len(rows), source) if source is not None and split == "test" else None
        samples[split] = Findings(
            labels,
            probabilities,
            np.tile(thresholds, (len(rows), 1)),
            rows["patient"].astype(str).to_numpy(str),
            sources,
        )
    return samples


def fit_thresholds(labels: Floats, probabilities: Floats) -> Floats:
    """For each finding the threshold with the highest Youden index; 0.5 where the images do not have both classes."""
    thresholds = np.full(labels.shape[1], DEFAULT_THRESHOLD)
    for number in range(labels.shape[1]):
        known = ~np.isnan(labels[:, number])
        curve = threshold_curve(labels[known, number] == 1, probabilities[known, number])
        if curve is not None:
            thresholds[number] = youden(curve)
    return thresholds


def pool_folds(runs: Sequence[FindingsRun], folds: int, checkpoint: str) -> dict[int, Findings]:
    """Round -> the test images of its folds together, each with what the one run that tested it gives it."""
    samples = {run.repeat: run.test[checkpoint] for run in runs}
    members = rounds(list(samples), folds)
    return {number: concatenate([samples[repeat] for repeat in repeats]) for number, repeats in members.items()}


def mean_over_repeats(runs: Sequence[FindingsRun], checkpoint: str) -> tuple[Texts, Findings]:
    """Each test image once, in the order of ids, with the means of probabilities and thresholds over its runs."""
    ids = np.concatenate([run.ids for run in runs])
    unique, first, position = np.unique(ids, return_index=True, return_inverse=True)
    every = concatenate([run.test[checkpoint] for run in runs])
    probabilities, thresholds = (
        np.column_stack([np.bincount(position, column) for column in values.T]) / np.bincount(position)[:, None]
        for values in (every.probabilities, every.thresholds)
    )
    sources = None if every.sources is None else every.sources[first]
    return unique, Findings(every.labels[first], probabilities, thresholds, every.patients[first], sources)
