"""The first stage `predict` predicts for those that are still to come, and they take it only where nothing changed."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import recorded_study
import small
from conftest import Loaded, load

from xraylab import files
from xraylab.errors import MissingError, TrainingError
from xraylab.model import weights
from xraylab.predict import ahead
from xraylab.predict.checkpoints import TrainedModel
from xraylab.stages import predict

OTHER = ("l2", 0)


@pytest.fixture
def study(trained: Loaded, tmp_path: Path) -> Loaded:
    """Two trained runs, of which DVC has noted that they were trained, and the second's weights are other ones."""
    shutil.copytree(trained[1].root, tmp_path / "study")
    loaded = load(tmp_path / "study")
    shutil.copytree(loaded[1].model("baseline", 0), loaded[1].model(*OTHER))
    other = loaded[1].model(*OTHER) / "model.json"
    files.write_json(files.read_json(other) | {"experiment": "l2"}, other)
    note(loaded, baseline=None, l2=None)
    return loaded


def note(study: Loaded, **predicted_from: str | None) -> None:
    """A dvc.lock in which each run is trained to weights `new`, and predicted from those named, if from any."""
    stages = {}
    for name, used in predicted_from.items():
        stages[f"train@{name}-0"] = {"outs": [{"path": f"models/{name}/0", "md5": md5("new")}]}
        if used:
            stages[f"predict@{name}-0"] = {"deps": [{"path": f"models/{name}/0", "md5": md5(used)}]}
    files.write_yaml({"schema": "2.0", "stages": stages}, study[1].lock)


def md5(word: str) -> str:
    return hashlib.md5(word.encode(), usedforsecurity=False).hexdigest()


def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are scored from here on."""
    scored, real = list[str](), TrainedModel.predict_cached

    def counted(run: TrainedModel, *arguments: Any) -> object:
        scored.append(run.folder.parent.name)
        return real(run, *arguments)

    monkeypatch.setattr(TrainedModel, "predict_cached", counted)
    return scored


def test_the_second_stage_takes_what_the_first_one_made(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    scored, paths = count(monkeypatch), study[1]
    predict.run(*study, *OTHER)
    alone = paths.prediction(*OTHER).read_bytes()
    paths.prediction(*OTHER).unlink()
    shutil.rmtree(paths.predicted_ahead)
    scored.clear()
    predict.run(*study, "baseline", 0)
    predict.run(*study, *OTHER)
    assert scored == ["baseline", "l2"]
    assert paths.prediction(*OTHER).read_bytes() == alone
    assert list(paths.predicted_ahead.iterdir()) == []


@pytest.mark.parametrize("used", ["new", "old", None])
def test_only_what_dvc_will_run_again_is_made_ahead(
    used: str | None, study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = count(monkeypatch)
    note(study, baseline="old", l2=used)
    predict.run(*study, "baseline", 0)
    assert scored == ["baseline", *([] if used == "new" else ["l2"])]


@pytest.mark.parametrize("what", ["weights", "split", "cache", "params", "model"])
def test_what_was_made_ahead_from_something_else_is_not_taken(
    what: str, study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict.run(*study, "baseline", 0)
    note(study, baseline="new", l2=None)
    scored, (given, paths) = count(monkeypatch), study
    folder = paths.model(*OTHER)
    match what:
        case "weights":
            weights.save(
                TrainedModel(folder, files.read_json(folder / "model.json")).untrained(seed=1),
                folder / "best.safetensors",
            )
        case "split":
            (paths.split / "test_data.csv").write_text((paths.split / "test_data.csv").read_text().rstrip() + "\n\n")
        case "cache":
            (paths.cache / "images.npy").touch()
        case "params":
            small.edit(paths.root, lambda tree: tree["predict"].update(tta=1))
            small.edit(paths.root, lambda tree: tree["augment"].update(degrees=5.0))
            given, _ = load(paths.root)
        case "model":
            files.write_json(files.read_json(folder / "model.json") | {"note": 1}, folder / "model.json")
    predict.run(given, paths, *OTHER)
    assert scored == ["l2"]
    assert list(paths.predicted_ahead.iterdir()) == []


def test_what_was_damaged_since_is_predicted_again(
    study: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.run(*study, "baseline", 0)
    note(study, baseline="new", l2=None)
    (made,) = study[1].predicted_ahead.glob("*.csv")
    alone = made.read_bytes()
    recorded_study.flip(made)
    scored = count(monkeypatch)
    predict.run(*study, *OTHER)
    assert scored == ["l2"]
    assert f"{made} is damaged, or was not written whole, and is made anew\n" in capsys.readouterr().err
    assert study[1].prediction(*OTHER).read_bytes() == alone
    assert list(study[1].predicted_ahead.iterdir()) == []


def test_what_cannot_be_predicted_ahead_is_left_to_its_own_stage(
    study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainedModel.predict_cached

    def fails(run: TrainedModel, *arguments: Any) -> object:
        if run.folder.parent.name == "l2":
            raise TrainingError("memory ran out")
        return real(run, *arguments)

    monkeypatch.setattr(TrainedModel, "predict_cached", fails)
    predict.run(*study, "baseline", 0)
    assert study[1].prediction("baseline", 0).is_file()
    with pytest.raises(TrainingError):
        predict.run(*study, *OTHER)


def test_a_run_without_weights_is_named(study: Loaded) -> None:
    shutil.rmtree(study[1].model(*OTHER))
    with pytest.raises(MissingError, match=r"models/l2/0/model\.json does not exist"):
        predict.run(*study, *OTHER)
    predict.run(*study, "baseline", 0)
    assert not ahead.take(study[1].predicted_ahead / "l2-0-none.csv", study[1].prediction(*OTHER))
