"""The study under the real dvc: what runs, what does not, and what survives."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import small

from xraylab import files, tables

Ran = list[str]


def environment(**extra: str) -> dict[str, str]:
    """This interpreter first on the path, and nothing of a dvc that may run the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return clean | {"PATH": path, "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"} | {
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
    } | extra  # fmt: skip


def dvc(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder, env=environment(**extra), capture_output=True, text=True, check=False,
    )  # fmt: skip


def succeed(folder: Path, *arguments: str, **extra: str) -> str:
    done = dvc(folder, *arguments, **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> Ran:
    return re.findall(r"Running stage '([^']+)'", output)


def only(*names: str) -> small.Change:
    """Keep these experiments alone."""

    def change(tree: small.Tree) -> None:
        for name in [name for name in tree["experiments"] if name not in names]:
            del tree["experiments"][name]

    return change


def committed(folder: Path, *changes: small.Change) -> Path:
    study = small.study(folder)
    for change in changes:
        small.edit(study, change)
    small.commit(study)
    return study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped study on the demo data, shrunk, run and committed."""
    study = committed(tmp_path_factory.mktemp("finished"))
    output = succeed(study, "repro")
    assert len(ran(output)) == len(set(ran(output))) == 7 + 5 + 5 + 3
    small.commit(study)
    return study


def test_one_command_makes_everything_to_the_report(finished: Path) -> None:
    assert set(files.read_json(finished / "reports/metrics.json")) == {
        "baseline", "l2", "dropout", "sharpness", "contrast",
    }  # fmt: skip
    page = (finished / "reports/index.html").read_text()
    assert "sharpness" in page
    comparison = tables.read(finished / "reports/comparison.csv")
    assert len(comparison) == 5 * 2 * 2  # experiments, best and last, validation and test
    status = subprocess.run(["git", "status", "--short"], cwd=finished, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_nothing_runs_again_when_nothing_changed(finished: Path) -> None:
    assert ran(succeed(finished, "repro")) == ["source"]


def test_a_tried_change_retrains_what_it_touches_and_the_metrics_say_what_it_did(finished: Path) -> None:
    output = succeed(finished, "exp", "run", "-S", "model.dropout=0.5")
    trained = [name for name in ran(output) if name.startswith("train@")]
    assert sorted(trained) == ["train@baseline-0", "train@contrast-0", "train@l2-0", "train@sharpness-0"]
    assert not {"fetch", "index", "split", "cache"} & set(ran(output))
    diff = succeed(finished, "metrics", "diff")
    assert "baseline.test.auroc" in diff
    assert "dropout.test" not in diff
    succeed(finished, "plots", "diff")
    assert "baseline-0" in (finished / "dvc_plots/index.html").read_text()
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


def test_an_evaluation_does_not_train(finished: Path) -> None:
    small.edit(finished, lambda tree: tree["study"].update(baseline="l2"))
    assert ran(succeed(finished, "repro")) == ["source", "evaluate", "report"]
    small.git(finished, "checkout", "--quiet", "--", ".")


def test_a_removed_experiment_leaves_nothing_behind(finished: Path) -> None:
    small.edit(finished, lambda tree: tree["experiments"].pop("contrast"))
    assert ran(succeed(finished, "repro")) == ["source", "plan", "features", "evaluate", "explain", "report"]
    assert not (finished / "models/contrast").exists()
    assert "contrast" not in files.read_json(finished / "reports/metrics.json")
    small.git(finished, "checkout", "--quiet", "--", ".")
    succeed(finished, "checkout")


class Interrupted(NamedTuple):
    """A training whose dvc was killed, what it said until then, and what `dvc repro` said as it went on."""

    study: Path
    before: str
    after: str


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    study = committed(folder / "study", only("baseline"), longer)
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "train"],
            cwd=study, env=environment(SHELL="/bin/sh"), stdout=log, stderr=log,
        )  # fmt: skip
        wait_for(lambda: "epoch 2/30" in (folder / "log").read_text())
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not processes_in(study))
    return Interrupted(study, (folder / "log").read_text(), succeed(study, "repro", "train"))


def longer(tree: small.Tree) -> None:
    """Epochs enough that no machine is through before a signal is."""
    tree["train"].update(epochs=30)


def test_a_training_ends_with_its_dvc(interrupted: Interrupted) -> None:
    assert "epoch 30/30" not in interrupted.before


def test_a_killed_training_goes_on_after_its_last_finished_epoch(interrupted: Interrupted) -> None:
    assert "epoch 2/30" not in interrupted.after
    assert "epoch 30/30" in interrupted.after


def test_a_killed_training_comes_to_the_same_bytes(interrupted: Interrupted, tmp_path: Path) -> None:
    whole = committed(tmp_path, only("baseline"), longer)
    succeed(whole, "repro", "train")
    for name in ("best.safetensors", "last.safetensors", "history.csv"):
        ours, theirs = (study / "models/baseline/0" / name for study in (interrupted.study, whole))
        assert ours.read_bytes() == theirs.read_bytes()


def wait_for(condition: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """The processes whose working folder is `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [str(entry)] if entry.readlink() == folder else []
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


def test_another_clones_finished_work_is_restored_without_training(tmp_path: Path) -> None:
    theirs = committed(tmp_path / "theirs", only("baseline"))
    small.git(tmp_path, "clone", "--quiet", str(theirs), "ours")
    ours = tmp_path / "ours"
    for clone in (theirs, ours):
        succeed(clone, "remote", "add", "--default", "--local", "shared", str(tmp_path / "remote"))
    succeed(theirs, "repro")
    succeed(theirs, "push", "--run-cache")
    output = succeed(ours, "repro", "--pull")
    assert ran(output) == ["source"]
    assert "Stage 'train@baseline-0' is cached - skipping run" in output
    assert (ours / "reports/index.html").read_bytes() == (theirs / "reports/index.html").read_bytes()


def test_a_changed_folder_behind_an_unchanged_name_is_noticed(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images")
    study = committed(tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"))
    assert ran(succeed(study, "repro", "split")) == ["source", "fetch", "index", "split"]
    assert ran(succeed(study, "repro", "split")) == ["source"]
    small.write_images(images, ["Healthy/h0003.png"], seed=99)
    assert ran(succeed(study, "repro", "split")) == ["source", "fetch", "index", "split"]
    assert (study / "data/raw/Healthy/h0003.png").read_bytes() == (images / "Healthy/h0003.png").read_bytes()


def test_a_queued_experiment_runs_the_code_of_its_own_checkout(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", only("baseline"))
    succeed(study, "repro", "plan")
    small.commit(study)
    succeed(study, "exp", "run", "--queue", "-S", "train.epochs=3", "plan")
    code = study / "src/xraylab/stages/plan.py"
    code.write_text("raise SystemExit('this is the code of the workspace')\n")
    installed = {"PYTHONPATH": str(study / "src")}  # as an editable install of the workspace would have it
    workspace = subprocess.run(
        [sys.executable, "src", "plan"], cwd=study, env=environment(), capture_output=True, text=True, check=False
    )
    assert "this is the code of the workspace" in workspace.stderr
    succeed(study, "queue", "start", **installed)
    wait_for(lambda: re.search("Success|Failed", succeed(study, "queue", "status")) is not None)
    assert "Success" in succeed(study, "queue", "status")


def test_an_unknown_parameter_stops_dvc_before_anything_is_written(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", lambda tree: tree["train"].update(lrr=1e-3))
    done = dvc(study, "repro")
    assert done.returncode != 0
    assert "error: params.yaml cannot be used:\n  - train.lrr: unknown key; did you mean train.lr?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (study / "data").exists()


def test_an_experiments_name_is_never_run_by_the_shell(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", lambda tree: tree["experiments"].update({"x; touch hacked": {}}))
    done = dvc(study, "repro")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(study.rglob("hacked"))


def test_an_interpreter_without_the_packages_is_told_to_activate_the_environment(tmp_path: Path) -> None:
    study = small.study(tmp_path / "study")
    bare = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    done = subprocess.run(
        [bare, "-S", "-I", "src", "source"], cwd=study, capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 1
    assert "which xraylab needs." in done.stderr
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
