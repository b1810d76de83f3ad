"""Studies for bench/accelerator.py: the shipped one, with other keys, run to the end or stage by stage."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import measure
from measure import REPOSITORY
from ruamel.yaml import YAML

from xraylab import template
from xraylab.jobs import pool
from xraylab.jobs.engines.engine import Resources
from xraylab.params import config
from xraylab.paths import Paths
from xraylab.stages import predict, train

PARTS = ("src", "dvc.yaml", "params.yaml", "constraints.txt", ".gitignore", ".dvcignore", ".dvc/config")
STAGES = [import_module(f"xraylab.stages.{name}") for name in template.stages() if name != "code"]  # as in dvc.yaml
BEFORE, AFTER = STAGES[: STAGES.index(train)], STAGES[STAGES.index(predict) + 1 :]
TAIL = 2000  # characters of what a failed command printed


def begun(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the shipped study with `change` made to its parameters."""
    for part in PARTS:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / part).is_dir():
            shutil.copytree(REPOSITORY / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(REPOSITORY / part, target)
    yaml = YAML()
    tree = yaml.load(folder / "params.yaml")
    change(tree)
    yaml.dump(tree, folder / "params.yaml")
    return folder


def command(folder: Path, *arguments: str, **extra: str) -> float:
    """Seconds of a command in the study's folder; RuntimeError with the end of what it printed where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")} | extra
    start = time.monotonic()
    done = subprocess.run(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: ...{done.stdout[-TAIL:]}")
    return time.monotonic() - start


def has_dvc() -> bool:
    """Whether `dvc repro` can run here: DVC, and git for its repository."""
    found = subprocess.run([sys.executable, "-m", "dvc", "--version"], capture_output=True, check=False)
    return found.returncode == 0 and shutil.which("git") is not None


def repro(folder: Path, *targets: str) -> float:
    """Seconds of `dvc repro`, in a repository made for it."""
    if not (folder / ".git").exists():
        command(folder, "git", "init", "--quiet")
    return command(folder, sys.executable, "-m", "dvc", "repro", *targets)


def stage(folder: Path, which: Any, *arguments: str | int) -> None:
    """One stage in this process."""
    start = time.monotonic()
    which.run(config.read(folder / "params.yaml"), Paths(folder), *arguments)
    name = " ".join([which.__name__.rpartition(".")[2], *map(str, arguments)])
    measure.say(f"{folder.name}: {name}: {time.monotonic() - start:.1f} s")


def in_order(folder: Path) -> float:
    """Seconds of all stages one after another, in this process."""
    start = time.monotonic()
    for each in BEFORE:
        stage(folder, each)
    for which in (train, predict):
        for experiment in experiments(folder):
            stage(folder, which, experiment, 0)
    for each in AFTER:
        stage(folder, each)
    return time.monotonic() - start


def experiments(folder: Path) -> list[str]:
    return list(config.read(folder / "params.yaml").experiments)


def trained_at_once(folder: Path, jobs: int) -> float:
    """Seconds of stage `train` for every experiment in processes of their own, so many at a time: without DVC."""
    shares = pool.shares(jobs, pool.gpus(), Resources())
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as executor:
        numbered = enumerate(experiments(folder))
        list(executor.map(lambda each: _trained(folder, each[1], shares[each[0] % jobs]), numbered))
    return time.monotonic() - start


def _trained(folder: Path, experiment: str, share: dict[str, str]) -> None:
    command(folder, sys.executable, "src", "train", experiment, "0", **share)
