"""The Learner in a notebook: fastai's own classes work on it, and by hand it trains as the stage does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import tiny
import torch
from conftest import load
from fastai import learner as fastai_learner
from fastai.callback import schedule
from fastai.callback.core import Callback
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.interpret import ClassificationInterpretation
from safetensors.torch import load_file

from xraylab import Study, tables
from xraylab.errors import TrainingError
from xraylab.evaluate.confusion import confusion_matrix
from xraylab.model import losses, networks
from xraylab.predict import inference
from xraylab.stages import configure, train
from xraylab.train import outputs
from xraylab.train.learner import XrayLearner
from xraylab.train.run import TrainingRun

assert schedule  # gives the Learner lr_find, fit_one_cycle and fine_tune
WAYS: dict[str, Any] = {
    "plain": {},
    "one_cycle": {"train": {"schedule": "one_cycle"}},
    "rough": {
        "augment": {"degrees": 20.0, "mixup_alpha": 0.4},
        "sampling": {"strategy": "weighted"},
        "model": {"dropout": 0.5},
        "train": {"grad_accum": 2, "precision": "bfloat16"},
    },
    "focal": {"loss": {"name": "focal", "focal_gamma": 2.0, "class_weights": "balanced"}},
    "ema": {"train": {"ema_decay": 0.9}},
    "float16": {"train": {"precision": "float16", "lr": "find"}},
    "turned": {"augment": {"degrees": 20.0, "noise_std": 0.1}},
    "frozen": {"model": {"freeze": {"layer_fraction": 0.5}}},
    "cached": {"model": {"freeze": {"until": "head", "cache": True}}},
}


@pytest.fixture(scope="module")
def study(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of noise images that is configured, and of which nothing is trained yet."""
    folder = tmp_path_factory.mktemp("notebook")
    root = shutil.copytree(noise, folder / "study")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)
        begin = tiny.pretrained(folder / "start.safetensors")

    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["train"]["schedule"] = "constant"
        tree["study"]["baseline"] = "plain"
        tree["experiments"] = WAYS

    small.edit(root, change)
    configure.run(*load(root))
    return Study(root)


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


def silent(learn: XrayLearner) -> XrayLearner:
    learn.remove_cb(learn.progress)
    learn.logger = lambda log: None
    return learn


def by_hand(study: Study, way: str, *cbs: Callback) -> XrayLearner:
    return silent(study.learner(way, cbs=cbs))


