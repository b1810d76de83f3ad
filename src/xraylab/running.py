"""Stages that run now: each keeps a small file in .xraylab/running while it works, which `xraylab watch` reads.

It changes nothing of a result, and where it cannot be written the stage goes on without it.
"""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import UnionType

import psutil

FILE = "XRAYLAB_RUNNING"  # in the environment: the file of the stage that runs, also for the processes that it starts
EVERY = 1.0  # seconds between two changes within an epoch, at least


@dataclass(frozen=True)
class Running:
    """A stage at work; `epoch`: finished ones. `problem`: why it has failed, and then it no longer runs."""

    stage: str
    pid: int
    created: float
    node: str
    started: float
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    monitor: str = ""
    seconds_left: float | None = None
    problem: str = ""

    @property
    def alive(self) -> bool:
        """Return whether its process lives; one of another machine is taken to."""
        if self.node != platform.node():
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.created) < 1
        except psutil.Error:
            return False


NUMBER = int | float
KINDS: dict[str, type | UnionType] = {
    "stage": str, "pid": int, "created": NUMBER, "node": str, "started": NUMBER, "epoch": int, "epochs": int,
    "metrics": dict, "monitor": str, "seconds_left": NUMBER | None, "problem": str,
}  # fmt: skip
"""The types of a record's values."""


@contextmanager
def recorded(folder: Path, stage: str) -> Iterator[None]:
    """Keep the file of a stage, as DVC names it, while the block runs; where it fails, the file stays and says why."""
    path = folder / f"{stage.replace('/', '-of-')}.{os.getpid()}.json"
    created = psutil.Process().create_time()
    record = Running(stage, os.getpid(), created, platform.node(), time.time())
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        _forget(folder, stage)
        _write(path, record)
    before = os.environ.get(FILE)
    os.environ[FILE] = str(path)
    try:
        yield
    except BaseException as error:
        with suppress(OSError, ValueError, TypeError):
            first = (str(error) or type(error).__name__).splitlines()[0]
            _write(path, replace(_read(path), problem=first))
        raise
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    finally:
        os.environ.pop(FILE)
        if before is not None:
            os.environ[FILE] = before


def _forget(folder: Path, stage: str) -> None:
    """Remove what earlier attempts of the stage have left."""
    for path, record in _records(folder):
        if record.stage == stage and (record.problem or not record.alive):
            path.unlink(missing_ok=True)


def epoch(done: int, epochs: int, metrics: dict[str, float], monitor: str, seconds_left: float | None) -> None:
    """Say how far a training is, where a stage runs."""
    name = os.environ.get(FILE)
    if name is None:
        return
    with suppress(OSError, ValueError):
        record = _read(Path(name))
        record = replace(record, epoch=done, epochs=epochs, monitor=monitor, seconds_left=seconds_left)
        _write(Path(name), replace(record, metrics=metrics or record.metrics))


def read(folder: Path) -> list[Running]:
    """Every stage that runs, has failed, or was cut off; the one that began first comes first."""
    return sorted((record for _, record in _records(folder)), key=lambda record: record.started)


def _records(folder: Path) -> Iterator[tuple[Path, Running]]:
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError, TypeError, RecursionError):  # removed meanwhile, or of another version
            yield path, _read(path)


def _read(path: Path) -> Running:
    """Errors: OSError, ValueError, TypeError, RecursionError."""
    record = Running(**json.loads(path.read_text(encoding="utf-8")))
    others = [name for name, kind in KINDS.items() if not isinstance(getattr(record, name), kind)]
    if others or not all(isinstance(value, NUMBER | None) for value in record.metrics.values()):
        raise TypeError(f"{path} describes no stage")
    return record


def _write(path: Path, record: Running) -> None:
    """Whole or not at all, without a wait for the disk: it need not survive a crash of the machine."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.replace(path)
