"""Cached features: training on them is training, and they are shared, checked, and made where they are absent."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import recorded_study
import small
import tiny
import torch
import torchvision.models as tv
from conftest import Loaded, load
from runs import Killed, kill_after, outcome
from safetensors.torch import load_file

from xraylab import files, shards, tables
from xraylab.data import image_cache
from xraylab.errors import DataError
from xraylab.model import features as model_features
from xraylab.model import hardware, networks
from xraylab.predict import checkpoints
from xraylab.stages import configure, features, train

Prepare = Callable[..., Loaded]


@pytest.fixture(autouse=True)
def _tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tiny.Tiny)


def freezing(begin: small.Change, upto: str, *others: small.Change) -> small.Change:
    def change(tree: small.Tree) -> None:
        begin(tree)
        tree["experiments"] = {
            "baseline": {"model": {"freeze": {"until": upto}}},
            "cached": {"model": {"freeze": {"until": upto, "cache": True}}},
        }
        for other in others:
            other(tree)

    return change


def metrics(loaded: Loaded, experiment: str) -> np.ndarray:
    return tables.read(loaded[1].model(experiment, 0) / "history.csv").drop(columns="phase").to_numpy(float)


def trained_both(loaded: Loaded) -> None:
    for experiment in ("baseline", "cached"):
        train.run(*loaded, experiment, 0)


LONGER: small.Change = lambda tree: (tree["train"].update(epochs=3, lr=0.01), tree["model"].update(dropout=0.5))  # noqa: E731


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("upto", ["layer1", "layer3", "head"])
def test_training_on_features_has_the_bits_of_training_on_images(
    upto: str, precision: str, prepared: Prepare, tmp_path: Path
) -> None:
    begin = tiny.pretrained(tmp_path / "start.safetensors")
    loaded = prepared(freezing(begin, upto, LONGER, lambda tree: tree["train"].update(precision=precision)))
    features.run(*loaded)
    trained_both(loaded)
    assert outcome(loaded, "cached") == outcome(loaded, "baseline")


@pytest.mark.parametrize("upto", ["layer3", "head"])
def test_a_real_resnet_learns_the_same_from_features_to_rounding(
    upto: str, prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.NETWORKS, "resnet18", tv.resnet18)
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), upto))
    trained_both(loaded)
    np.testing.assert_allclose(metrics(loaded, "cached"), metrics(loaded, "baseline"), rtol=1e-3, atol=1e-4)
    ours, theirs = (load_file(loaded[1].model(name, 0) / "last.safetensors") for name in ("cached", "baseline"))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)


def test_scores_from_images_are_those_that_training_on_features_recorded(prepared: Prepare, tmp_path: Path) -> None:
    keep: small.Change = lambda tree: tree["train"].update(checkpoints="all", epochs=3, lr=0.01)  # noqa: E731
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head", keep))
    train.run(*loaded, "cached", 0)
    history = tables.read(loaded[1].model("cached", 0) / "history.csv")
    for epoch in range(3):
        scored = checkpoints.evaluate_checkpoint(loaded[1], "cached", 0, epoch, "valid")
        assert (scored["accuracy"], scored["f1"]) == (history["valid_accuracy"][epoch], history["valid_f1"][epoch])


@pytest.mark.parametrize("experiment", ["baseline", "cached"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_a_frozen_run_that_was_stopped_ends_as_if_it_had_not_been(
    experiment: str, epoch: int, prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "layer3", LONGER))
    train.run(*loaded, experiment, 0)
    whole = outcome(loaded, experiment)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_after(epoch, patched)
        train.run(*loaded, experiment, 0)
    train.run(*loaded, experiment, 0)
    assert outcome(loaded, experiment) == whole


def test_an_array_holds_what_the_frozen_part_makes_of_each_image(prepared: Prepare, tmp_path: Path) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "layer2"))
    features.run(*loaded)
    paths = loaded[1]
    array = np.load(paths.feature_array(files.read_json(paths.feature("cached"))["key"]))
    network = networks.build("resnet18", 2, 1, 0.0)
    state = load_file(tmp_path / "start.safetensors")
    network.load_state_dict({name: state[name] for name in state if not name.startswith("fc.")}, strict=False)
    images, _ = shards.load(paths.cache)
    network.eval()
    for row in (0, 17, len(images) - 1):
        x = image_cache.network_input(images, np.array([row]), image_cache.IMAGENET[1], 32, "cpu")
        with torch.no_grad():
            x = network.layer2(network.layer1(network.relu(network.bn1(network.conv1(x)))))
        np.testing.assert_allclose(array[row].transpose(2, 0, 1), x[0], atol=1e-5)
    assert array.shape == (60, 12, 12, 8)
    assert array.dtype == np.float32


def more(tree: small.Tree) -> None:
    tree["experiments"] |= {
        "faster": {"model": {"freeze": {"until": "head", "cache": True}}, "train": {"lr": 0.1}},
        "deeper": {"model": {"freeze": {"until": "layer3", "cache": True}}},
    }


def test_experiments_share_what_they_have_in_common_and_the_rest_is_pruned(prepared: Prepare, tmp_path: Path) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head", more))
    paths = loaded[1]
    features.run(*loaded)
    keys = {path.stem: files.read_json(path)["key"] for path in paths.features.glob("*.json")}
    assert keys["baseline"] is None
    assert keys["cached"] == keys["faster"] != keys["deeper"]
    arrays = {path.stem for path in paths.features.glob("*.npy")}
    assert arrays == {keys["cached"], keys["deeper"]} == {path.stem for path in paths.feature_store.iterdir()}
    assert files.read_json(paths.feature("deeper"))["sha256"] == files.sha256(paths.feature_array(keys["deeper"]))
    small.edit(paths.root, lambda tree: tree["experiments"].pop("deeper"))
    loaded = load(paths.root)
    configure.run(*loaded)
    features.run(*loaded)
    assert {path.name for path in paths.features.iterdir()} == {
        "baseline.json", "cached.json", "faster.json", f"{keys['cached']}.npy",
    }  # fmt: skip
    assert {path.name for path in paths.feature_store.iterdir()} == {
        f"{keys['cached']}{end}" for end in (".npy", ".sha256")
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["model"].update(channels=3),
        lambda tree: tree["model"].update(img_size=24),
        lambda tree: tree["train"].update(precision="bfloat16"),
    ],
)
def test_features_of_something_else_have_another_key(change: small.Change, prepared: Prepare, tmp_path: Path) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    features.run(*loaded)
    before = files.read_json(loaded[1].feature("cached"))["key"]
    small.edit(loaded[1].root, change)
    loaded = load(loaded[1].root)
    configure.run(*loaded)
    features.run(*loaded)
    assert files.read_json(loaded[1].feature("cached"))["key"] != before


def no_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(model_features, "write", refuse)


def test_features_that_are_there_are_not_computed_again(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    features.run(*loaded)
    before = {path.name: path.read_bytes() for path in loaded[1].features.iterdir()}
    no_computing(monkeypatch)
    shutil.rmtree(loaded[1].features)  # as dvc does before it runs the stage again
    features.run(*loaded)
    assert {path.name: path.read_bytes() for path in loaded[1].features.iterdir()} == before
    shutil.rmtree(loaded[1].feature_store)  # as in another clone
    train.run(*loaded, "cached", 0)


def test_a_run_whose_features_are_absent_makes_those_that_it_needs(
    prepared: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    paths = loaded[1]
    features.run(*loaded)
    train.run(*loaded, "cached", 0)
    expected = outcome(loaded, "cached")
    shutil.rmtree(paths.feature_store)
    (array,) = paths.features.glob("*.npy")
    array.unlink()
    capsys.readouterr()
    train.run(*loaded, "cached", 0)
    assert outcome(loaded, "cached") == expected
    (own,) = paths.feature_store.glob("*.npy")
    used = sum(len(tables.read(paths.split / f"{split}_data.csv")) for split in ("train", "valid"))
    assert np.load(own).shape == (used, 8)
    assert f"features of {used} images, 0.0 MB, in {own}\n" in capsys.readouterr().out
    no_computing(monkeypatch)
    train.run(*loaded, "cached", 0)


def test_stored_features_that_were_damaged_are_made_anew_with_the_same_bits(
    prepared: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else what is damaged there would become the result of the stage, and the hash that DVC records of it."""
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    paths = loaded[1]
    features.run(*loaded)
    (stored,) = paths.feature_store.glob("*.npy")
    before = stored.read_bytes()
    shutil.rmtree(paths.features)  # as dvc does before it runs the stage again
    recorded_study.flip(stored)
    capsys.readouterr()
    features.run(*loaded)
    assert f"{stored} is damaged, or was not written whole, and is made anew\n" in capsys.readouterr().out
    assert stored.read_bytes() == paths.feature_array(stored.stem).read_bytes() == before


