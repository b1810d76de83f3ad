"""A trained classifier as one file that others can check and run: `xraylab bundle` writes, `xraylab.load` reads."""

from pathlib import Path

from xraylab.inference.classifier import Classifier

SUFFIX = ".zip"


def write(target: Path, classifier: Classifier) -> None:
    """Write the bundle of a classifier that has its card, whole or not at all; the same run gives the same bytes."""
    raise NotImplementedError


def load(path: Path | str, precision: str | None = None, check: bool = False) -> Classifier:
    """The classifier in a bundle, ready to classify images, with its `card`.

    `precision` as for `Classifier.create`. `check`: reproduce the bundle's expected outputs first. Errors: DataError
    where the file is damaged, hostile or of a newer format, or does not reproduce its outputs; PluginError where its
    architecture's plugin is not installed.
    """
    raise NotImplementedError
