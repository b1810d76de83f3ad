"""Runs of several findings per image: what they learn and record, also when stopped, shared, or by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small
import tiny
import torch
from conftest import Loaded, load
from fastai.interpret import Interpretation
from processes import together
from runs import Killed, kill_after, model_json, outcome
from sklearn.metrics import roc_auc_score

from xraylab import Study, cli, files, tables, targets
from xraylab.errors import DataError, TrainingError
from xraylab.evaluate import macro
from xraylab.model import networks, weights
from xraylab.predict import checkpoints
from xraylab.stages import configure, predict, train
from xraylab.train.learner import XrayLearner

FINDINGS = ["Cardiomegaly", "Edema", "Effusion"]
AUROC = {"monitor": "valid_auroc"}
WAYS: dict[str, Any] = {
    "plain": {"train": {"checkpoints": "all", **AUROC}},
    "weighted": {
        "loss": {"pos_weight": "balanced", "uncertain": "smooth", "l2": 0.01, "label_smoothing": 0.1},
        "train": {"grad_accum": 2, "grad_clip": 0.5, "swa_epochs": 2, "soup_epochs": 2, "monitor": "valid_auprc"},
        "augment": {"mixup_alpha": 0.4, "degrees": 10.0},
    },
    "asymmetric": {
        "loss": {"name": "asymmetric", "gamma_pos": 1.0, "uncertain": "positive"},
        "sampling": {"strategy": "weighted"},
        "augment": {"cutmix_alpha": 1.0},
        "train": {"ema_decay": 0.8, "batch_size": 13, **AUROC},
    },
    "cached": {
        "loss": {
            "name": "focal",
            "pos_weight": [1.0, 2.0, 3.0],
            "uncertain": dict(zip(FINDINGS, ["ignore", "negative", "smooth"], strict=True)),
        },
        "sampling": {"strategy": "stratified"},
        "model": {"freeze": {"until": "layer3", "cache": True}},
        "train": {"grad_accum": 3, "early_stop_patience": 1, "epochs": 4, **AUROC},
    },
    "half": {"train": {"precision": "float16", "grad_accum": 2}, "loss": {"pos_weight": "balanced"}},
    "found": {"train": {"lr": "find", "epochs": 1}},
}


@pytest.fixture(scope="module")
def study(several_findings: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A study of which every way is an experiment, up to the stage `configure`."""
    folder = tmp_path_factory.mktemp("findings")
    root = shutil.copytree(several_findings, folder / "study")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["train"].update(epochs=2, optimizer="sgd", lr=0.05, devices=2)  # as in test_devices
        tree["study"]["baseline"] = "plain"
        tree["experiments"] = WAYS

    small.edit(root, change)
    loaded = load(root)
    configure.run(*loaded)
    return loaded


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


def of_stage(study: Loaded, way: str) -> Path:
    """What the stage `train` wrote, once for all tests."""
    folder = study[1].model(way, 0)
    if not folder.is_dir():
        train.train(*study, way, 0)
    return folder


def known(study: Loaded, split: str) -> np.ndarray:
    labels = targets.values(tables.read(study[1].split / f"{split}_data.csv"), FINDINGS)
    return np.where(targets.known(labels), labels, np.nan)


def by_hand(study: Loaded, way: str) -> XrayLearner:
    learn = Study(study[1].root).learner(way)
    learn.remove_cb(learn.progress)
    learn.logger = lambda log: None
    return learn


def test_the_history_is_what_the_kept_weights_give_over_known_labels(study: Loaded) -> None:
    history = tables.read(of_stage(study, "plain") / "history.csv")
    assert list(history.columns) == [
        "epoch", "phase", "lr", "train_loss", "train_accuracy", "valid_loss", "valid_auroc", "valid_auprc", "valid_f1",
        "valid_accuracy",
    ]  # fmt: skip
    for epoch in range(2):
        metrics = checkpoints.evaluate_checkpoint(study[1], "plain", 0, epoch, "valid")
        for name in macro.METRICS:
            assert metrics[name] == pytest.approx(history[f"valid_{name}"][epoch], rel=1e-6)
        run = checkpoints.load_run(study[1], "plain")
        items = tables.read(study[1].split / "valid_data.csv")
        (table,), _ = run.predict_cached([epoch], items, study[1].cache, 0)
        p, y = table[[f"p_{name}" for name in FINDINGS]].to_numpy(float), known(study, "valid")
        entries = -np.where(y == 1, np.log(p), np.log1p(-p))[~np.isnan(y)]
        assert entries.mean() == pytest.approx(history["valid_loss"][epoch], rel=1e-4)
    model = model_json(study, "plain")
    assert (model["task"], model["best_epoch"]) == ("multi-label", int(history["valid_auroc"].idxmax()))
    metric = files.read_json(study[1].root / "metrics/plain/0.json")
    assert metric == {"plain-0": {"auroc": pytest.approx(history["valid_auroc"].max(), abs=1e-6)}}


