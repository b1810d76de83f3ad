"""Several processes that train one network come to what one does with the same batches, whatever else is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
import tiny
import torch
from conftest import Loaded, load
from processes import together
from runs import kill_after
from safetensors.torch import load_file

from xraylab import files, tables
from xraylab.errors import TrainingError
from xraylab.model import compiling, networks
from xraylab.stages import cache, configure, fetch, index, source, split, train

WAYS: dict[str, dict[str, Any]] = {
    "weighted": {
        "train": {
            "optimizer": "adam",
            "lr": 1e-3,
            "grad_accum": 2,
            "grad_clip": 0.5,
            "swa_epochs": 2,
            "soup_epochs": 2,
        },
        "loss": {"class_weights": "balanced", "l2": 0.01},
        "augment": {"mixup_alpha": 0.4, "degrees": 10.0},
    },
    "focal": {
        "train": {"batch_size": 13, "ema_decay": 0.8},
        "sampling": {"strategy": "weighted"},
        "loss": {"name": "focal", "focal_gamma": 2.0, "class_weights": [1.0, 4.0]},
        "augment": {"cutmix_alpha": 1.0},
    },
    "sources": {
        "train": {"batch_size": 12},
        "sampling": {"strategy": "source_balanced"},
        "loss": {"group_dro_step": 0.5, "coral_weight": 1.0},
    },
    "phases": {
        "train": {
            "phases": [{"frozen": True, "epochs": 1}, {"epochs": 3, "lr": 1e-12}],
            "early_stop_patience": 1,
            "batch_size": 9,
        },
    },
    "cached": {
        "model": {"freeze": {"until": "layer3", "cache": True}},
        "train": {"batch_size": 16, "grad_accum": 2},
        "loss": {"label_smoothing": 0.1},
    },
    "apart": {"train": {"sync_bn": False, "ema_decay": 0.5}, "model": {"dropout": 0.5}},
    "half": {"train": {"precision": "float16", "grad_accum": 2, "grad_clip": 0.5}},
    "recomputed": {
        "model": {"arch": "resnet34", "pretrained": "none"},
        "train": {"grad_checkpointing": True, "epochs": 1, "batch_size": 32, "lr": 1e-3, "ema_decay": 0.5},
    },
    "plain": {"train": {"batch_size": 13, "grad_accum": 2, "ema_decay": 0.5}},
    "compiled": {"train": {"compile": True, "batch_size": 13, "grad_accum": 2, "ema_decay": 0.5}},
    "compiled_apart": {"train": {"compile": True, "sync_bn": False, "epochs": 1}},
    "found": {"train": {"lr": "find", "epochs": 1, "batch_size": 16}},
}
SAME = {"weighted": 1e-5, "focal": 1e-5, "sources": 1e-5, "phases": 1e-5, "cached": 1e-5, "half": 1e-2}  # tolerances


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """One study of which every way is an experiment, up to the stage `configure`."""
    folder = tmp_path_factory.mktemp("devices")
    images = small.two_classes(folder / "images", healthy=40, tb=20)
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    tables.write(pd.DataFrame({"image": names, "hospital": ["Anna", "Mercy", "Mercy"] * 20}), images / "list.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        # sgd, since adam makes steps of the rounding errors of a bias before a batch norm, whose gradient is 0
        tree["train"].update(epochs=2, devices=2, optimizer="sgd", lr=0.05)
        tree["study"]["baseline"] = "weighted"
        tree["experiments"] = WAYS

    root = small.study(folder / "study", small.use(images, ["Healthy", "TB"], "TB"))
    small.edit(root, change)
    loaded = load(root)
    for stage in (source, fetch, index, split, cache, configure):
        stage.run(*loaded)
    return loaded


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of torch's compiler all but the code in C++, so that it computes the same bits."""
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
    monkeypatch.setattr(compiling, "FOR_TRAINING", {**compiling.FOR_TRAINING, "options": None, "backend": "aot_eager"})


def alone(study: Loaded, way: str) -> Path:
    """What one process comes to."""
    train.train(*study, way, 0)
    return study[1].model(way, 0)


