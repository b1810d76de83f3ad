"""A training whose dvc is killed ends with it, and goes on where it was."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import small
from under_dvc import committed, environment, only, processes_in, succeed, wait_for

pytestmark = pytest.mark.slow
TRAINING = "train@contrast-0"
EPOCHS = 8  # enough that no machine is through before a signal is


class Interrupted(NamedTuple):
    """A training whose dvc was killed, what it said until then, and what `dvc repro` said as it went on."""

    study: Path
    before: str
    after: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    study = committed(folder / "study", only("baseline", "contrast"), longer)
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", TRAINING],
            cwd=study, env=environment(SHELL="/bin/sh"), stdout=log, stderr=log,
        )  # fmt: skip
        wait_for(lambda: process.poll() is not None or f"epoch 2/{EPOCHS}" in (folder / "log").read_text())
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not processes_in(study))
    return Interrupted(study, (folder / "log").read_text(), succeed(study, "repro", TRAINING))


def longer(tree: small.Tree) -> None:
    tree["train"].update(epochs=EPOCHS)


def test_a_training_ends_with_its_dvc(interrupted: Interrupted) -> None:
    assert f"epoch {EPOCHS}/{EPOCHS}" not in interrupted.before


def test_a_killed_training_goes_on_after_its_last_finished_epoch(interrupted: Interrupted) -> None:
    assert f"epoch 2/{EPOCHS}" not in interrupted.after
    assert f"epoch {EPOCHS}/{EPOCHS}" in interrupted.after


def test_a_killed_training_comes_to_the_same_bytes(interrupted: Interrupted) -> None:
    folder = interrupted.study / "models/contrast/0"
    resumed = outcome(folder)
    again = succeed(interrupted.study, "repro", "--force", "--single-item", TRAINING)
    assert f"epoch 2/{EPOCHS}" in again
    assert set(resumed) == {"best.safetensors", "last.safetensors", "history.csv"}
    assert outcome(folder) == resumed


def outcome(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.json"}