def test_predictions_are_one_probability_per_finding(study: Loaded) -> None:
    of_stage(study, "plain")
    predict.run(*study, "plain", 0)
    table = tables.read(study[1].prediction("plain", 0))
    columns = [f"p_{name}" for name in FINDINGS]
    assert list(table.columns) == ["checkpoint", "split", "id", "label", *columns]
    best = table[(table["checkpoint"] == "best") & (table["split"] == "test")]
    y, p = known(study, "test"), best[columns].to_numpy(float)
    each = [roc_auc_score(y[rows, n], p[rows, n]) for n, rows in enumerate((~np.isnan(y)).T)]
    metrics = checkpoints.evaluate_checkpoint(study[1], "plain", 0, None, "test")
    assert metrics["auroc"] == pytest.approx(np.mean(each))
    assert [metrics["findings"][name]["auroc"] for name in FINDINGS] == pytest.approx(each)
    assert np.abs(best[columns].sum(axis=1) - 1).max() > 0.01


def test_training_looks_at_no_label_that_is_not_known(study: Loaded, tmp_path: Path) -> None:
    """Where uncertain labels are ignored, they are as good as missing."""
    whole = outcome(study, "plain") if of_stage(study, "plain") else {}
    copy = load(shutil.copytree(study[1].root, tmp_path / "study"))
    for name in ("train", "valid"):
        path = copy[1].split / f"{name}_data.csv"
        rows = tables.read(path)
        columns = targets.of_table(rows)
        assert (rows[columns] == targets.UNCERTAIN).any(axis=None)
        tables.write(rows.assign(**{each: rows[each].mask(rows[each] == -1) for each in columns}), path)
    train.train(*copy, "plain", 0)
    assert outcome(copy, "plain") == whole


@pytest.mark.parametrize("way", ["weighted", "asymmetric", "cached", "half"])
@pytest.mark.parametrize("epoch", [0])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    way: str, epoch: int, study: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_stage(study, way)
    whole = outcome(study, way)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(epoch, patched)
        train.train(*study, way, 0)
    train.train(*study, way, 0)
    assert outcome(study, way) == whole


@pytest.mark.parametrize(("way", "tolerance"), {"weighted": 1e-5, "asymmetric": 1e-5, "cached": 1e-5}.items())
def test_two_processes_have_the_loss_curve_and_weights_of_one(way: str, tolerance: float, study: Loaded) -> None:
    folder = of_stage(study, way)
    one, alone = tables.read(folder / "history.csv"), weights.read(folder / "last.safetensors")
    try:
        together(2, lambda: train.train(*study, way, 0))
        pd.testing.assert_frame_equal(tables.read(folder / "history.csv"), one, rtol=tolerance)
        for name, tensor in weights.read(folder / "last.safetensors").items():
            torch.testing.assert_close(tensor, alone[name], rtol=tolerance, atol=tolerance, msg=name)
    finally:
        shutil.rmtree(folder)  # of another number of devices


def test_the_finder_and_a_fit_by_hand_know_several_findings(study: Loaded) -> None:
    record = files.read_json(of_stage(study, "found") / "model.json")
    assert 1e-7 < record["lr_found"] < 10
    learn = by_hand(study, "plain")
    learn.recorder.train_metrics = False
    learn.fit_one_cycle(2, 0.05)
    shown = dict(zip(learn.recorder.metric_names[1:-1], learn.recorder.values[-1], strict=True))
    history = tables.read(of_stage(study, "plain") / "history.csv").iloc[-1]
    for name in (f"valid_{metric}" for metric in macro.METRICS):
        assert shown[name] == pytest.approx(history[name], abs=1e-6)


def test_losses_balance_and_uncertain_labels_are_what_the_experiment_says(study: Loaded) -> None:
    learn = by_hand(study, "weighted")
    learnt, y = learn.dls.train_ds.targets, known(study, "train")
    smooth = np.isnan(y) & ~np.isnan(learnt)
    assert smooth.any()
    assert ((learnt[smooth] >= 0.55) & (learnt[smooth] <= np.float32(0.85))).all()
    expected = np.nansum(1 - learnt, axis=0) / np.nansum(learnt, axis=0)
    np.testing.assert_allclose(learn.loss_func.pos_weight, expected, rtol=1e-6)
    assert by_hand(study, "cached").loss_func.pos_weight.tolist() == [1.0, 2.0, 3.0]
    assert by_hand(study, "plain").loss_func.pos_weight is None


def test_images_are_shown_with_their_findings(study: Loaded, figures: Callable[[], list[Any]]) -> None:
    learn = by_hand(study, "plain")
    learn.dls.show_batch(max_n=6)
    titles = [axes.get_title() for axes in figures()]
    assert len(titles) == 6
    assert {name for title in titles for name in title.split(";") if name} <= set(FINDINGS)
    assert any(";" in title for title in titles)