def weights(learn: XrayLearner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def of_stage(study: Study, way: str) -> dict[str, torch.Tensor]:
    """The last weights that the stage `train` comes to."""
    folder = study.paths.model(way, 0)
    if not folder.is_dir():
        train.run(study.params, study.paths, way, 0)
    return load_file(folder / "last.safetensors")


@pytest.mark.parametrize("way", ["plain", "rough", "focal"])
def test_a_plain_fit_comes_to_the_stages_weights_to_the_bit(way: str, study: Study) -> None:
    learn = by_hand(study, way)
    learn.fit(2)
    assert same(weights(learn), of_stage(study, way))


def test_a_fit_in_two_parts_goes_on_with_the_draws(study: Study) -> None:
    learn = by_hand(study, "rough")
    learn.fit(1)
    learn.dls.show_batch(show=False)
    learn.validate(0)
    learn.get_preds(0)
    learn.fit(1)
    assert same(weights(learn), of_stage(study, "rough"))


def test_first_weights_and_batches_do_not_depend_on_the_number_of_threads(study: Study) -> None:
    threads, seen = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        learn = by_hand(study, "rough")
        seen.append((weights(learn), [images.clone() for images, _ in learn.dls.train]))
    torch.set_num_threads(threads)
    assert same(seen[0][0], seen[1][0])
    assert len(seen[0][1]) > 1
    assert all(torch.equal(one, other) for one, other in zip(seen[0][1], seen[1][1], strict=True))


def test_fit_one_cycle_is_the_stages_schedule(study: Study) -> None:
    learn = by_hand(study, "one_cycle")
    learn.fit_one_cycle(2)
    for name, tensor in of_stage(study, "one_cycle").items():
        torch.testing.assert_close(learn.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["rough", "ema", "float16"])
def test_the_finder_suggests_a_rate_and_changes_nothing_that_follows(
    way: str, study: Study, figures: Callable[[], list[Any]]
) -> None:
    found, untouched = by_hand(study, way), by_hand(study, way)
    before = weights(found)
    assert 1e-7 < found.lr_find().valley < 10
    assert same(weights(found), before)
    found.opt = None
    for learn in (found, untouched):
        learn.fit(1)
    assert same(weights(found), weights(untouched))
    assert found.recorder.values == untouched.recorder.values
    assert not list(study.paths.models.glob("tmp*"))


def test_the_recorder_has_the_metrics_of_the_history(study: Study) -> None:
    learn = by_hand(study, "plain")
    learn.fit(2)
    of_stage(study, "plain")
    history = tables.read(study.paths.model("plain", 0) / "history.csv")
    metrics = ["valid_loss", "valid_accuracy", "valid_f1"]
    assert list(learn.recorder.metric_names) == ["epoch", "train_loss", *metrics, "time"]
    np.testing.assert_allclose(
        [values[1:] for values in learn.recorder.values],
        history[metrics],
        rtol=1e-5,
    )


def test_the_recorder_records_as_fastais_and_takes_nothing_from_the_device_between_batches(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    class Watch(Callback):
        order = 99

        def before_batch(self) -> None:
            for name in ("cpu", "item", "tolist") if self.training and self.iter == 0 else ():
                original = getattr(torch.Tensor, name)
                monkeypatch.setattr(torch.Tensor, name, lambda t, name=name, own=original: taken.append(name) or own(t))

        def after_batch(self) -> None:
            if self.training and self.iter == self.n_iter - 1:
                monkeypatch.undo()
                monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)

    learn, theirs = by_hand(study, "plain", Watch()), by_hand(study, "plain")
    theirs.remove_cb(theirs.recorder)
    theirs.add_cb(fastai_learner.Recorder())
    for each in (learn, theirs):
        each.fit(2)
    assert taken == []
    assert learn.recorder.losses == theirs.recorder.losses
    assert learn.recorder.lrs == theirs.recorder.lrs
    assert learn.recorder.values == theirs.recorder.values
    assert type(learn.recorder.losses[0]) is type(learn.recorder.losses[0].cpu())


def test_early_stopping_ends_a_fit_in_which_nothing_gets_better(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = by_hand(study, "plain", EarlyStoppingCallback(monitor="valid_f1", patience=2))
    learn.fit(9, lr=0.0)
    assert len(learn.recorder.values) == 3
    assert capsys.readouterr().out.endswith("No improvement since epoch 0: early stopping\n")


@pytest.mark.parametrize("way", ["plain", "ema"])
def test_the_best_model_is_saved_outside_of_models_and_loaded_in_the_end(way: str, study: Study) -> None:
    """The best is here the one with the greatest loss, which is not the last."""
    learn = by_hand(study, way, SaveModelCallback(monitor="valid_loss", comp=np.greater))
    learn.fit(3, lr=0.01)
    each = [values[1] for values in learn.recorder.values]
    assert max(each) > each[-1] + 0.01
    assert learn.validate()[0] == pytest.approx(max(each))
    assert [path.name for path in (study.paths.state / "notebook" / f"{way}-0").rglob("*.pth")] == ["model.pth"]
    assert not list(study.paths.models.rglob("*.pth"))


def test_fine_tune_trains_the_head_then_all_but_what_the_configuration_freezes(study: Study) -> None:
    class Remember(Callback):
        order = 90

        def __init__(self) -> None:
            self.states: list[dict[str, torch.Tensor]] = []

        def after_train(self) -> None:
            self.states.append(weights(self.learn))

    remember = Remember()
    learn = by_hand(study, "frozen", remember)
    start, frozen = weights(learn), learn.starting_model.frozen_layers
    learn.fine_tune(1)
    body, whole = remember.states

    def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        learnt = dict(learn.model.named_parameters())
        return {name.rpartition(".")[0] for name in learnt if not torch.equal(before[name], after[name])}

    assert {name.split(".")[0] for name in moved(start, body)} == {"fc"}
    assert moved(body, whole)
    assert not moved(body, whole) & set(frozen)
    assert "layer4.0" in moved(body, whole)


def test_results_are_shown_with_actual_and_predicted_class(study: Study, figures: Callable[[], list[Any]]) -> None:
    learn = by_hand(study, "plain")
    learn.show_results(max_n=4)
    titles = [axes.get_title().splitlines() for axes in figures()]
    assert len(titles) == 4
    assert {word for title in titles for word in title} <= set(learn.dls.vocab)
    assert all(len(title) == 2 for title in titles)


@pytest.mark.parametrize("way", ["plain", "focal", "ema"])
def test_an_interpretation_ranks_images_by_their_loss(way: str, study: Study, figures: Callable[[], list[Any]]) -> None:
    learn = by_hand(study, way)
    learn.fit(1)
    interpretation = ClassificationInterpretation.from_learner(learn)
    p, labels = learn.get_preds()
    expected = -np.log(p.numpy()[np.arange(len(p)), labels.numpy()])
    if way == "focal":
        count = torch.bincount(torch.tensor(learn.dls.train_ds.labels)).numpy()
        expected = expected * (1 - np.exp(-expected)) ** 2 * (count.sum() / (2 * count))[labels.numpy()]
    np.testing.assert_allclose(interpretation.losses, expected, rtol=1e-3, atol=1e-6)
    interpretation.plot_top_losses(4)
    first = figures()[0].get_title().split(" / ")
    worst = int(interpretation.losses.argmax())
    names = [learn.dls.vocab[int(number)] for number in (p[worst].argmax(), labels[worst])]
    assert first[0] == "/".join(names)
    assert len(figures()) == 4
    matrix = confusion_matrix(labels.numpy(), p.argmax(dim=1).numpy(), 2)
    assert (interpretation.confusion_matrix() == matrix).all()


def test_training_images_can_be_interpreted_too(study: Study) -> None:
    learn = by_hand(study, "plain")
    interpretation = ClassificationInterpretation.from_learner(learn, ds_idx=0)
    assert len(interpretation.losses) == len(learn.dls.train_ds)
    (_, _, targets, _, _) = interpretation[[0, 5]]
    assert targets.tolist() == learn.dls.train_ds.labels[[0, 5]].tolist()


def test_a_file_is_predicted_as_the_cached_image_made_of_it(study: Study) -> None:
    learn = by_hand(study, "plain")
    name = learn.dls.valid_ds.items["id"].iloc[3]
    (path,) = tables.read(study.paths.index).set_index("id")["path"].loc[[name]]
    label, number, p = learn.predict(study.paths.raw / path)
    expected = learn.get_preds()[0][3]
    assert torch.equal(p, expected)
    assert (label, int(number)) == (learn.dls.vocab[int(expected.argmax())], int(expected.argmax()))
    assert torch.equal(learn.predict(name)[2], expected)


def test_test_time_augmentation_is_that_of_the_stage_predict(study: Study) -> None:
    learn = by_hand(study, "turned")
    run = TrainingRun.load(study.params, study.paths, "turned", 0)
    record = outputs.describe(run) | {"hardware": run.hardware.record()}
    items = learn.dls.valid_ds.items[["id", "label"]]
    (expected,), _ = inference.predict_proba([learn.starting_model.model], record, items, study.paths.cache, 3)
    p, labels = learn.tta(n=3, beta=1 / 4)
    np.testing.assert_allclose(p.numpy(), expected[["p_Healthy", "p_TB"]].to_numpy(), atol=1e-6)
    assert labels.tolist() == learn.dls.valid_ds.labels.tolist()
    copies, plain = learn.tta(n=3, beta=None)[0]
    assert torch.equal(plain, learn.get_preds()[0])
    torch.testing.assert_close(torch.lerp(copies, plain, 1 / 4), p)
    assert (copies - plain).abs().max() > 1e-4
    assert (learn.tta(n=3, use_max=True)[0] >= plain).all()
    assert len(learn.tta(ds_idx=0, n=1)[0]) == len(learn.dls.train_ds)


def test_copies_that_would_be_alike_are_refused(study: Study) -> None:
    with pytest.raises(TrainingError, match=r"^tta: no augmentation of the experiment changes one of 4 copies"):
        by_hand(study, "plain").tta()


def test_a_learner_is_not_pickled(study: Study, tmp_path: Path) -> None:
    learn = by_hand(study, "plain")
    with pytest.raises(TrainingError, match=r"loading a pickle can run any code. Use learn\.save"):
        learn.export(tmp_path / "export.pkl")
    assert not (tmp_path / "export.pkl").exists()


def test_an_interrupted_validation_leaves_the_network_that_trains(study: Study) -> None:
    class Stop(Callback):
        run_train = False

        def after_batch(self) -> None:
            raise KeyboardInterrupt

    learn = by_hand(study, "ema")
    trained = learn.model
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1, cbs=Stop())
    before = weights(learn)
    learn.fit(1)
    assert learn.model is trained
    assert not same(weights(learn), before)


def test_features_train_as_images_do(study: Study) -> None:
    learn = by_hand(study, "cached")
    learn.fit(2)
    stage = of_stage(study, "cached")
    for name, tensor in weights(learn).items():
        assert torch.equal(tensor, stage[name]), name


@pytest.mark.parametrize("loss", [losses.cross_entropy(None, 0.1), losses.focal(torch.tensor([0.5, 2.0]), 2.0)])
def test_a_loss_that_is_not_reduced_is_that_of_each_image(loss: torch.nn.Module) -> None:
    logits, labels = torch.randn(6, 2), torch.arange(6) % 2
    reduced = loss(logits, labels)
    loss.reduction = "none"
    each = loss(logits, labels)
    assert each.shape == (6,)
    weight = torch.ones(6) if loss.weight is None else loss.weight[labels]
    torch.testing.assert_close(each.sum() / weight.sum(), reduced)


@pytest.mark.parametrize("module", ["dvclive.fastai", "fastai.callback.wandb"])
def test_experiment_trackers_work_as_any_callback(
    module: str, study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("dvclive" if module.startswith("dvclive") else "wandb")
    monkeypatch.chdir(tmp_path)
    if module.startswith("dvclive"):
        from dvclive.fastai import DVCLiveCallback  # noqa: PLC0415

        callback = DVCLiveCallback(dir=str(tmp_path / "live"), save_dvc_exp=False)
    else:
        import wandb  # noqa: PLC0415
        from fastai.callback.wandb import WandbCallback  # noqa: PLC0415

        quiet = wandb.Settings(
            init_timeout=10, x_disable_stats=True, x_disable_meta=True, disable_git=True, console="off"
        )
        wandb.init(mode="offline", dir=str(tmp_path), settings=quiet)
        callback = WandbCallback(log_preds=False, log_model=False)
    learn = by_hand(study, "plain", callback)
    learn.fit(2)
    assert same(weights(learn), of_stage(study, "plain"))
