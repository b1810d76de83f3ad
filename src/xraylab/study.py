"""A study in Python: its images and Learners as fastai has them, its results as pandas tables."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from xraylab import tables
from xraylab.errors import MissingError
from xraylab.integrity.check import require_outputs, require_run
from xraylab.params import config
from xraylab.params.config import Params
from xraylab.paths import Paths

if TYPE_CHECKING:
    from xraylab.data.dataloaders import XrayDataLoaders
    from xraylab.predict.checkpoints import TrainedModel
    from xraylab.train.learner import XrayLearner
    from xraylab.train.run import TrainingRun


class Study:
    """The study in `folder`, which holds params.yaml.

    Every method says which stage to run where the study has not been run that far (MissingError), and refuses what
    is not as its stage wrote it (DataError).
    """

    def __init__(self, folder: Path | str = ".") -> None:
        self.paths = Paths(Path(folder).resolve())
        if not self.paths.params.is_file():
            raise MissingError(f"no params.yaml in {self.paths.root}: name the top folder of a study")

    @cached_property
    def params(self) -> Params:
        """params.yaml, as it was when it was first asked for."""
        return config.read(self.paths.params)

    @property
    def experiments(self) -> list[str]:
        """The names of the experiments."""
        return list(self.params.experiments)

    def dataloaders(self, experiment: str, repeat: int = 0) -> "XrayDataLoaders":
        """fastai DataLoaders of the images that an experiment trains on and is scored on."""
        # torch and fastai take seconds to import, and tables need neither
        from xraylab.train.learner import dataloaders  # noqa: PLC0415

        return dataloaders(self._run(experiment, repeat))

    def learner(self, experiment: str, repeat: int = 0, cbs: Sequence[Any] = ()) -> "XrayLearner":
        """The fastai Learner that the stage `train` trains, with callbacks of yours besides.

        What it saves goes to .xraylab/notebook/, not to models/, which is DVC's.
        """
        from xraylab.train.learner import dataloaders, learner  # noqa: PLC0415 - as above

        run = self._run(experiment, repeat)
        learn = learner(run, dataloaders(run), cbs)
        learn.path.mkdir(parents=True, exist_ok=True)
        return learn

    def model(self, experiment: str, repeat: int = 0) -> "TrainedModel":
        """A trained network, whose `predict` classifies an image file by its best epoch."""
        from xraylab.predict.checkpoints import load_run  # noqa: PLC0415 - as above

        self._check(experiment, repeat)
        require_run(self.paths, f"{experiment}/{repeat}")
        return load_run(self.paths, experiment, repeat)

    def metrics(self) -> pd.DataFrame:
        """One row per run, checkpoint and split, as in reports/comparison.csv."""
        return self._table(self.paths.comparison, "evaluate")

    def predictions(self, experiment: str) -> pd.DataFrame:
        """One row per repeat, checkpoint and image: its split, label and class probabilities (`p_...`)."""
        self._check(experiment)
        files = [(repeat, self.paths.prediction(experiment, repeat)) for repeat in self.params.study.repeats]
        parts = [self._table(path, f"predict@{experiment}-{repeat}").assign(repeat=repeat) for repeat, path in files]
        return pd.concat(parts, ignore_index=True)

    def _run(self, experiment: str, repeat: int) -> "TrainingRun":
        from xraylab.train.run import TrainingRun  # noqa: PLC0415 - as above

        self._check(experiment, repeat)
        for stage, path in (
            ("configure", self.paths.config(experiment)),
            ("split", self.paths.split_of(repeat) / "train_data.csv"),
            ("cache", self.paths.cache / "rows.csv"),
        ):
            self._refuse_missing(path, stage)
        read = [self.paths.config(experiment), self.paths.split, self.paths.cache, self.paths.feature(experiment)]
        require_outputs(self.paths, read)
        return TrainingRun.load(self.params, self.paths, experiment, repeat)

    def _table(self, path: Path, stage: str) -> pd.DataFrame:
        self._refuse_missing(path, stage)
        require_outputs(self.paths, [path])
        return tables.read(path)

    def _refuse_missing(self, path: Path, stage: str) -> None:
        if not path.is_file():
            raise MissingError(f"{path.relative_to(self.paths.root)} is not there yet: `dvc repro {stage}` makes it")

    def _check(self, experiment: str, repeat: int | None = None) -> None:
        """Errors: MissingError where params.yaml names no such run."""
        if experiment not in self.params.experiments:
            raise MissingError(f"params.yaml has no experiment {experiment!r}; there is {', '.join(self.experiments)}")
        repeats = self.params.study.repeats
        if repeat is not None and repeat not in repeats:
            raise MissingError(f"study.repeats has no repeat {repeat}; there is {', '.join(map(str, repeats))}")