def test_results_and_top_losses_are_shown(study: Loaded, figures: Callable[[], list[Any]]) -> None:
    learn = by_hand(study, "plain")
    learn.show_results(max_n=3, shuffle=False)
    assert len(figures()) == 3
    interpretation = Interpretation.from_learner(learn)
    p, labels = learn.get_preds()
    y = labels.numpy()
    each = np.nanmean(np.where(np.isnan(y), np.nan, -np.where(y == 1, np.log(p), np.log1p(-p.numpy()))), axis=1)
    np.testing.assert_allclose(interpretation.losses, each, rtol=1e-4)
    image, names = learn.dls.valid_ds[0]
    assert list(names) == [name for name, value in zip(FINDINGS, y[0], strict=True) if value == 1]
    assert image.shape == (1, 32, 32)
    interpretation.plot_top_losses(4)


def test_a_file_is_predicted_as_its_cached_image(study: Loaded) -> None:
    learn = by_hand(study, "plain")
    name = learn.dls.valid_ds.items["id"].iloc[3]
    (path,) = tables.read(study[1].index).set_index("id")["path"].loc[[name]]
    shown, there, p = learn.predict(study[1].raw / path)
    assert torch.equal(p, learn.get_preds()[0][3])
    assert there.tolist() == (p >= 0.5).tolist()
    assert list(shown) == [finding for finding, found in zip(FINDINGS, there, strict=True) if found]


def test_an_earlier_runs_weights_keep_their_head_for_the_same_findings(study: Loaded, tmp_path: Path) -> None:
    folder = of_stage(study, "plain")
    copy = shutil.copytree(study[1].root, tmp_path / "study")
    small.edit(copy, lambda tree: tree["model"].update(pretrained=str(folder)))
    loaded = load(copy)
    configure.run(*loaded)
    head = by_hand(loaded, "plain").model.state_dict()
    for name, tensor in weights.read(folder / "best.safetensors").items():
        assert torch.equal(head[name], tensor), name


def test_a_run_of_findings_is_not_scored_on_one_label_per_image(study: Loaded, tmp_path: Path) -> None:
    of_stage(study, "plain")
    copy = load(shutil.copytree(study[1].root, tmp_path / "study"))
    path = copy[1].split / "valid_data.csv"
    rows = tables.read(path)
    tables.write(rows.drop(columns=targets.of_table(rows)).assign(label="Edema"), path)
    expected = r"trained on Cardiomegaly, Edema, Effusion, the data now hold one label per image: `dvc repro`"
    with pytest.raises(DataError, match=expected):
        checkpoints.evaluate_checkpoint(copy[1], "plain", 0, None, "valid")


def test_a_finding_that_training_images_lack_cannot_be_balanced(study: Loaded, tmp_path: Path) -> None:
    copy = load(shutil.copytree(study[1].root, tmp_path / "study"))
    path = copy[1].split / "train_data.csv"
    tables.write(tables.read(path).assign(y_Edema=0), path)
    with pytest.raises(
        TrainingError, match=r"^loss\.pos_weight: balanced needs training images with and without Edema"
    ):
        train.train(*copy, "weighted", 0)
    assert not copy[1].model("weighted", 0).exists()


@pytest.mark.parametrize(
    ("monitor", "labels", "needs"),
    [
        ("valid_auroc", {"y_Cardiomegaly": 1, "y_Edema": 0, "y_Effusion": pd.NA}, "both positive and negative"),
        ("valid_auprc", {"y_Cardiomegaly": -1, "y_Edema": 0, "y_Effusion": 0}, "both positive and negative"),
        ("valid_f1", {"y_Cardiomegaly": -1, "y_Edema": 0, "y_Effusion": 0}, "positive"),
        ("valid_accuracy", {"y_Cardiomegaly": -1, "y_Edema": -1, "y_Effusion": pd.NA}, "known"),
    ],
)
def test_a_monitor_that_the_labels_do_not_define_is_refused_before_training(
    monitor: str, labels: dict[str, Any], needs: str, study: Loaded, tmp_path: Path
) -> None:
    copy = shutil.copytree(study[1].root, tmp_path / "study", ignore=shutil.ignore_patterns("models", ".xraylab"))
    small.edit(copy, lambda tree: tree["experiments"]["plain"]["train"].update(monitor=monitor))
    loaded = load(copy)
    configure.run(*loaded)
    path = loaded[1].split / "valid_data.csv"
    rows = tables.read(path)
    tables.write(rows.assign(**{name: pd.array([value] * len(rows), "Int64") for name, value in labels.items()}), path)
    with pytest.raises(TrainingError) as caught:
        train.train(*loaded, "plain", 0)
    assert str(caught.value) == (
        f"train.monitor: {monitor} needs a finding with {needs} labels among the valid images, and there is none: set "
        "it to valid_loss, or enlarge the valid split"
    )


def test_the_command_prints_the_means_and_a_line_per_finding(
    study: Loaded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_stage(study, "plain")
    metrics = checkpoints.evaluate_checkpoint(study[1], "plain", 0, None, "valid")
    monkeypatch.chdir(study[1].root)
    capsys.readouterr()
    cli.app(["evaluate-checkpoint", "plain"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert f"auroc      {metrics['auroc']:.6f}" in lines
    edema = metrics["findings"]["Edema"]
    assert "Edema: " + "  ".join(f"{name} {value:.6f}" for name, value in edema.items()) in lines
