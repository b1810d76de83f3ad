"""Faults for a small study that runs under dvc: signals, full disks, flipped bits; and what became of it.

bench/faults.py injects many of them, tests/test_faults.py a few.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from under_dvc import committed, environment, only

RESULTS = ("data", "configs", "models", "predictions", "reports/evaluation")
CALLERS = {"dvc": ["dvc", "repro"], "repro --jobs": ["xraylab", "repro", "--jobs", "2"]}
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
PATIENCE = 60.0  # seconds within which what was told to end has to
ORPHANED = 2.0  # seconds after which nothing may live on
TAIL = 1500  # characters of an output


@dataclass(frozen=True)
class Attempt:
    """One start of the study: what was killed, in which stage, how it ended, and what lived on."""

    caller: str
    target: str
    signal: str
    stage: str
    returncode: int | None
    orphans: tuple[str, ...]
    output: str

    @property
    def killed(self) -> bool:
        """Whether the signal was sent at all: the command may have ended before."""
        return bool(self.signal)


def study(folder: Path, *experiments: str) -> Path:
    """A small study of the demo data, committed."""
    return committed(folder, only(*experiments))


def outcome(study: Path) -> dict[str, str]:
    """SHA-256 of every result, without the seconds that a training took: all that differs between two runs."""
    paths = [path for name in RESULTS for path in sorted((study / name).rglob("*")) if path.is_file()]
    made = {str(path.relative_to(study)): _untimed(path) for path in [*paths, study / "reports/metrics.json"]}
    return {name: hashlib.sha256(contents).hexdigest() for name, contents in made.items()}


def _untimed(path: Path) -> bytes:
    contents = path.read_bytes()
    return re.sub(rb'"train_seconds": [\d.]+', b"", contents) if path.suffix == ".json" else contents


def left_behind(study: Path) -> list[str]:
    """What git would add, and belongs to nobody: temporary files."""
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    lines = subprocess.run(status, cwd=study, capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line[3:] for line in lines if line.startswith("??")]
    return [name for name in names if re.search(r"(^|/)\.[^/]*$|\.tmp", name) and not name.endswith(".gitkeep")]


def attempt(
    study: Path, caller: str, target: str, name: str, seconds: float,
    *, importing: bool = False, patience: float = PATIENCE,
) -> Attempt:  # fmt: skip
    """Run the study; after `seconds`, or so long after a stage has started where `importing`, send the signal.

    `target`: "caller", "stage" (the process that computes), or "group" (all, as Ctrl-C does). `patience` are the
    seconds within which it has to end: dvc passes over a SIGINT to itself alone while a stage runs, and goes on.
    """
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", *CALLERS[caller]]
        _heed_sigint()
        how: dict[str, Any] = {"cwd": study, "env": environment(), "stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, start_new_session=True, **how)
        known = {each.pid for each, _ in stages_in(study)}
        if importing:
            _wait(process, PATIENCE, lambda: bool({each.pid for each, _ in stages_in(study)} - known))
        _wait(process, seconds)
        running = stages_in(study)
        stage = running[-1][1] if running else ""
        sent = _send(process, target, SIGNALS[name], running)
        returncode = _ended(process, patience)
        time.sleep(ORPHANED if sent else 0)
        orphans = [_describe(each) for each in processes_in(study)] if returncode is not None else []
        for each in processes_in(study):
            with suppress(psutil.Error):
                each.kill()
        process.wait()
        log.seek(0)
        return Attempt(caller, target, name if sent else "", stage, returncode, tuple(orphans), log.read()[-TAIL:])


def _heed_sigint() -> None:
    """What a shell starts in the background ignores SIGINT, and so would the processes that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _wait(process: subprocess.Popen[bytes], seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end and not until():
        time.sleep(0.02)


def _send(
    process: subprocess.Popen[bytes], target: str, number: signal.Signals, running: list[tuple[psutil.Process, str]]
) -> bool:
    if process.poll() is not None:
        return False
    with suppress(ProcessLookupError, psutil.Error):
        if target == "group":
            os.killpg(process.pid, number)
        elif target == "stage" and running:
            running[-1][0].send_signal(number)
        else:
            process.send_signal(number)
        return True
    return False


def _ended(process: subprocess.Popen[bytes], patience: float) -> int | None:
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        return None


def processes_in(folder: Path) -> list[psutil.Process]:
    """The living processes that work in a study, or in a folder of it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def stages_in(study: Path) -> list[tuple[psutil.Process, str]]:
    """The processes of stages, and which stage each is; the one that began last comes last."""
    found = []
    for process in processes_in(study):
        with suppress(psutil.Error, OSError):
            stage = process.environ().get("DVC_STAGE", "")
            if stage and "python" in process.name():
                found.append((process, stage))
    return sorted(found, key=lambda pair: pair[0].pid)


def _describe(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid}: {' '.join(process.cmdline())[:120]}"
    return str(process.pid)


def flip_bit(path: Path, draw: random.Random) -> None:
    """Flip one bit of a file; its size and its times stay, so that nobody notices who only looks at these."""
    before, contents = path.stat(), bytearray(path.read_bytes())
    contents[draw.randrange(len(contents))] ^= 1 << draw.randrange(8)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(contents)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes in memory, mounted at a folder. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        for each in processes_in(folder):
            with suppress(psutil.Error):
                each.kill()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def enlarge(folder: Path, size: int) -> None:
    """Give the disk of `disk` another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def copy(study: Path, target: Path) -> Path:
    """The study as it stands, at another place."""
    return Path(shutil.copytree(study, target, symlinks=True))


def run(study: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of dvc or xraylab in the study: its status and all that it printed."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=study, env=environment(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
