"""Every way of training: what it does to a run, and that stopping it after any epoch changes nothing."""

import shutil
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
import tiny
import torch
from conftest import Loaded, load
from runs import Killed, kill_after
from safetensors.torch import load_file

from xraylab import files, tables
from xraylab.errors import TrainingError
from xraylab.model import networks
from xraylab.predict import checkpoints
from xraylab.stages import cache, configure, fetch, index, source, split, train
from xraylab.train import averaging, callbacks, lr_find

PHASES = [
    {"schedule": "constant", "optimizer": "sgd", "momentum": 0.9, "epochs": 2, "lr": 0.01},
    {"schedule": "plateau", "patience_epochs": 1, "decay_rate": 0.5, "epochs": 3},
]
WAYS: dict[str, dict[str, Any]] = {
    "flat_cos": {"train": {"schedule": "flat_cos", "pct_start": 0.5, "grad_clip": 0.5}},
    "restarts": {"train": {"schedule": "cosine_restarts", "cycle_len": 1, "cycle_mult": 2, "optimizer": "adafactor"}},
    "step": {"train": {"schedule": "step", "decay_epochs": 2, "decay_rate": 0.1, "optimizer": "ranger"}},
    "sgd_then_adam": {"train": {"phases": PHASES, "soup_epochs": 2}, "sampling": {"strategy": "stratified"}},
    "head_first": {
        "train": {"phases": [{"frozen": True, "epochs": 2}, {"epochs": 2, "optimizer": "lamb"}], "swa_epochs": 2}
    },
    "ema": {"train": {"ema_decay": 0.9, "grad_accum": 2}, "augment": {"mixup_alpha": 0.4}},
    "rmsprop": {
        "train": {"optimizer": "rmsprop", "momentum": 0.5, "ema_decay": 0.8, "soup_epochs": 2, "swa_epochs": 3},
        "augment": {"cutmix_alpha": 1.0, "degrees": 10.0},
        "sampling": {"strategy": "weighted"},
        "loss": {"name": "focal", "focal_gamma": 2.0, "class_weights": "balanced"},
    },
    "found": {
        "train": {"lr": "find", "batch_size": 2, "grad_accum": 3},
        "sampling": {"strategy": "downsample"},
        "loss": {"label_smoothing": 0.1},
    },
    "sources": {
        "train": {"lr": "find", "batch_size": 12, "ema_decay": 0.5},
        "sampling": {"strategy": "source_balanced"},
        "loss": {"group_dro_step": 0.5, "coral_weight": 1.0},
    },
}
OTHERS: dict[str, dict[str, Any]] = {
    "float16": {
        "train": {
            "precision": "float16",
            "lr": "find",
            "batch_size": 4,
            "ema_decay": 0.5,
            "grad_accum": 2,
            "grad_clip": 0.5,
        },
        "loss": {"l2": 0.01},
    },
    "cached": {
        "model": {"freeze": {"until": "layer3", "cache": True}},
        "train": {"grad_accum": 2, "soup_epochs": 2},
        "sampling": {"strategy": "weighted"},
    },
    "cached_find": {"model": {"freeze": {"until": "head", "cache": True}}, "train": {"lr": "find", "ema_decay": 0.5}},
    "head_last": {"train": {"phases": [{"epochs": 1}, {"frozen": True, "epochs": 2}], "swa_epochs": 2}},
    "plain": {},
    "twice": {"train": {"batch_size": 4, "grad_accum": 2}},
    "patient": {"train": {"epochs": 9, "lr": 1e-12, "schedule": "constant", "early_stop_patience": 2, "min_epochs": 1}},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """One study of which every way is an experiment, up to the stage `configure`."""
    folder = tmp_path_factory.mktemp("ways")
    images = small.two_classes(folder / "images", healthy=24, tb=12)
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    tables.write(pd.DataFrame({"image": names, "hospital": ["Anna", "Mercy", "Mercy"] * 12}), images / "list.csv")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["train"]["epochs"] = 4
        tree["study"]["baseline"] = "plain"
        tree["experiments"] = {**WAYS, **OTHERS}

    root = small.study(folder / "study", small.use(images, ["Healthy", "TB"], "TB"))
    small.edit(root, change)
    loaded = load(root)
    for stage in (source, fetch, index, split, cache, configure):
        stage.run(*loaded)
    return loaded


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


def trained(study: Loaded, experiment: str) -> Path:
    """Where the finished run lies, which several tests look at."""
    folder = study[1].model(experiment, 0)
    if not folder.is_dir():
        train.run(*study, experiment, 0)
    return folder


def outcome(folder: Path) -> dict[str, object]:
    """All that a run wrote, but for its time."""
    facts = files.read_json(folder / "model.json")
    others = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}
    return {**others, "model.json": {name: fact for name, fact in facts.items() if name != "train_seconds"}}


