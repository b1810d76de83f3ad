"""Small studies under the real dvc: made, committed, run and watched."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import small


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


def ran(output: str) -> list[str]:
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
