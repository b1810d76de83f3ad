"""With folds, each repeat trains on, predicts and scores its own: looked at without training a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest

from xraylab import tables
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import checkpoints
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import predict, train
from xraylab.train import asked

FOLDS = {
    "split": {"strategy": "folds", "folds": 3, "test": None},
    "study": {"repeats": [0, 1, 2, 4]},
    "images": {"pixels": 24},
    "model": {"pixels": 24},
}


@pytest.fixture
def study(tmp_path: Path) -> tuple[Params, Paths]:
    return finished_study.make(tmp_path, FOLDS)


def ids(paths: Paths, fold: int, side: str) -> list[str]:
    return list(tables.read(paths.split / f"fold-{fold}/{side}_data.csv")["id"])


class StoppedError(Exception):
    """Stands for the end of what a test looks at."""


def trained_on(study: tuple[Params, Paths], repeat: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """The ids that a run would train on, and the name of its folder, which stands for all that it reads."""
    seen = []

    def batches(images: Any, rows: Any, *rest: Any) -> None:
        cached = tables.read(study[1].cache / "rows.csv")["id"]
        seen.extend(cached.iloc[rows])
        raise StoppedError

    monkeypatch.setattr(asked, "TrainingBatches", batches)
    with pytest.raises(StoppedError):
        train.run(*study, "l2", repeat)
    runs = study[1].state / "runs"
    (name,) = (path.name for path in runs.iterdir() if path.is_dir() and path.name.startswith(f"l2-{repeat}-"))
    (runs / name).rmdir()
    return seen, name


@pytest.mark.parametrize(("repeat", "fold"), [(0, 0), (2, 2), (4, 1)])
def test_a_repeat_trains_on_its_fold_and_is_anothers_run_when_that_changes(
    repeat: int, fold: int, study: tuple[Params, Paths], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, paths = study
    seen, name = trained_on(study, repeat, monkeypatch)
    assert seen == ids(paths, fold, "train")
    other, own = (paths.split / f"fold-{number}/valid_data.csv" for number in ((fold + 1) % 3, fold))
    tables.write(tables.read(other).iloc[1:], other)
    assert trained_on(study, repeat, monkeypatch)[1] == name
    tables.write(tables.read(own).iloc[1:], own)
    assert trained_on(study, repeat, monkeypatch)[1] != name


@pytest.mark.parametrize(("repeat", "fold"), [(0, 0), (2, 2), (4, 1)])
def test_a_repeat_predicts_and_scores_its_fold(
    repeat: int, fold: int, study: tuple[Params, Paths], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, paths = study

    def probabilities(
        run: TrainedModel, epochs: Sequence[int], images: pd.DataFrame, cached: Path, tta: int
    ) -> tuple[list[pd.DataFrame], list[str]]:
        return [images.assign(p_Healthy=1.0, p_TB=np.float64(0)) for _ in epochs], []

    monkeypatch.setattr(TrainedModel, "predict_cached", probabilities)
    predict.run(given, paths, "l2", repeat)
    written = tables.read(paths.prediction("l2", repeat))
    for side in ("valid", "test"):
        part = written[(written["checkpoint"] == "best") & (written["side"] == side)]
        assert list(part["id"]) == ids(paths, fold, side)
        healthy = sum(name.startswith("Healthy/") for name in ids(paths, fold, side))
        assert checkpoints.evaluate_checkpoint(paths, "l2", repeat, None, side)["confusion"][0] == [healthy, 0]