def history(study: Loaded, experiment: str) -> pd.DataFrame:
    return tables.read(trained(study, experiment) / "history.csv")


@pytest.mark.parametrize("way", [*WAYS, "cached", "cached_find", "patient"])
def test_stopped_after_any_epochs_a_run_ends_in_the_same_bits(
    way: str, study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(study, way)
    whole = outcome(folder)
    epochs = len(tables.read(folder / "history.csv"))
    for epoch in range(-1, epochs - 1):  # before the first, within phases, between them, and before each average
        with monkeypatch.context() as patched, pytest.raises(Killed):
            kill_after(epoch, patched)
            train.run(*study, way, 0)
    train.run(*study, way, 0)
    assert outcome(folder) == whole


def test_a_gpu_that_is_lost_costs_the_epoch(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(study, "plain")
    whole = outcome(folder)

    def fail(self: callbacks.Reproducible) -> None:
        if self.dls.train.epoch == 2:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    with monkeypatch.context() as patched, pytest.raises(torch.AcceleratorError):
        patched.setattr(callbacks.Reproducible, "before_batch", fail, raising=False)
        train.run(*study, "plain", 0)
    train.run(*study, "plain", 0)
    assert outcome(folder) == whole


def test_a_stopped_run_goes_on_with_the_scale_of_its_loss(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """It doubles with every step and so overflows again and again: where it stands decides which steps are taken."""
    scales: list[float] = []

    class Growing(callbacks.GradScaler):
        def __init__(self, device: str) -> None:
            super().__init__(device, init_scale=2.0**10, growth_factor=16.0, growth_interval=1)

        def update(self, new_scale: float | None = None) -> None:
            super().update(new_scale)
            scales.append(self.get_scale())

    monkeypatch.setattr(callbacks, "GradScaler", Growing)
    folder = trained(study, "float16")
    whole = outcome(folder)
    assert any(after < before for before, after in pairwise(scales))
    for epoch in range(-1, 3):  # also between the rate finder and the first epoch
        with monkeypatch.context() as patched, pytest.raises(Killed):
            kill_after(epoch, patched)
            train.run(*study, "float16", 0)
    train.run(*study, "float16", 0)
    assert outcome(folder) == whole


def test_phases_follow_each_other_with_optimizers_and_rates_of_their_own(study: Loaded) -> None:
    table = history(study, "sgd_then_adam")
    assert list(table["phase"]) == ["constant", "constant", "plateau", "plateau", "plateau", "soup"]
    assert list(table["lr"].drop(4)) == [0.01, 0.01, 1e-3, 1e-3, 0]
    assert table["lr"][4] == (1e-3 if table["valid_loss"][3] < table["valid_loss"][2] else 5e-4)
    assert list(history(study, "head_first")["phase"]) == ["one_cycle"] * 4 + ["swa"]
    assert list(history(study, "step")["lr"]) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_an_average_is_one_more_epoch_that_may_be_the_best(study: Loaded) -> None:
    folder = trained(study, "rmsprop")
    model = files.read_json(folder / "model.json")
    table = tables.read(folder / "history.csv")
    assert list(table["phase"][4:]) == ["soup", "swa"]
    two_best = sorted(table[:4].sort_values("valid_f1", ascending=False, kind="stable")["epoch"][:2])
    assert model["averaged"] == {"soup": {"epoch": 4, "of": two_best}, "swa": {"epoch": 5, "of": [1, 2, 3]}}
    assert model["last_epoch"] == 3
    assert model["best_epoch"] == int(table["valid_f1"].idxmax())
    assert set(model["kept_epochs"]) == {3, 4, 5, model["best_epoch"]}
    for epoch in (4, 5):
        scored = checkpoints.evaluate_checkpoint(study[1], "rmsprop", 0, epoch, "valid")
        assert scored["f1"] == table["valid_f1"][epoch]


def test_an_average_holds_the_mean_weights_and_statistics_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    states = [networks.build("resnet18", 2, 1, 0.0).state_dict() for _ in range(3)]
    for number, state in enumerate(states):
        state["bn1.num_batches_tracked"] += number
        torch.save(state, tmp_path / f"{number}.pth")
    mean = averaging.mean([tmp_path / f"{number}.pth" for number in range(3)])
    expected = (states[0]["fc.1.weight"] + states[1]["fc.1.weight"] + states[2]["fc.1.weight"]) / 3
    torch.testing.assert_close(mean["fc.1.weight"], expected)
    assert mean["bn1.num_batches_tracked"] == 0
    same = averaging.mean([tmp_path / "1.pth"] * 3)
    assert all(torch.equal(same[name], states[1][name]) for name in same)


def test_an_average_of_epochs_that_trained_the_head_alone_leaves_the_rest_as_it_is(study: Loaded) -> None:
    folder = trained(study, "head_last")
    last, average = (load_file(folder / f"{name}.safetensors") for name in ("last", "epoch-003"))
    assert {name.split(".")[0] for name in last if not torch.equal(last[name], average[name])} == {"fc"}


def test_an_average_has_statistics_of_its_own(study: Loaded) -> None:
    """Those of one pass: its batches are counted anew."""
    folder = trained(study, "rmsprop")
    assert load_file(folder / "epoch-005.safetensors")["bn1.num_batches_tracked"] == 3
    assert load_file(folder / "last.safetensors")["bn1.num_batches_tracked"] > 3


def test_the_head_alone_trains_in_a_frozen_phase(study: Loaded) -> None:
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        kill_after(1, patched)
        train.run(*study, "head_first", 0)
    (resumable,) = (study[1].state / "runs").glob("head_first-0-*/state-001.pt")
    state = torch.load(resumable, weights_only=True)["model"]
    start = load_file(study[1].root.parent / "start.safetensors")
    moved = {
        name.split(".")[0] for name in state if not torch.equal(state[name].cpu(), start.get(name, torch.zeros(0)))
    }
    assert moved == {"fc"}


def test_two_batches_a_step_are_one_batch_of_twice_the_size(study: Loaded) -> None:
    """But for batch norm, which sees each batch alone: so on what a frozen body hands to a linear head."""
    root = study[1].root
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "sha256", lambda path: "same")  # the configs below are made by hand
        for name, (size, together) in {"twice": (4, 2), "plain": (8, 1)}.items():
            made = files.read_yaml(study[1].config(name))
            made["model"]["freeze"] |= {"until": "head", "cache": False}
            made["train"] |= {"batch_size": size, "grad_accum": together, "schedule": "constant", "lr": 0.01}
            made["pretrained_sha256"] = "same"
            files.write_yaml(made, study[1].config(name))
            train.run(*study, name, 0)
    configure.run(*study)
    ours, theirs = (load_file(root / f"models/{name}/0/last.safetensors") for name in ("twice", "plain"))
    for name in ("twice", "plain"):
        shutil.rmtree(root / "models" / name)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)


def test_a_run_stops_once_no_epoch_is_better(study: Loaded) -> None:
    """At a rate that changes nothing all epochs are equal: the second is the first that may be the best."""
    folder = trained(study, "patient")
    assert files.read_json(folder / "model.json")["best_epoch"] == 1
    assert len(tables.read(folder / "history.csv")) == 4


def test_a_moving_average_is_what_is_kept_and_scored(study: Loaded) -> None:
    table = history(study, "ema")
    model = files.read_json(study[1].model("ema", 0) / "model.json")
    scored = checkpoints.evaluate_checkpoint(study[1], "ema", 0, model["best_epoch"], "valid")
    assert scored["accuracy"] == table["valid_accuracy"][model["best_epoch"]]


def test_the_rate_that_was_found_is_the_one_that_is_used(study: Loaded) -> None:
    folder = trained(study, "found")
    found = files.read_json(folder / "model.json")["lr_found"]
    curve = tables.read(folder / "lr_find.csv")
    assert list(curve.columns) == ["lr", "loss"]
    np.testing.assert_allclose(curve["lr"], [1e-7 * 1e8 ** (n / 100) for n in range(len(curve))], rtol=1e-6)
    assert found == lr_find.suggestion(curve)
    assert found in set(curve["lr"])
    assert tables.read(folder / "history.csv")["lr"].max() <= found


def test_the_finder_can_be_asked_alone_and_leaves_nothing_behind(study: Loaded) -> None:
    """Its answer is the one that a run takes."""
    folder = trained(study, "found")
    kept = {path for path in study[1].root.rglob("*") if path.is_file()}
    curve, rate = train.find_rate(*study, "found", 0)
    assert {path for path in study[1].root.rglob("*") if path.is_file()} == kept
    pd.testing.assert_frame_equal(curve, tables.read(folder / "lr_find.csv"))
    assert rate == files.read_json(folder / "model.json")["lr_found"]


def test_no_rate_is_found_where_the_loss_never_falls() -> None:
    curve = pd.DataFrame({"lr": np.geomspace(1e-7, 10, 100), "loss": np.linspace(1, 3, 100)})
    with pytest.raises(TrainingError) as caught:
        lr_find.suggestion(curve)
    assert str(caught.value) == (
        "train.lr: find saw no rate at which the loss falls: set train.lr to a number (1e-3 is a good first try)"
    )


def test_memory_that_runs_out_says_what_to_set(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: tiny.Tiny, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(tiny.Tiny, "forward", refuse)
    with pytest.raises(TrainingError) as caught:
        train.run(*study, "plain", 0)
    assert str(caught.value) == (
        "memory ran out with train.batch_size 8: set it to 4, and train.grad_accum to 2, which takes the same steps"
    )


def test_a_tracker_that_is_absent_or_unknown_is_named(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XRAYLAB_TRACKERS", "tensorbord")
    with pytest.raises(TrainingError, match=r"^XRAYLAB_TRACKERS names 'tensorbord'; there is tensorboard, wandb$"):
        train.run(*study, "plain", 0)
    monkeypatch.setenv("XRAYLAB_TRACKERS", "wandb")
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    with pytest.raises(TrainingError) as caught:
        train.run(*study, "plain", 0)
    assert str(caught.value) == (
        "XRAYLAB_TRACKERS asks for wandb, which cannot be imported (import of wandb halted; None in sys.modules): "
        "pip install 'xraylab[wandb]', or pip install wandb"
    )


def test_tensorboard_shows_the_history_and_changes_nothing(study: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, log_dir: Path) -> None:
            assert log_dir == study[1].state / "tensorboard/sgd_then_adam-0"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            shown.append((name, float(value), step))

        def close(self) -> None:
            pass

    whole = outcome(trained(study, "sgd_then_adam"))
    monkeypatch.setenv("XRAYLAB_TRACKERS", "tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.delitem(sys.modules, "fastai.callback.tensorboard", raising=False)
    train.run(*study, "sgd_then_adam", 0)
    folder = trained(study, "sgd_then_adam")
    assert outcome(folder) == whole
    table = tables.read(folder / "history.csv")
    batches = 3  # of 8 images; the 25th is left out, since batch norm cannot be computed from it alone
    for name in ("valid_f1", "valid_loss"):
        points = [(value, step) for metric, value, step in shown if metric == name]
        assert [step for _, step in points] == [batches * epoch for epoch in range(1, 7)]
        np.testing.assert_allclose([value for value, _ in points], table[name], rtol=1e-5)
