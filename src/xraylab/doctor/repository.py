"""Permissions of the folders that a run writes, git, and DVC's settings."""

import configparser
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from xraylab import files, leftovers
from xraylab.doctor.finding import Finding, Subject
from xraylab.errors import DiskError
from xraylab.paths import Paths

FOLDERS, GIT_AND_DVC = "folders", "git and DVC"


def check_folders(subject: Subject) -> Iterator[Finding]:
    """Each folder that stages write: a file is made in it and removed."""
    if subject.paths is None:
        return
    paths = subject.paths
    folders = [paths.root, paths.root / "data", paths.state, paths.models, paths.predictions, paths.reports]
    folders += [paths.features, paths.configs, paths.root / ".dvc/tmp", paths.root / ".dvc/cache"]
    problems = [problem for folder in folders if folder.exists() and (problem := _unwritable(folder))]
    yield from problems
    if not problems:
        yield Finding(FOLDERS, "ok", "all folders that stages write can be written")


def _unwritable(folder: Path) -> Finding | None:
    try:
        files.require_writable(folder)
    except DiskError as error:
        fact, _, advice = str(error).partition(": ")
        return Finding(FOLDERS, "error", fact, advice)
    return None


def check(subject: Subject) -> Iterator[Finding]:
    """What git and DVC have, and settings with which a study loses something."""
    if subject.paths is None:
        return
    paths = subject.paths
    yield from _git(paths)
    if leftovers.dvc_folder(paths.root) is None:
        yield Finding(GIT_AND_DVC, "error", "DVC is not set up here", "dvc init")
        return
    yield from _dvc(_config(paths))


def _git(paths: Paths) -> Iterator[Finding]:
    root = _run(paths.root, "rev-parse", "--show-toplevel")
    if root is None:
        yield Finding(GIT_AND_DVC, "warning", "no git repository: dvc exp and dvc metrics diff need one", "git init")
        return
    changed = _run(paths.root, "status", "--porcelain", "--untracked-files=no") or ""
    number = len(changed.splitlines())
    yield Finding(
        GIT_AND_DVC, "ok", f"git: {f'{number} changed files' if number else 'nothing changed'} since the last commit"
    )
    lock = Path(root) / ".git/index.lock"
    if lock.exists():
        yield Finding(
            GIT_AND_DVC,
            "error",
            f"{lock} exists: git, and dvc with it, refuses to go on while a git works or after one was killed",
            f"if no git runs: rm {lock}",
        )


def _run(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - git
            ["git", *arguments],  # noqa: S607
            cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _config(paths: Paths) -> dict[str, dict[str, str]]:
    """DVC's settings of the machine, the user, the study and this checkout; the latter ones count more."""
    from xraylab.integrity.cache import config_files  # noqa: PLC0415

    merged: dict[str, dict[str, str]] = {}
    for path in reversed(config_files(paths.root)):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read(path, encoding="utf-8")
        for section in parser.sections():
            merged.setdefault(section.strip("'\""), {}).update(parser[section])
    return merged


def _dvc(config: dict[str, dict[str, str]]) -> Iterator[Finding]:
    core = config.get("core", {})
    remotes = [name.removeprefix('remote "').rstrip('"') for name in config if name.startswith("remote ")]
    if remotes:
        default = core.get("remote")
        advice = "" if default else f"dvc remote default {remotes[0]}"
        text = f"DVC's remotes: {', '.join(remotes)}; default: {default or 'none'}"
        yield Finding(GIT_AND_DVC, "ok" if default else "warning", text, advice)
    else:
        yield Finding(
            GIT_AND_DVC, "ok", "DVC has no remote: outputs are on this disk alone", "dvc remote add --default NAME URL"
        )
    if _on(core, "no_scm"):
        yield Finding(
            GIT_AND_DVC,
            "warning",
            "DVC is set up without git (core.no_scm): no experiments, no comparison with earlier commits",
            "dvc config --unset core.no_scm",
        )
    if _on(core, "autostage"):
        yield Finding(GIT_AND_DVC, "ok", "DVC adds dvc.lock to git by itself (core.autostage)")
    if _on(core, "hardlink_lock"):
        yield Finding(
            GIT_AND_DVC,
            "warning",
            "a killed dvc leaves its lock (core.hardlink_lock), and nobody can tell whose it is",
            "if dvc says `Unable to acquire lock` and none runs: rm .dvc/tmp/lock .dvc/tmp/rwlock.lock",
        )
    kinds = config.get("cache", {}).get("type", "")
    if "hardlink" in kinds and hasattr(os, "geteuid") and os.geteuid() == 0:
        yield Finding(
            GIT_AND_DVC,
            "warning",
            "outputs are hard links into DVC's cache (cache.type), and root can write them: a change damages the cache",
            "dvc config cache.type reflink,copy",
        )


def _on(core: dict[str, str], name: str) -> bool:
    return core.get(name, "").lower() in ("true", "1", "yes", "on")
