"""Classifiers of finished runs, and of bundles."""

from dataclasses import replace
from pathlib import Path

from xraylab.inference import bundle
from xraylab.inference.classifier import Classifier
from xraylab.paths import Paths
from xraylab.predict import checkpoints, references, thresholds


def of_run(paths: Paths, name: str, precision: str | None = None, reference: bool = False) -> Classifier:
    """The best epoch of experiment/repeat, with the thresholds and temperature that the stage `evaluate` chose for it.

    `precision` as for `Classifier.create`. `reference`: with the statistics that warnings need, for which the network
    sees training images at the first time. Errors: DataError, MissingError as `checkpoints.find_run`.
    """
    run = checkpoints.find_run(paths, name)
    fixed = thresholds.read(paths.evaluation, run.record["experiment"], run.record["repeat"])
    classifier = Classifier.create(run.name, run.record, fixed, run.network(run.epoch()), precision)
    return replace(classifier, reference=references.of_run(paths, name, classifier)) if reference else classifier


def find(source: str, precision: str | None = None, reference: bool = False) -> Classifier:
    """The classifier that a command names: experiment/repeat of the study in the current folder, or a bundle's path.

    Errors: as `of_run` and `bundle.load`.
    """
    if source.endswith(bundle.SUFFIX):
        return bundle.load(Path(source), precision)
    return of_run(Paths.here(), source, precision, reference)
