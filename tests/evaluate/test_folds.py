"""With folds, each repeat trains on, predicts and scores its own: looked at without training a network."""

from collections.abc import Sequence
from pathlib import Path

import finished_study
import numpy as np
import pandas as pd
import pytest

from xraylab import tables
from xraylab.params.config import Params
from xraylab.paths import Paths
from xraylab.predict import checkpoints
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import predict
from xraylab.train.learner import dataloaders
from xraylab.train.run import TrainingRun

FOLDS = {
    "split": {"strategy": "folds", "folds": 3, "test_pct": None},
    "study": {"repeats": [0, 1, 2, 4]},
    "images": {"size": 24},
    "model": {"img_size": 24},
}


@pytest.fixture
def study(tmp_path: Path) -> tuple[Params, Paths]:
    return finished_study.make(tmp_path, FOLDS)


def ids(paths: Paths, fold: int, split: str) -> list[str]:
    return list(tables.read(paths.split / f"fold-{fold}/{split}_data.csv")["id"])


def trained_on(study: tuple[Params, Paths], repeat: int) -> tuple[list[str], str]:
    """The ids that a run trains on, and the name of its folder, which stands for all that it reads."""
    run = TrainingRun.load(*study, "l2", repeat)
    train_ds = dataloaders(run).train_ds
    cached = tables.read(study[1].cache / "rows.csv")["id"]
    assert list(cached.iloc[train_ds.rows]) == list(train_ds.items["id"])
    return list(train_ds.items["id"]), run.state(train_ds.inputs).folder.name


@pytest.mark.parametrize(("repeat", "fold"), [(0, 0), (2, 2), (4, 1)])
def test_a_repeat_trains_on_its_fold_and_is_anothers_run_when_that_changes(
    repeat: int, fold: int, study: tuple[Params, Paths]
) -> None:
    _, paths = study
    seen, name = trained_on(study, repeat)
    assert seen == ids(paths, fold, "train")
    other, own = (paths.split / f"fold-{number}/valid_data.csv" for number in ((fold + 1) % 3, fold))
    tables.write(tables.read(other).iloc[1:], other)
    assert trained_on(study, repeat)[1] == name
    tables.write(tables.read(own).iloc[1:], own)
    assert trained_on(study, repeat)[1] != name


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
    for split in ("valid", "test"):
        part = written[(written["checkpoint"] == "best") & (written["split"] == split)]
        assert list(part["id"]) == ids(paths, fold, split)
        healthy = sum(name.startswith("Healthy/") for name in ids(paths, fold, split))
        assert checkpoints.evaluate_checkpoint(paths, "l2", repeat, None, split)["confusion"][0] == [healthy, 0]