def test_a_run_makes_damaged_features_of_its_own_anew(
    prepared: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    paths = loaded[1]
    train.run(*loaded, "cached", 0)
    expected = outcome(loaded, "cached")
    (own,) = paths.feature_store.glob("*.npy")
    recorded_study.flip(own)
    capsys.readouterr()
    train.run(*loaded, "cached", 0)
    assert f"{own} is damaged, or was not written whole, and is made anew\n" in capsys.readouterr().out
    assert outcome(loaded, "cached") == expected


def test_a_changed_array_is_refused(prepared: Prepare, tmp_path: Path) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "head"))
    features.run(*loaded)
    (array,) = loaded[1].features.glob("*.npy")
    content = array.read_bytes()
    array.unlink()
    array.write_bytes(content[:-1] + b"!")
    with pytest.raises(DataError) as caught:
        train.run(*loaded, "cached", 0)
    assert str(caught.value) == (f"{array} has changed since it was made: `dvc repro --force --single-item features`")


def test_a_disk_without_room_is_seen_before_anything_is_written(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = prepared(freezing(tiny.pretrained(tmp_path / "start.safetensors"), "layer1"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=300_000))
    store = loaded[1].feature_store
    with pytest.raises(DataError) as caught:
        features.run(*loaded)
    size = 60 * 8 * 14 * 14 * 4
    assert str(caught.value) == (
        f"model.freeze.cache: the features need {size / 1e6:.1f} MB, and {store} has 0.3 MB free: make room, "
        "freeze up to a later block, whose output is smaller, or set it to false"
    )
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_features_of_sixteen_bits_keep_them(precision: str, dtype: torch.dtype, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16), np.uint8)
    part = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3))
    machine = hardware.Hardware("cpu", "", precision, 1, torch.__version__)
    rows = np.array([0, 2, 4])
    model_features.write(
        tmp_path / "f.npy", part, images, rows, image_cache.IMAGENET[1], 16, machine, lambda text: None
    )
    read = model_features.read(tmp_path / "f.npy", rows).of(np.array([4, 0]))
    with machine.autocast(), torch.no_grad():
        expected = part(image_cache.network_input(images, rows, image_cache.IMAGENET[1], 16, "cpu"))[[2, 0]]
    assert read.dtype == expected.dtype == dtype
    assert torch.equal(read, expected)
    assert np.load(tmp_path / "f.npy").nbytes == 3 * 4 * 14 * 14 * 2


