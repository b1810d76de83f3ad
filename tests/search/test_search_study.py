"""Searches of a small study under the real dvc."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import small
from under_dvc import committed, dvc, environment, only, succeed, wait_for

from xraylab import files, tables

pytestmark = pytest.mark.slow


def test_a_search_makes_experiments_that_can_be_applied(tmp_path: Path) -> None:
    images = small.two_classes(tmp_path / "images")
    study = committed(
        tmp_path / "study", small.use(images, ["Healthy", "TB"], "TB"), only("baseline", "l2"), two_trials
    )
    for trials in (1, 2):  # the second time it goes on, after a commit
        small.edit(study, lambda tree, trials=trials: tree["search"].update(trials=trials))
        small.commit(study)
        done = subprocess.run(
            [sys.executable, "-m", "xraylab", "search"],
            cwd=study, env=environment(CUDA_VISIBLE_DEVICES=""), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count("trial 0: valid_f1") == (trials == 1)
    table = tables.read(study / "reports/search/trials.csv")
    assert list(table["state"]) == ["finished"] * 2
    best = table.loc[pd.to_numeric(table["value"]).idxmax()]
    assert not (study / "models").exists()  # of the user's own checkout
    assert not list((study / ".xraylab/runs").glob("*/"))
    dvc(study, "exp", "apply", best["trial"])  # it misses the predictions and the report, which nobody has made
    changed = files.read_yaml(study / "params.yaml")["experiments"]
    assert changed == {
        "baseline": {"train": {"lr": pytest.approx(best["train.lr"]), "optimizer": best["train.optimizer"]}},
        "l2": {"loss": {"l2": 0.001}},
    }
    assert tables.read(study / "models/baseline/0/history.csv")["valid_f1"].max() == pytest.approx(float(best["value"]))
    assert not list(study.glob("predictions/**/*.csv"))  # nobody has looked at the test split


def two_trials(tree: small.Tree) -> None:
    tree["train"].update(epochs=1)
    tree["search"]["space"] = {
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "train.optimizer": ["adam", "adamw"],
    }


def test_a_grid_is_a_queue_of_experiments(tmp_path: Path) -> None:
    study = committed(tmp_path / "study", only("baseline"))
    succeed(study, "repro", "configure")
    small.commit(study)
    grid = ("-S", "train.lr=1e-3,1e-4", "-S", "model.dropout=0.5")
    succeed(study, "exp", "run", "--queue", "--name", "grid", *grid, "configure")
    succeed(study, "queue", "start")
    wait_for(lambda: succeed(study, "queue", "status").count("Success") == 2)
    found = set()
    for number in (1, 2):
        dvc(study, "exp", "apply", f"grid-{number}")  # it misses the stages after configure
        cfg = files.read_yaml(study / "configs/baseline.yaml")
        found.add((cfg["train"]["lr"], cfg["model"]["dropout"]))
    assert found == {(1e-3, 0.5), (1e-4, 0.5)}
