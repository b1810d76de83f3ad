"""Run a command, and end it with all that it started when told to, or when the process that asked for it is gone.

Started by its path: `python -I -S guard.py PARENT COMMAND...`, where PARENT is the asking process; only the standard
library is at hand. It stands between xraylab and dvc because a signal to dvc, also the one that the kernel sends when
a parent dies, does not reach the stage that dvc runs. It lives to the end, so that no dead dvc stays in the table of
processes, where dvc's locks would take it for a living one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

GRACE = 10.0  # seconds to end in good order
CHECK = 0.2


def main(parent: int, command: list[str]) -> int:
    """The command's exit status. One SIGTERM ends it in good order, another one at once."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: asked.append(number))
    child = subprocess.Popen(command, process_group=0)  # noqa: S603 - xraylab's own dvc
    while not _ended(child):
        if asked or os.getppid() != parent:
            _end(child, asked)
    return child.returncode


def _end(child: subprocess.Popen[bytes], asked: list[int]) -> None:
    """SIGINT first: it is the signal at which dvc gives its locks back."""
    _tell(child, signal.SIGINT)
    end = time.monotonic() + GRACE
    while time.monotonic() < end and len(asked) < 2 and not _ended(child):
        pass
    _tell(child, getattr(signal, "SIGKILL", signal.SIGTERM))


def _ended(child: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(CHECK)
    return child.returncode is not None


def _tell(child: subprocess.Popen[bytes], number: int) -> None:
    """To the command and all that it has started; on Windows, which has no groups, the caller ends the latter."""
    group = getattr(os, "killpg", None)
    with contextlib.suppress(ProcessLookupError):
        if group is None:
            child.kill()
        else:
            group(child.pid, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
