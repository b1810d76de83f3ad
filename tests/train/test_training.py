"""A training run: what it learns, what it writes, and that stopping it changes nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import small
import tiny
import torch
from conftest import Loaded, load
from runs import Killed, kill_after, model_json, outcome
from safetensors.torch import load_file

from xraylab import files, tables
from xraylab.errors import DataError, TrainingError, WeightsError
from xraylab.model import networks, weights
from xraylab.model.schedules import Plateau
from xraylab.predict import checkpoints
from xraylab.stages import configure, predict, train
from xraylab.train import state
from xraylab.train.state import CheckpointPolicy, TrainingState

Prepare = Callable[..., Loaded]


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


EVERYTHING = {
    "one_cycle": lambda tree: tree["train"].update(epochs=4),
    "fine_tune": lambda tree: (
        tree["train"].update(schedule="fine_tune", epochs=2, freeze_epochs=2, lr_mult=10),
        tiny.pretrained(Path(tree["data"]["source"]).with_suffix(".safetensors"))(tree),
    ),
    "sgd": lambda tree: (
        tree["train"].update(epochs=4, optimizer="sgd", momentum=0.9, schedule="constant", checkpoints="all"),
        tree["model"].update(dropout=0.5),
        tree["augment"].update(p_sharpness=0.5, contrast=0.3),
        tree["loss"].update(l2=0.01, class_weights="balanced"),
    ),
    "bfloat16": lambda tree: tree["train"].update(epochs=4, optimizer="adamw", precision="bfloat16"),
}


@pytest.mark.parametrize("case", EVERYTHING)
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    case: str, epoch: int, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared(EVERYTHING[case])
    train.run(*loaded, "baseline", 0)
    whole = outcome(loaded)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(epoch, patched)
        train.run(*loaded, "baseline", 0)
    assert outcome(loaded) == whole  # the finished run still stands
    (resumable,) = (path for path in (loaded[1].state / "runs").iterdir() if path.is_dir())
    assert len(torch.load(resumable / f"state-{epoch:03d}.pt", weights_only=True)["rows"]) == epoch + 1
    train.run(*loaded, "baseline", 0)
    assert outcome(loaded) == whole
    assert not [path for path in (loaded[1].state / "runs").iterdir() if path.is_dir()]


def test_a_stopped_run_does_not_go_on_under_other_parameters(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(0, patched)
        train.run(*loaded, "baseline", 0)
    small.edit(loaded[1].root, lambda tree: tree["train"].update(lr=0.01))
    changed = load(loaded[1].root)
    configure.run(*changed)
    train.run(*changed, "baseline", 0)
    resumed = outcome(changed)
    for folder in (changed[1].state / "runs").iterdir():
        assert folder.suffix == ".lock" or (folder / state.MANIFEST).exists()
    train.run(*changed, "baseline", 0)
    assert outcome(changed) == resumed


def test_the_seed_is_the_repeat(prepared: Prepare) -> None:
    loaded = prepared(lambda tree: tree["study"].update(repeats=[0, 1]))
    for repeat in (0, 1):
        train.run(*loaded, "baseline", repeat)
    assert outcome(loaded, repeat=0)["last.safetensors"] != outcome(loaded, repeat=1)["last.safetensors"]


def test_frozen_epochs_train_the_head_alone(prepared: Prepare) -> None:
    def tune(tree: small.Tree) -> None:
        tree["train"].update(schedule="fine_tune", epochs=1, freeze_epochs=1, lr_mult=100, checkpoints="all")
        tree["model"].update(pretrained="start.safetensors")

    loaded = prepared(lambda tree: None)
    train.run(*loaded, "baseline", 0)
    start = loaded[1].model("baseline", 0) / "last.safetensors"
    (loaded[1].root / "start.safetensors").write_bytes(start.read_bytes())
    assert weights.classes_of(loaded[1].root / "start.safetensors") == ["Healthy", "TB"]
    small.edit(loaded[1].root, tune)
    loaded = load(loaded[1].root)
    configure.run(*loaded)
    train.run(*loaded, "baseline", 0)
    begun = load_file(loaded[1].root / "start.safetensors")
    frozen, unfrozen = (load_file(loaded[1].model("baseline", 0) / f"epoch-00{n}.safetensors") for n in (0, 1))
    assert {name for name in begun if not torch.equal(begun[name], frozen[name])} == {"fc.1.weight", "fc.1.bias"}
    assert not torch.equal(frozen["conv1.weight"], unfrozen["conv1.weight"])
    moved = {part: (unfrozen[part] - frozen[part]).abs().mean().item() for part in ("conv1.weight", "fc.1.weight")}
    assert (
        moved["conv1.weight"] < moved["fc.1.weight"] / 10
    )  # discriminative rates: a hundredth, and Adam's steps are alike


def test_learning_separates_what_can_be_separated(prepared: Prepare) -> None:
    loaded = prepared(lambda tree: tree["train"].update(epochs=6, lr=3e-3))
    train.run(*loaded, "baseline", 0)
    history = tables.read(loaded[1].model("baseline", 0) / "history.csv")
    assert list(history.columns) == [
        "epoch", "phase", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "valid_f1",
    ]  # fmt: skip
    assert list(history["epoch"]) == [0, 1, 2, 3, 4, 5]
    assert history["valid_f1"].max() == 1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_the_history_is_what_the_kept_weights_give(prepared: Prepare) -> None:
    """Any kept epoch can be scored later, and gives the metrics that were recorded for it."""
    loaded = prepared(lambda tree: tree["train"].update(checkpoints="all", epochs=3))
    train.run(*loaded, "baseline", 0)
    history = tables.read(loaded[1].model("baseline", 0) / "history.csv")
    for epoch in range(3):
        metrics = checkpoints.evaluate_checkpoint(loaded[1], "baseline", 0, epoch, "valid")
        assert metrics["accuracy"] == history["valid_accuracy"][epoch]
        assert metrics["f1"] == history["valid_f1"][epoch]
        assert metrics["images"] == 7
    metric = files.read_json(loaded[1].root / "metrics/baseline/0.json")
    assert metric == {"baseline-0": {"f1": pytest.approx(history["valid_f1"].max(), abs=1e-6)}}


def test_best_and_last_are_kept_and_other_epochs_are_not(prepared: Prepare) -> None:
    loaded = prepared(lambda tree: tree["train"].update(epochs=4))
    train.run(*loaded, "baseline", 0)
    model = model_json(loaded)
    assert model["kept_epochs"] == sorted({model["best_epoch"], 3})
    assert set(outcome(loaded)) == {"best.safetensors", "last.safetensors", "history.csv"}
    lost = next(epoch for epoch in range(4) if epoch not in model["kept_epochs"])
    with pytest.raises(WeightsError) as caught:
        checkpoints.evaluate_checkpoint(loaded[1], "baseline", 0, lost, "valid")
    kept = ", ".join(map(str, model["kept_epochs"]))
    assert str(caught.value) == (
        f"epoch {lost} of baseline-0 was not kept; kept are {kept}. To keep every epoch, set train.checkpoints to all"
    )


def test_the_best_epoch_is_the_first_of_equals() -> None:
    rows = [{"valid_f1": f1, "valid_loss": loss} for f1, loss in [(0.5, 0.9), (0.8, 0.4), (0.8, 0.3), (0.7, 0.3)]]
    assert CheckpointPolicy("valid_f1", min_epochs=0, soup=0, swa=0).ranked(rows) == [1, 2, 3, 0]
    assert CheckpointPolicy("valid_loss", min_epochs=0, soup=0, swa=0).ranked(rows) == [2, 3, 1, 0]
    assert CheckpointPolicy("valid_f1", min_epochs=2, soup=0, swa=0).ranked(rows) == [2, 3]


def test_an_epoch_without_a_metric_is_never_the_best(tmp_path: Path) -> None:
    """Nor one of a soup, nor a better one that puts off the end, nor a lower loss for the plateau."""
    losses = [float("nan"), 0.9, 0.4, float("nan"), 0.5]
    rows = [{"epoch": number, "phase": "step", "valid_loss": loss} for number, loss in enumerate(losses)]
    for soup, averaged in [(2, [2, 4]), (4, [1, 2, 4])]:
        choice = CheckpointPolicy("valid_loss", min_epochs=0, soup=soup, swa=0)
        assert choice.ranked(rows) == [2, 4, 1, 0, 3]
        assert TrainingState(tmp_path, choice, rows=rows).averaged_from("soup") == averaged
    assert CheckpointPolicy("valid_loss", min_epochs=3, soup=0, swa=0).ranked(rows) == [4, 3]
    started = TrainingState(tmp_path, choice, rows=rows[:4])
    assert (started.best, started.out_of_patience(1, 0), started.out_of_patience(2, 0)) == (2, True, False)
    nowhere = TrainingState(tmp_path, choice, rows=[rows[0], rows[3]])
    assert (nowhere.best, nowhere.averaged_from("soup")) == (0, [0])
    assert Plateau(1.0, patience=2, factor=0.1).rate(losses) == 0.1
    assert Plateau(1.0, patience=2, factor=0.1).rate(losses[:4]) == 1.0


def test_published_mode_scores_the_test_split_after_every_epoch(prepared: Prepare) -> None:
    def publish(tree: small.Tree) -> None:
        tree["split"]["valid_pct"] = 0
        tree["train"]["monitor"] = "test_f1"

    loaded = prepared(publish)
    train.run(*loaded, "baseline", 0)
    history = tables.read(loaded[1].model("baseline", 0) / "history.csv")
    assert list(history.columns[-3:]) == ["test_loss", "test_accuracy", "test_f1"]
    assert not [name for name in history.columns if name.startswith("valid")]
    model = model_json(loaded)
    assert (model["monitor"], model["best_epoch"]) == ("test_f1", int(history["test_f1"].idxmax()))
    assert checkpoints.evaluate_checkpoint(loaded[1], "baseline", 0, None, "test")["f1"] == history["test_f1"].max()
    metric = files.read_json(loaded[1].root / "metrics/baseline/0.json")
    assert metric == {"baseline-0": {"test_f1": pytest.approx(history["test_f1"].max(), abs=1e-6)}}
    with pytest.raises(
        DataError, match=r"the valid split has no images \(split.valid_pct is 0\): score the other split"
    ):
        checkpoints.evaluate_checkpoint(loaded[1], "baseline", 0, None, "valid")


def test_by_default_training_never_reads_the_test_split(prepared: Prepare) -> None:
    loaded = prepared()
    train.run(*loaded, "baseline", 0)
    whole = outcome(loaded)
    table = loaded[1].split / "test_data.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    train.run(*loaded, "baseline", 0)
    assert outcome(loaded) == whole


def test_predictions_are_probabilities_of_every_image_that_did_not_train(prepared: Prepare) -> None:
    loaded = prepared()
    train.run(*loaded, "baseline", 0)
    predict.run(*loaded, "baseline", 0)
    table = tables.read(loaded[1].prediction("baseline", 0))
    assert list(table.columns) == ["checkpoint", "split", "id", "label", "p_Healthy", "p_TB"]
    assert table.groupby(["checkpoint", "split"]).size().to_dict() == {
        ("best", "test"): 12, ("best", "valid"): 7, ("last", "test"): 12, ("last", "valid"): 7,
    }  # fmt: skip
    assert (table["p_Healthy"] + table["p_TB"]).sub(1).abs().max() < 1e-6


def test_a_loss_that_is_no_number_stops_the_run(prepared: Prepare) -> None:
    loaded = prepared(
        lambda tree: tree["train"].update(lr=1e9, weight_decay=1e9, schedule="constant", optimizer="sgd", momentum=0.9)
    )
    with pytest.raises(TrainingError) as caught:
        train.run(*loaded, "baseline", 0)
    assert caught.value.headline == (
        "the training loss is no longer a number in epoch 0, batch 1: lower train.lr (a tenth is a good try), set"
        " train.grad_clip, or set train.precision to float32. The batch's images, which may be at fault where it is the"
        " first of all:"
    )
    trained = set(tables.read(loaded[1].split / "train_data.csv")["id"])
    assert len(caught.value.problems) == 8
    assert set(caught.value.problems) < trained
    assert not loaded[1].model("baseline", 0).exists()


def test_two_processes_do_not_train_the_same_run(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path / "run"),
        pytest.raises(
            TrainingError,
            match=rf"another process is training this very run \(run\): process {os.getpid()} on .*; wait",
        ),
        state.locked(tmp_path / "run"),
    ):
        pass
    with state.locked(tmp_path / "run"):
        pass


def test_missing_pretrained_files_are_named_before_anything_runs(prepared: Prepare) -> None:
    loaded = prepared()
    small.edit(loaded[1].root, lambda tree: tree["model"].update(pretrained="w/none.pth"))
    small.edit(loaded[1].root, lambda tree: tree["experiments"]["l2"].update(model={"pretrained": "/no/such.pth"}))
    with pytest.raises(WeightsError) as caught:
        configure.run(*load(loaded[1].root))
    root = loaded[1].root
    assert caught.value.headline == (
        "model.pretrained names weight files that are not there; put them there, or set it to none:"
    )
    assert caught.value.problems[:2] == (f"baseline: {root}/w/none.pth", "l2: /no/such.pth")


def test_default_weights_that_cannot_be_had_stop_configure(prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = prepared()
    monkeypatch.setenv("TORCH_HOME", str(loaded[1].root))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there: as without a network
    small.edit(loaded[1].root, lambda tree: tree["model"].update(pretrained="default"))
    before = sorted(path.read_bytes() for path in loaded[1].configs.iterdir())
    with pytest.raises(WeightsError) as caught:
        configure.run(*load(loaded[1].root))
    (problem,) = caught.value.problems
    assert problem.startswith("model.pretrained: default needs https://download.pytorch.org/models/")
    assert sorted(path.read_bytes() for path in loaded[1].configs.iterdir()) == before


def test_a_pretrained_file_that_changed_since_the_config_is_refused(prepared: Prepare) -> None:
    loaded = prepared()
    torch.save({"a": torch.zeros(1)}, loaded[1].root / "w.pth")
    small.edit(loaded[1].root, lambda tree: tree["model"].update(pretrained="w.pth"))
    loaded = load(loaded[1].root)
    configure.run(*loaded)
    torch.save({"a": torch.ones(1)}, loaded[1].root / "w.pth")
    with pytest.raises(
        WeightsError,
        match=r"w.pth has changed since its config was written: `dvc repro --force --single-item configure`",
    ):
        train.run(*loaded, "baseline", 0)


def test_configs_hold_what_is_resolved_and_prune_what_is_gone(prepared: Prepare) -> None:
    loaded = prepared()
    paths = loaded[1]
    assert files.read_yaml(paths.config("dropout"))["model"]["dropout"] == 0.5
    assert sorted(path.stem for path in paths.configs.iterdir()) == [
        "baseline",
        "contrast",
        "dropout",
        "l2",
        "sharpness",
    ]
    for name in ("l2/0", "baseline/0", "baseline/1"):
        (paths.models / name).mkdir(parents=True)
        (paths.predictions / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.predictions / f"{name}.csv").touch()
        files.write_json({}, paths.run_metrics / f"{name}.json")
    small.edit(paths.root, lambda tree: tree["experiments"].pop("l2"))
    configure.run(*load(paths.root))
    assert not paths.config("l2").exists()
    assert sorted(path.relative_to(paths.root).as_posix() for path in paths.models.glob("*/*")) == ["models/baseline/0"]
    assert sorted(path.relative_to(paths.root).as_posix() for path in paths.predictions.rglob("*.csv")) == [
        "predictions/baseline/0.csv"
    ]
    assert list(paths.run_metrics.rglob("*.json")) == [paths.run_metric("baseline", 0)]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights.save(networks.build("resnet18", 2, 1, 0.0), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors holds the weights of another network"):
        weights.restore(networks.build("resnet18", 3, 1, 0.0), tmp_path / "w.safetensors")


def test_other_data_than_the_runs_own_are_not_scored(prepared: Prepare) -> None:
    loaded = prepared()
    train.run(*loaded, "baseline", 0)
    table = loaded[1].split / "test_data.csv"
    table.write_text(table.read_text().replace("Healthy,", "Normal,"))
    with pytest.raises(DataError, match=r"trained on Healthy, TB, the data now hold Normal: `dvc repro`"):
        checkpoints.evaluate_checkpoint(loaded[1], "baseline", 0, None, "test")
