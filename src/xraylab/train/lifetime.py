"""A training process ends with the dvc that started it."""

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1
GRACE = 5  # seconds for an orderly exit


def end_with_parent() -> None:
    """On Linux, ask for SIGTERM when the parent dies; everywhere, turn SIGTERM into an orderly exit.

    Without it, killing dvc leaves the training running, and the next `dvc repro` starts a second one.
    """
    signal.signal(signal.SIGTERM, _exit)
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(128 + signal.SIGTERM)


def _exit(number: int, frame: FrameType | None) -> None:
    if sys.platform != "win32":
        signal.alarm(GRACE)  # an exit raised within a destructor is swallowed: then the kernel ends us
    sys.exit(128 + number)