class Narrow(torch.nn.Conv2d):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)


def test_features_are_computed_in_as_many_images_as_fit(tmp_path: Path) -> None:
    images, told = np.random.default_rng(0).integers(0, 256, (70, 16, 16), np.uint8), []
    part, machine = Narrow(1, 4, 3), hardware.Hardware("cpu", "", "float32", 1, torch.__version__)
    rows = np.arange(70)
    model_features.write(tmp_path / "f.npy", part, images, rows, image_cache.IMAGENET[1], 16, machine, told.append)
    read = model_features.read(tmp_path / "f.npy", rows).of(rows)
    with torch.no_grad():
        expected = torch.nn.Conv2d.forward(
            part, image_cache.network_input(images, rows, image_cache.IMAGENET[1], 16, "cpu")
        )
    torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-6)
    assert told[-1] == "features computed in batches of 2, since memory ran out with larger ones"


def test_a_study_that_caches_nothing_waits_for_no_torch(prepared: Prepare) -> None:
    loaded = prepared()
    script = (
        "import sys; from pathlib import Path; from xraylab.params import config; from xraylab.paths import Paths\n"
        "from xraylab.stages import features\n"
        "features.run(config.read(Path('params.yaml')), Paths(Path.cwd()))\n"
        "print([name for name in ('torch', 'fastai', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=loaded[1].root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert {path.name: path.read_text() for path in loaded[1].features.iterdir()} == {
        f"{name}.json": '{\n  "key": null\n}\n' for name in loaded[0].experiments
    }
