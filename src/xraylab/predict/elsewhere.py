"""Trained runs on images that are not the study's own: prepared as its images are, scored by each run's best epoch."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files
from xraylab.data import cache
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError, MissingError
from xraylab.evaluate.counts import Floats
from xraylab.params import Params
from xraylab.paths import Paths
from xraylab.predict import kept, table


@dataclass(frozen=True)
class Trained:
    """A run below models/."""

    folder: Path
    model: dict[str, Any]
    """Its model.json."""

    @property
    def name(self) -> str:
        return f"{self.model['experiment']}/{self.model['repeat']}"

    @property
    def epoch(self) -> int:
        return kept.epoch_of(self.model, "best")


def run(paths: Paths, name: str) -> Trained:
    """The run called experiment/repeat; experiment alone is its repeat 0. Errors: DataError, MissingError."""
    experiment, repeat = _parts(name)
    return _read(paths.model(experiment, repeat or 0))


def runs(paths: Paths, names: Sequence[str]) -> list[Trained]:
    """The runs called experiment/repeat, and all repeats of each experiment named alone, each of them once.

    Errors: DataError where a name is none, or where two runs know other classes; MissingError for one not trained.
    """
    found = [_read(folder) for folder in dict.fromkeys(folder for name in names for folder in _folders(paths, name))]
    for each in found:
        if each.model["classes"] != found[0].model["classes"]:
            raise DataError(f"{found[0].name} and {each.name} know other classes: `dvc repro` trains them anew")
    return found


def probabilities(
    given: Params, several: Sequence[Trained], images: pd.DataFrame, raw: Path
) -> tuple[list[Floats], list[str]]:
    """Per run, class probabilities (n, classes) of `images` (id, path below `raw`), each decoded once; and how.

    Errors: DataError with the path of an image that cannot be read.
    """
    settings = given.images
    preparation = Preparation(settings.crop_border, settings.window, settings.clahe, settings.pyramid_sharpening)
    found, how = [], []
    with tempfile.TemporaryDirectory() as place:
        cache.write(Path(place), raw, images, settings.pixels, settings.fit, preparation)
        for each in several:
            best, copies = [each.epoch], given.predict.tta
            (scored,), notes = table.probabilities(each.folder, each.model, best, images[["id"]], Path(place), copies)
            found.append(scored[[f"p_{label}" for label in each.model["classes"]]].to_numpy(float))
            how.append("; ".join([*table.first_lines(each.model), *notes]))
    return found, how


def _parts(name: str) -> tuple[str, int | None]:
    experiment, slash, repeat = name.partition("/")
    if not experiment or (slash and not repeat.isdecimal()):
        raise DataError(f"{name!r} names no run: write experiment or experiment/repeat, such as baseline/0")
    return experiment, int(repeat) if slash else None


def _folders(paths: Paths, name: str) -> list[Path]:
    experiment, repeat = _parts(name)
    if repeat is not None:
        return [paths.model(experiment, repeat)]
    repeats = [int(folder.name) for folder in paths.model(experiment, 0).parent.glob("*") if folder.name.isdecimal()]
    if not repeats:
        raise MissingError(f"{experiment} was not trained: `dvc repro` trains the experiments in params.yaml")
    return [paths.model(experiment, each) for each in sorted(repeats)]


def _read(folder: Path) -> Trained:
    return Trained(folder, files.read_json(folder / "model.json"))
