"""Model cards of finished runs, out of what their study's stages wrote."""

from collections.abc import Iterator
from pathlib import Path

from xraylab.inference.card import ModelCard
from xraylab.paths import Paths


def of_run(paths: Paths, name: str) -> ModelCard:
    """The card of experiment/repeat, by its best epoch.

    Errors: MissingError where the study has not been run up to the stage `report`, DataError where its results are of
    another training.
    """
    raise NotImplementedError


def bundle(paths: Paths, name: str, target: Path | None = None) -> Iterator[str]:
    """Write a run's bundle to `target`, by default <experiment>-<repeat>.zip in the current folder."""
    raise NotImplementedError
