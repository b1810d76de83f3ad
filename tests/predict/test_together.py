"""Predictions of several views and of several runs, taken together."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import finished_study
import numpy as np
import pandas as pd
import pytest
import small
import tiny
import torch

from xraylab import tables
from xraylab.data import augment
from xraylab.data.image_cache import IMAGENET, ImageCache
from xraylab.errors import DataError, MissingError, ParamsError
from xraylab.evaluate.config import EvalConfig
from xraylab.evaluate.scores import score_ensemble
from xraylab.model import networks, weights
from xraylab.params import config
from xraylab.predict.checkpoints import TrainedModel

CLASSES = ["Healthy", "TB"]
STILL: dict[str, Any] = {
    "degrees": 0.0, "translate": 0.0, "scale": [1.0, 1.0], "shear": 0.0, "p_hflip": 0.0, "p_vflip": 0.0,
    "crop_scale": 1.0, "brightness": 0.0, "sharpness_factor": 1.2, "p_sharpness": 0.0, "contrast": 0.0,
    "noise_std": 0.0, "p_erase": 0.0, "gamma": 0.0, "p_histogram_matching": 0.0, "p_blur": 0.0, "blur_sigma": 1.0,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A network as a finished run keeps it, and the cache that it looks at."""
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
    torch.manual_seed(0)
    weights.save(networks.build("resnet18", 2, 1, 0.0), tmp_path / "best.safetensors")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (7, 32, 32), np.uint8))
    tables.write(pd.DataFrame({"id": [f"{number}.png" for number in range(7)]}), tmp_path / "rows.csv")
    return {
        "experiment": "x", "repeat": 3, "arch": "resnet18", "classes": CLASSES, "channels": 1, "img_size": 32,
        "dropout": 0.0, "best_epoch": 0, "last_epoch": 0, "kept_epochs": [0], "multiply_adds": 1000,
        "task": "single-label", "hardware": {"precision": "float32"}, "augment": STILL, "head": asdict(networks.LINEAR),
        "normalise": asdict(IMAGENET[1]),
    }  # fmt: skip


def predicted(folder: Path, model: dict[str, Any], copies: int) -> tuple[np.ndarray, list[str]]:
    images = pd.DataFrame({"id": ["4.png", "0.png", "6.png"], "label": "TB"})
    (scored,), notes = TrainedModel(folder, model).predict_cached([0], images, folder, copies)
    return scored[["p_Healthy", "p_TB"]].to_numpy(), notes


def test_findings_are_predicted_each_by_itself(tmp_path: Path, model: dict[str, Any]) -> None:
    one_of_two, _ = predicted(tmp_path, model, copies=0)
    findings, _ = predicted(tmp_path, model | {"task": "multi-label"}, copies=0)
    odds = findings / (1 - findings)  # of a sigmoid, the exponential of the logit
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), one_of_two, rtol=1e-5)
    assert np.abs(findings.sum(axis=1) - 1).min() > 1e-3


def test_views_of_an_image_are_those_of_training_and_their_mean_counts(tmp_path: Path, model: dict[str, Any]) -> None:
    model["augment"] = STILL | {"degrees": 20.0, "contrast": 0.5, "noise_std": 0.3, "p_erase": 1.0}
    ours, notes = predicted(tmp_path, model, copies=2)
    again, _ = predicted(tmp_path, model, copies=2)
    assert np.array_equal(ours, again)
    assert notes[-1] == "mean over 3 views"
    network = networks.build("resnet18", 2, 1, 0.0)
    weights.restore(network.eval(), tmp_path / "best.safetensors")
    rows, gentle = (
        np.array([4, 0, 6]),
        augment.Augmentation.recorded(model["augment"] | {"noise_std": 0.0, "p_erase": 0.0}),
    )
    store = ImageCache(np.load(tmp_path / "images.npy"), IMAGENET[1], 32, "cpu")
    views = [store.of(rows)]
    for copy in range(2):
        drawn = gentle.draw(augment.uniform([3, copy, augment.TTA_STREAM], 3))
        views.append(store.augment(rows, drawn, gentle))
    with torch.no_grad():
        expected = torch.stack([network(view).softmax(dim=1) for view in views]).mean(dim=0)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_without_augmentation_there_is_one_view(tmp_path: Path, model: dict[str, Any]) -> None:
    one, notes = predicted(tmp_path, model, copies=3)
    plain, _ = predicted(tmp_path, model, copies=0)
    assert np.array_equal(one, plain)
    assert not [note for note in notes if "views" in note]


def test_views_that_would_all_be_alike_are_refused(tmp_path: Path) -> None:
    def ask(tree: small.Tree) -> None:
        tree["predict"]["tta"] = 4
        del tree["experiments"]["sharpness"], tree["experiments"]["contrast"]

    with pytest.raises(ParamsError) as caught:
        config.read(small.study(tmp_path, ask) / "params.yaml")
    assert caught.value.problems == (
        "predict.tta: no experiment's augmentation changes a copy (noise, erasing, histogram matching, mixup and "
        "cutmix are left out of them), so all would be alike: set it to 0",
    )


def test_an_ensemble_is_the_mean_of_its_runs(tmp_path: Path) -> None:
    given, paths = finished_study.make(tmp_path, {"study": {"repeats": [0, 1]}})
    metrics = score_ensemble(paths, ["baseline", "l2/1", "baseline/0"], EvalConfig.from_params(given), "best", "valid")
    runs = [tables.read(paths.prediction(*run)) for run in [("baseline", 0), ("baseline", 1), ("l2", 1)]]
    parts = [run[(run["checkpoint"] == "best") & (run["split"] == "valid")] for run in runs]
    mean = sum(part["p_TB"].to_numpy() for part in parts) / 3
    actual = (parts[0]["label"] == "TB").to_numpy()
    assert (metrics["runs"], metrics["n"]) == (3, 16)
    assert metrics["accuracy"] == ((mean > 0.5) == actual).mean()


def test_runs_that_cannot_be_taken_together_are_named(tmp_path: Path) -> None:
    given, paths = finished_study.make(
        tmp_path, {"study": {"repeats": [0, 1]}, "split": {"strategy": "folds", "folds": 2, "test_pct": None}}
    )
    with pytest.raises(DataError) as caught:
        score_ensemble(paths, ["baseline"], EvalConfig.from_params(given), "best", "test")
    assert str(caught.value) == (
        "baseline/0 and baseline/1 predict other test images, as runs of different folds do: name runs of one fold"
    )
    with pytest.raises(MissingError) as absent:
        score_ensemble(paths, ["dropout/0"], EvalConfig.from_params(given), "best", "test")
    assert str(absent.value) == (
        "dropout/0 has no predictions: `dvc repro` makes those of the experiments in params.yaml"
    )
