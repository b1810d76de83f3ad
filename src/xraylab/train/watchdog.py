"""A watchdog: a training process ends with the dvc that started it."""

import os
import signal
import sys
import threading
import time
from types import FrameType

import psutil

SHELLS = {"sh", "dash", "ash", "bash", "ksh", "zsh", "fish", "cmd.exe"}
GLANCE = 0.5  # seconds between two looks at who is above
GRACE = 5  # seconds for an orderly exit


def end_with_dvc() -> None:
    """Turn SIGTERM into an orderly exit, and end by one when the dvc that started this process has ended.

    Without it, killing dvc leaves the training running, and the next `dvc repro` starts a second one. A process that
    dvc did not start goes on, whatever becomes of its parent.
    """
    signal.signal(signal.SIGTERM, _exit)
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch, args=[_starters()], daemon=True).start()


def _starters() -> list[int]:
    """The ids of the processes above this one up to dvc, which starts a stage in a shell that may stay in between."""
    above = psutil.Process().parents()
    shells = next((number for number, process in enumerate(above) if process.name() not in SHELLS), len(above))
    return [process.pid for process in above[: shells + 1]]


def _watch(starters: list[int]) -> None:
    """End this process once one of `starters` has ended, which gives its children another parent."""
    while [process.pid for process in psutil.Process().parents()[: len(starters)]] == starters:
        time.sleep(GLANCE)
    os.kill(os.getpid(), signal.SIGTERM)


def _exit(number: int, frame: FrameType | None) -> None:
    alarm = getattr(signal, "alarm", None)  # Windows has none
    if alarm is not None:
        alarm(GRACE)  # an exit raised within a destructor is swallowed: then the kernel ends us
    sys.exit(128 + number)
