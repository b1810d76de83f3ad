"""Locks that say who holds them."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from xraylab.errors import XraylabError


@contextmanager
def held(
    path: Path, busy: str, advice: str, wait: bool = False, error: type[XraylabError] = XraylabError
) -> Iterator[None]:
    """Hold a lock file, which is removed at the end; a killed process gives it back.

    Errors: `error` with `busy`, who holds it and `advice` while another process does, unless it is to be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise error(f"{busy}{holder(path)}; {advice}") from None
    try:
        with suppress(OSError):
            record = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            path.write_text(json.dumps(record), encoding="utf-8")
        yield
    finally:
        _remove(path)
        lock.release()


def holder(path: Path) -> str:
    """Who holds a lock, to follow upon what it is held for; empty where that is not known, as on Windows."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return f": process {record['pid']} on {record['host']}, since {record['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at this moment."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (OSError, Timeout):
        return True


def remove_free(folder: Path) -> list[Path]:
    """Remove the lock files in a folder that no process holds, and return them."""
    removed = []
    for path in sorted(folder.glob("*.lock")):
        with suppress(OSError, Timeout):
            with FileLock(path, timeout=0):
                _remove(path)
            removed.append(path)
    return removed


def _remove(path: Path) -> None:
    """Remove a lock file while it is held: filelock tries again where it gets a file that has no name any more."""
    with suppress(OSError):  # Windows removes no open file; there filelock does it
        path.unlink(missing_ok=True)
