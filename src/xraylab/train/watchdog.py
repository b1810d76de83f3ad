"""A watchdog: a training process ends with the dvc, or with the process, that started it."""

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


def end_with(parent: int) -> None:
    """End at once on SIGTERM or SIGINT, and when the process `parent`, which started this one, has ended.

    Not by an orderly exit: a process that waits for another one's part of a batch hears of no Python handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_watch_parent, args=[parent], daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(GLANCE)
    os._exit(1)


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
