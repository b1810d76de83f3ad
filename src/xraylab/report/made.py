"""How the study was made: what is known of code, data, machines and time."""

import subprocess
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from xraylab.report.text import duration, listed

PACKAGES = ("xraylab", "dvc", "fastai", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib")


def commit(root: Path) -> str:
    """The commit that is checked out where the page is made, and whether files differ from it."""
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return "not known to the pipeline: the study lies in no git repository with a commit"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}{', with changes that were not committed' if changed else ''}"


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where it, or a repository, is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, encoding="utf-8", check=False)  # noqa: S603, S607
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> str:
    """Of what made the figures and the page, here."""
    found = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return listed([f"Python {python_version()}", *found])


def machines(runs: list[dict[str, Any]]) -> list[str]:
    """Each machine with which the networks were trained, once."""
    found = [run["hardware"] for run in runs]
    return list(
        dict.fromkeys(
            f"{item['device']} ({item['name']}), {item['precision']}, {item['threads']} threads, torch {item['torch']}"
            for item in found
        )
    )


def speed(run: dict[str, Any], images: int) -> dict[str, str]:
    """A run's time, and training images per second of it, validation and checkpoints included."""
    seconds = run["train_seconds"]
    passed = images * (run["last_epoch"] + 1)
    return {"time": duration(seconds), "rate": f"{passed / seconds:.0f}" if seconds else "not available"}
