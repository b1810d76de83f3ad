"""Trained runs on images that are not the study's own: prepared as its images are, scored by each run's best epoch."""

import difflib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xraylab import files
from xraylab.data import cache
from xraylab.data.names import some
from xraylab.data.prepare import Preparation
from xraylab.errors import DataError, MissingError
from xraylab.evaluate.counts import Floats
from xraylab.params.config import Params
from xraylab.paths import Paths, parse_run
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
    experiment, repeat = parse_run(name)
    return _read(paths, experiment, repeat or 0)


def runs(paths: Paths, names: Sequence[str]) -> list[Trained]:
    """The runs called experiment/repeat, and all repeats of each experiment named alone, each of them once.

    Errors: DataError where a name is none, or where two runs know other classes; MissingError for one not trained.
    """
    found = list({each.folder: each for name in names for each in _named(paths, name)}.values())
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
    settings = _prepared_alike(several, given)
    found, how = [], []
    with tempfile.TemporaryDirectory() as place:
        cache.write(Path(place), raw, images, settings["pixels"], settings["fit"], Preparation.recorded(settings))
        for each in several:
            best, copies = [each.epoch], given.predict.tta
            (scored,), notes = table.probabilities(each.folder, each.model, best, images[["id"]], Path(place), copies)
            found.append(scored[[f"p_{label}" for label in each.model["classes"]]].to_numpy(float))
            how.append("; ".join([*table.first_lines(each.model), *notes]))
    return found, how


def _prepared_alike(several: Sequence[Trained], given: Params) -> dict[str, Any]:
    """How the images were prepared that these runs were trained on. Errors: DataError where they differ."""
    known = [each.model.get("images", given.images.model_dump()) for each in several]
    for each, settings in zip(several, known, strict=True):
        if settings != known[0]:
            raise DataError(
                f"{several[0].name} and {each.name} were trained on images prepared in other ways: `dvc repro` trains "
                "them anew"
            )
    return dict(known[0])


def _named(paths: Paths, name: str) -> list[Trained]:
    experiment, repeat = parse_run(name)
    repeats = _repeats(paths, experiment) if repeat is None else [repeat]
    return [_read(paths, experiment, each) for each in repeats or [0]]


def _read(paths: Paths, experiment: str, repeat: int) -> Trained:
    folder = paths.model(experiment, repeat)
    if not (folder / "model.json").is_file():
        trained = sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in paths.models.glob("*/*/model.json"))
        near = difflib.get_close_matches(f"{experiment}/{repeat}", trained, n=1)
        there = f"; did you mean {near[0]}? Trained: {some(trained)}" if near else f"; trained: {some(trained)}"
        raise MissingError(
            f"{experiment}/{repeat} is not trained{there if trained else ''}. "
            "`dvc repro` trains what params.yaml names under experiments and study.repeats"
        )
    return Trained(folder, files.read_json(folder / "model.json"))


def _repeats(paths: Paths, experiment: str) -> list[int]:
    return sorted(int(folder.name) for folder in (paths.models / experiment).glob("*") if folder.name.isdecimal())
