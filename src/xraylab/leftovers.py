"""Temporary files, and DVC's locks, that a killed process has left: what is provably dead is removed.

A temporary file names its owner, so that another process of the same machine can tell whether it still lives.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xraylab import processes
from xraylab.processes import Owner

MARK = "xraylab-"
TEMPORARY = re.compile(rf"(?:\..*\.)?{MARK}([0-9a-f]{{8}}-[0-9a-f]+-[0-9a-f]+)-\w{{8}}")
DEPTH = 3  # folders below a study's top in which stages write
SKIPPED = {".git", ".dvc", ".venv", "src", "raw", "cache", "gallery", "explain"}  # large, and nothing is written beside
NAME = 120  # bytes of a file's name in the name of its temporary, which may have 255
TRIES, PAUSE = 5, 0.2
AFTER = 2  # seconds by which clocks of files and processes may differ


def prefix(name: str = "") -> str:
    """The begin of a temporary's name, for `tempfile`: hidden, with the name that it stands for and this process."""
    short = os.fsencode(name)[:NAME].decode("utf-8", "ignore")
    return f"{f'.{short}.' if name else ''}{MARK}{processes.me().tag}-"


@contextmanager
def temporary_folder(where: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end; by default in the system's place for them."""
    with tempfile.TemporaryDirectory(dir=where, prefix=prefix(), ignore_cleanup_errors=True) as name:
        yield Path(name)


def temporaries(root: Path) -> Iterator[tuple[Path, Owner]]:
    """The temporaries in a study and in the system's place for them, of living processes too."""
    yield from _below(root, DEPTH)
    yield from _below(Path(tempfile.gettempdir()), 0)


def _below(folder: Path, depth: int) -> Iterator[tuple[Path, Owner]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if match := TEMPORARY.fullmatch(entry.name):
                if owner := Owner.parse(match[1]):
                    yield Path(entry.path), owner
            elif depth and entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), depth - 1)


def sweep(root: Path) -> list[Path]:
    """Remove the temporaries of processes that have ended, and return them; what cannot be removed stays."""
    dead = [path for path, owner in temporaries(root) if owner.is_dead]
    for path in dead:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return [path for path in dead if not os.path.lexists(path)]


def mend(root: Path) -> list[str]:
    """Mend a study after a process was killed. Returns a sentence for each thing that was done."""
    said = [f"removed {path}, which a process that has ended had left" for path in sweep(root)]
    return said + mend_rwlock(root)


def mend_rwlock(root: Path) -> list[str]:
    """Remove DVC's list of locks where a killed dvc has left half of it, and locks of processes that are no dvc.

    With a torn list every dvc command fails for ever; dvc removes the locks of ids that nobody has by itself, and waits
    for ever where another process has got the id since.
    """
    folder = dvc_folder(root)
    if folder is None or not _unusable(folder / "tmp/rwlock"):
        return []
    for _ in range(TRIES):
        if (said := _mended(folder / "tmp/rwlock")) is not None:
            return said
        time.sleep(PAUSE)
    return []


def dvc_folder(root: Path) -> Path | None:
    """The folder .dvc of the repository that `root` lies in."""
    return next((each / ".dvc" for each in (root, *root.parents) if (each / ".dvc").is_dir()), None)


def _mended(path: Path) -> list[str] | None:
    """None while a dvc edits the list, as a lock on the file beside it tells."""
    from zc import lockfile  # type: ignore[import-untyped] # noqa: PLC0415 - dvc's, for the one case that needs it

    guard = path.with_name("rwlock.lock")
    if guard.exists() and guard.stat().st_nlink > 1:  # core.hardlink_lock: to whom it belongs nobody can tell
        return None
    try:
        lock = lockfile.LockFile(str(guard))
    except lockfile.LockError:
        return None
    try:
        if not _unusable(path):
            return []
        if (tree := _parse(path)) is None:
            path.unlink()
            return [f"removed {path}, which a killed dvc had left half-written: every dvc command failed"]
        return _without_dead(path, tree)
    finally:
        lock.close()


def _without_dead(path: Path, tree: dict[str, Any]) -> list[str]:
    dead = {info["pid"]: info["cmd"] for info in _infos(tree) if _is_foreign(info, path.stat().st_mtime)}
    write = {name: info for name, info in tree.get("write", {}).items() if info["pid"] not in dead}
    read = {name: [info for info in infos if info["pid"] not in dead] for name, infos in tree.get("read", {}).items()}
    temporary = path.with_name("rwlock.mended")
    temporary.write_text(json.dumps({"write": write, "read": {name: infos for name, infos in read.items() if infos}}))
    temporary.replace(path)
    return [f"removed the locks of `{cmd}` from {path}: process {pid} is another one now" for pid, cmd in dead.items()]


def _unusable(path: Path) -> bool:
    """Return whether the list exists and is torn, or names a process that cannot have written it."""
    try:
        written = path.stat().st_mtime
        tree = _parse(path)
    except FileNotFoundError:
        return False
    return tree is None or any(_is_foreign(info, written) for info in _infos(tree))


def _parse(path: Path) -> dict[str, Any] | None:
    """The list of locks; None where dvc could not read it. Errors: FileNotFoundError."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return tree if set(tree) <= {"read", "write"} and all(_is_info(info) for info in _infos(tree)) else None
    except (ValueError, TypeError, AttributeError):
        return None


def _infos(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [*tree.get("write", {}).values(), *(info for infos in tree.get("read", {}).values() for info in infos)]


def _is_info(info: Any) -> bool:
    return isinstance(info, dict) and isinstance(info.get("pid"), int) and isinstance(info.get("cmd"), str)


def _is_foreign(info: dict[str, Any], written: float) -> bool:
    """Return whether the process began after the list was written, and is no dvc."""
    import psutil  # noqa: PLC0415 - this module is imported wherever files are written

    try:
        process = psutil.Process(info["pid"])
        return process.create_time() > written + AFTER and not any("dvc" in word for word in process.cmdline())
    except psutil.Error:
        return False  # nobody has the id: dvc itself removes its locks
