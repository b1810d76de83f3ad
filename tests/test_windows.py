"""What only some systems have is missed nowhere: what Windows lacks is taken away, and everything goes on."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import small
from ruamel.yaml import YAML

from xraylab.data import export
from xraylab.errors import DataError
from xraylab.jobs import repro
from xraylab.jobs.dvc import Dvc

# Python's own modules and other packages, which know Windows, are imported before the names go
LACKING = """
import asyncio, importlib, os, pkgutil, runpy, signal, socket, subprocess, sys, tempfile
import filelock, psutil, torch, fastai.learner, fastai.callback.schedule, matplotlib.pyplot, pandas
import scipy.stats, sklearn.metrics, statistics, ctypes, multiprocessing.resource_tracker, concurrent.futures.process
LACKS = {
    os: "fork forkpty killpg getpgid setpgid setsid getuid geteuid getgid sched_getaffinity sched_setaffinity nice "
        "mkfifo wait3 wait4 O_DIRECTORY O_NOFOLLOW chown",
    signal: "SIGHUP SIGKILL SIGALRM SIGUSR1 SIGUSR2 SIGQUIT SIGCHLD alarm setitimer pthread_sigmask sigwait",
}
for module, names in LACKS.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
"""
IMPORTS = """
import xraylab
for found in pkgutil.walk_packages(xraylab.__path__, "xraylab."):
    if found.name != "xraylab.__main__":
        importlib.import_module(found.name)
"""
STAGES = """
from xraylab.cli import app
for command in (["--help"], ["repro", "--help"], ["source"], ["fetch"], ["index"], ["split"], ["cache"], ["configure"]):
    try:
        app(command)
    except SystemExit as ended:
        assert not ended.code, command
from xraylab.jobs import pool
from xraylab.jobs.engines.engine import Resources
assert pool.shares(2, [], Resources())[0].get("OMP_NUM_THREADS") == str(max(1, os.cpu_count() // 2))
"""


@pytest.mark.slow
def test_every_module_is_imported_and_light_stages_run_without_what_windows_lacks(tmp_path: Path) -> None:
    tree = YAML(typ="safe").load(small.REPOSITORY / "params.yaml")
    tree["data"]["demo"] |= {"n_healthy": 12, "n_tb": 8, "size": 64}
    tree["images"]["size"] = tree["model"]["img_size"] = 32
    YAML().dump(tree, tmp_path / "params.yaml")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", LACKING + IMPORTS + STAGES],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for made in ("data/index.csv", "data/split/train_data.csv", "data/cache/images.npy", "configs/baseline.yaml"):
        assert (tmp_path / made).is_file(), made
    ids = (tmp_path / "data/index.csv").read_text(encoding="utf-8")
    assert "\\" not in ids


def test_a_signal_reaches_the_jobs_where_the_loop_takes_no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped() -> int:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        came: list[int] = []
        monkeypatch.setattr(loop, "add_signal_handler", _not_implemented)
        repro._on_signal(signal.SIGTERM, lambda number: (came.append(number), ended.set()))
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(ended.wait(), 5)
        return came[0]

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert asyncio.run(stopped()) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def _not_implemented(*_: object) -> None:
    raise NotImplementedError


def test_where_there_are_no_groups_of_processes_all_that_was_started_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "killpg")

    async def below() -> int:
        async with Dvc(tmp_path)._guarded(["-c", "import time\n" + START], {}, subprocess.PIPE, None) as process:
            assert process.stdout is not None
            return int(await process.stdout.readline())

    pid = asyncio.run(below())
    _, alive = psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
    assert alive == []


# a stage that starts another process, says its number, and would go on for long, as that one
START = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
time.sleep(60)
"""


def test_a_link_that_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(22, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(DataError) as caught:
        export._put(tmp_path / "a.png", tmp_path / "out" / "a.png", link=True)
    place = tmp_path / "out" / "a.png"
    assert str(caught.value) == (
        f"{place}: no link can be made there (A required privilege is not held by the client): leave out --link"
    )