def shared(study: Loaded, way: str, number: int = 2) -> Path:
    """What several come to, in the very place of what one did."""
    together(number, lambda: train.train(*study, way, 0))
    return study[1].model(way, 0)


def weights(folder: Path, name: str = "last") -> dict[str, np.ndarray]:
    return {key: tensor.double().numpy() for key, tensor in load_file(folder / f"{name}.safetensors").items()}


def outcome(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}


@pytest.mark.parametrize(
    ("way", "tolerance"), [*SAME.items(), pytest.param("recomputed", 2e-3, marks=pytest.mark.slow)]
)
def test_two_processes_have_the_loss_curve_and_weights_of_one(way: str, tolerance: float, study: Loaded) -> None:
    folder = alone(study, way)
    one, weights_of_one = tables.read(folder / "history.csv"), weights(folder)
    folder = shared(study, way)
    pd.testing.assert_frame_equal(tables.read(folder / "history.csv"), one, rtol=tolerance)
    for name, tensor in weights(folder).items():
        np.testing.assert_allclose(tensor, weights_of_one[name], rtol=tolerance, atol=tolerance, err_msg=name)
    assert files.read_json(folder / "model.json")["hardware"]["devices"] == 2


def test_three_processes_share_batches_that_do_not_divide(study: Loaded) -> None:
    """Batches of 13 are 4, 4 and 5 images, and the last one, of fewer than 6, is computed by each of them."""
    one = tables.read(alone(study, "focal") / "history.csv")
    assert len(tables.read(study[1].split_of(0) / "train_data.csv")) % 13 == 2
    pd.testing.assert_frame_equal(tables.read(shared(study, "focal", 3) / "history.csv"), one, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_find_the_learning_rate_on_the_curve_of_one(study: Loaded) -> None:
    one = tables.read(alone(study, "found") / "lr_find.csv")
    curve = tables.read(shared(study, "found") / "lr_find.csv")
    low = one["lr"] < 1e-3  # from where on the losses leap, and rounding errors with them
    assert low.sum() > 40
    pd.testing.assert_frame_equal(curve[: len(one)][low], one[low], rtol=1e-3)


def compiled_pieces(study: Loaded, way: str) -> list[int]:
    """Of how many graphs each of two processes has trained the compiled network."""
    torch._dynamo.utils.counters.clear()

    def pieces() -> int:
        train.train(*study, way, 0)
        return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    return together(2, pieces)


def test_two_compiled_processes_come_to_the_same_bits_twice(study: Loaded) -> None:
    """In one piece, or in pieces between which batch norms sum over the processes."""
    one = weights(alone(study, "plain"))  # first, since torch allows no forks once a compiler began with autograd
    assert min(compiled_pieces(study, "compiled")) > 1
    folder = study[1].model("compiled", 0)
    whole = outcome(folder)
    compiled_pieces(study, "compiled")
    assert outcome(folder) == whole
    for name, tensor in weights(folder).items():
        np.testing.assert_allclose(tensor, one[name], rtol=1e-5, atol=1e-5, err_msg=name)
    assert compiled_pieces(study, "compiled_apart") == [1, 1]


def test_a_killed_run_of_two_goes_on_to_the_same_bits(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcome(shared(study, "apart"))
    for epoch in (-1, 0):
        with monkeypatch.context() as patched, pytest.raises(AssertionError, match="Killed"):
            kill_after(epoch, patched)
            shared(study, "apart")
    assert outcome(shared(study, "apart")) == whole


def test_another_number_of_devices_is_refused(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="Killed"):
        kill_after(0, patched)
        shared(study, "weighted")
    (left,) = (study[1].state / "runs").glob("weighted-0-*/")
    with pytest.raises(TrainingError) as refusal:
        alone(study, "weighted")
    assert str(refusal.value) == (
        "weighted-0 was interrupted on 2 devices, and would go on to other bits on 1 device: set train.devices to 2 to "
        f"go on, or delete .xraylab/runs/{left.name} to begin anew"
    )
    shared(study, "weighted")
    alone(study, "weighted")
