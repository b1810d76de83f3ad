"""One training in several processes that torchrun's launcher starts: how many, and what becomes of one that ends."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import small
import torch
from conftest import BEFORE_CONFIGURE, load, run
from refused import problems
from under_dvc import environment, wait_for

from xraylab import files
from xraylab.errors import TrainingError
from xraylab.params.train import Train
from xraylab.stages import configure
from xraylab.train import launch

H200, V100 = "NVIDIA H200", "Tesla V100"


def train_config(**keys: Any) -> Train:
    tree = files.read_yaml(small.REPOSITORY / "params.yaml")["train"]
    return Train.model_validate({**tree, **keys}).resolved()


def with_gpus(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: names[number])


@pytest.mark.parametrize(
    ("devices", "gpus", "number"),
    [("auto", [], 1), ("auto", [H200, H200], 1), (1, [H200, V100], 1), ("all", [], 1), ("all", [H200, H200], 2),
     (2, [], 2), (2, [H200, H200, V100], 2)],
)  # fmt: skip
def test_devices_are_counted(devices: str | int, gpus: list[str], number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(gpus, monkeypatch)
    assert launch.count_devices(train_config(devices=devices)) == number


@pytest.mark.parametrize(
    ("devices", "gpus", "problem"),
    [
        (
            4,
            [H200, H200],
            "train.devices: 4, and torch sees 2 GPUs here: lower it, or set it to all; CUDA_VISIBLE_DEVICES may hide "
            "some",
        ),
        (
            "all",
            [H200, V100],
            "train.devices: the GPUs differ (NVIDIA H200, Tesla V100), and would come to different bits: choose equal "
            "ones by CUDA_VISIBLE_DEVICES",
        ),
        (
            "all",
            [H200] * 17,
            "train.batch_size: 17 devices share a batch of 32, two images or more each: set it to 34 or more, or lower "
            "train.devices",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(
    devices: str | int, gpus: list[str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(gpus, monkeypatch)
    with pytest.raises(TrainingError) as refusal:
        launch.count_devices(train_config(devices=devices))
    assert str(refusal.value) == problem


def test_a_line_says_that_there_are_no_gpus_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus([], monkeypatch)
    assert launch.describe(2) == ["train.devices: 2, and torch sees no GPU here: 2 processes share the CPU"]
    with_gpus([H200, H200], monkeypatch)
    assert launch.describe(2) == []


def test_sync_bn_is_of_several_devices_alone() -> None:
    """So that to change it retrains nothing else."""
    chosen = {devices: train_config(devices=devices, sync_bn=True).sync_bn for devices in ("auto", 1, 2, "all")}
    assert chosen == {"auto": False, 1: False, 2: True, "all": True}
    phased = train_config(phases=[{"epochs": 2}, {"epochs": 3}], devices="auto")
    assert not phased.sync_bn


def test_what_several_devices_cannot_do_is_refused(tmp_path: Path) -> None:
    def spoil(tree: small.Tree) -> None:
        tree["train"].update(devices=5)
        tree["experiments"] = {"nothing": {"train": {"devices": 0}}}

    assert problems(tmp_path, spoil)[0] == "train.batch_size: 5 devices share it, two images or more each: raise it"


@pytest.mark.parametrize(
    ("exit_code", "record", "message"),
    [
        (1, {"headline": "no room", "problems": ["a", "b"]}, "no room\n  - a\n  - b"),
        (
            -signal.SIGSEGV,
            {},
            "process 1 of 3 was ended by SIGSEGV: the others were ended; the same command goes on after the last "
            "finished epoch",
        ),
        (
            7,
            {},
            "process 1 of 3 ended with exit code 7: the others were ended; the same command goes on after the last "
            "finished epoch",
        ),
    ],
)
def test_what_ended_a_process_is_said(exit_code: int, record: dict[str, Any], message: str) -> None:
    assert str(launch._error(1, 3, exit_code, record)) == message


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one experiment on two devices, up to the stage `configure`."""
    study = small.study(tmp_path_factory.mktemp("launch") / "study", on_two)
    run(load(study), *BEFORE_CONFIGURE, configure)
    return study


def on_two(tree: small.Tree) -> None:
    tree["train"].update(devices=2, epochs=3)
    tree["model"].update(pretrained="none")
    tree["experiments"] = {"baseline": {}}


def started(study: Path, log: Path) -> subprocess.Popen[bytes]:
    """The stage `train` on its way, whose every word goes to `log`."""
    extra = {"PYTHONPATH": str(small.REPOSITORY / "src"), "CUDA_VISIBLE_DEVICES": ""}
    with log.open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "xraylab", "train", "baseline", "0"],
            cwd=study, env=environment(**extra), stdout=said, stderr=said,
        )  # fmt: skip


def outcome(study: Path) -> dict[str, bytes]:
    folder = study / "models/baseline/0"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_which_goes_on_to_the_same_bits(study: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(study, log) as launcher:
        wait_for(lambda: "epoch 1/3" in log.read_text())
        workers = psutil.Process(launcher.pid).children()
        next(each for each in workers if each.environ()["RANK"] == "1").kill()
        assert launcher.wait(60) == 1
    assert not any(worker.is_running() for worker in workers)
    assert re.search(
        r"^error: process 1 of 2 was ended by SIGKILL \(.*\): the others were ended", log.read_text(), re.M
    )
    assert log.read_text().count("epoch 1/3") == log.read_text().count("train baseline-0: starting") == 1

    resumed = outcome_of(study, log)
    assert "epoch 1/3" not in log.read_text()
    assert outcome_of(study, log) == resumed
    assert not list((study / ".xraylab/runs").glob("*/"))


def outcome_of(study: Path, log: Path) -> dict[str, bytes]:
    """What a training that nobody stops comes to, from the last finished epoch on."""
    with started(study, log) as launcher:
        assert launcher.wait(240) == 0, log.read_text()
    return outcome(study)
