"""What a run needs to go on after its last finished epoch, kept outside DVC's outputs, which DVC deletes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from xraylab import files
from xraylab.errors import TrainingError

STATE = "state.pt"


def key(*facts: Any) -> str:
    """A name for a run: the same facts (parameters, data, code, hardware, seed) give the same name."""
    return sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder. Errors: TrainingError while another process trains in it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(
            f"another process is training this very run ({folder.name}); wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def save(folder: Path, **state: Any) -> None:
    """Replace the run's state as a whole."""
    with files.replacing(folder / STATE) as temporary:
        torch.save(state, temporary)


def load(folder: Path) -> dict[str, Any] | None:
    """The state of the last finished epoch, or None before the first. Left-over temporary files are removed."""
    for leftover in folder.glob(".*"):
        leftover.unlink()
    path = folder / STATE
    return torch.load(path, weights_only=True) if path.exists() else None
