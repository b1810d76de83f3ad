"""Processes that end with the one that started them and in good order, and owners of files that can be told dead.

A stage calls `begin` at its first line, before it imports anything else; hence the standard library alone.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

STAGE = "DVC_STAGE"  # DVC sets it in the environment of a stage
LAUNCHER = "XRAYLAB_LAUNCHER"  # in the environment of one of several processes for one training: who started it
SHELLS = {"sh", "dash", "ash", "bash", "ksh", "zsh", "fish", "cmd.exe"}
ADOPTERS = {"systemd", "init", "launchd", "tini", "docker-init", "dumb-init", "catatonit", "conmon", "containerd-shim"}
"""Processes that children whose parent has ended are left to; elsewhere it is the first process of all."""
PR_SET_PDEATHSIG = 1
GLANCE = 0.2  # seconds between two looks at who is above
GRACE = 5  # seconds for an orderly exit
GRACE_OF_ORPHAN = 1.2  # the same once dvc has ended: whoever starts it anew must not meet this process
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def begin() -> None:
    """Make a process of the command line end in good order, and end with the process that needs it.

    SIGTERM and SIGHUP become an orderly exit. A process that dvc started, as DVC_STAGE tells, ends with that dvc; one
    of several for one training ends with their launcher. Any other goes on, whatever becomes of its parent.
    """
    if launcher := os.environ.get(LAUNCHER):
        end_with(int(launcher))
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _exit)
    under_dvc = STAGE in os.environ
    if under_dvc:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        _ask_kernel(signal.SIGTERM)
    starters = _starters() if under_dvc else []
    if under_dvc and _adopted(starters):
        sys.exit(128 + signal.SIGTERM)
    threading.Thread(target=_watch, args=[starters, _signals()], daemon=True).start()


def end_with(parent: int) -> None:
    """End at once on SIGTERM or SIGINT, and when the process `parent`, which started this one, has ended.

    Not by an orderly exit: a process that waits for another one's part of a batch hears of no Python handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _ask_kernel(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch_parent, args=[parent], daemon=True).start()


def end_with_creator() -> None:
    """End a worker of multiprocessing when the process that created it has ended: an `initializer` of pools."""
    from multiprocessing import parent_process  # noqa: PLC0415 - workers alone need it

    creator = parent_process()
    if creator is None or creator.pid is None:
        raise RuntimeError("this process was not started by multiprocessing")
    if os.getppid() == creator.pid:  # not so below a server of forks
        _ask_kernel(signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_wait_for, args=[creator], daemon=True).start()


def _wait_for(creator: "BaseProcess") -> None:
    creator.join()
    os._exit(1)


def _ask_kernel(number: int) -> None:
    """Linux sends the signal when the parent ends; other systems have nothing like it, and there the thread looks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(GLANCE)
    os._exit(1)


def _starters() -> list[int]:
    """The ids of the processes above this one up to dvc: shells, and tools such as `timeout`, may stand in between."""
    above: list[int] = []
    process = os.getppid()
    while process:
        above.append(process)
        name, parent = _name_and_parent(process)
        if name not in SHELLS and not _knows_stage(process):
            break
        process = parent
    return above


def _knows_stage(process: int) -> bool:
    """Return whether dvc has started the process too: its environment tells, as far as Linux shows it."""
    try:
        return f"\0{STAGE}=".encode() in b"\0" + Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False


def _name_and_parent(process: int) -> tuple[str, int]:
    """Of a process that has ended: nothing, and 0."""
    if sys.platform == "linux":
        try:
            before, _, after = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")
        except OSError:
            return "", 0
        return before.partition("(")[2], int(after.split()[1])
    import psutil  # noqa: PLC0415 - its import takes longer than all that a stage does first

    try:
        found = psutil.Process(process)
        return found.name(), found.ppid()
    except psutil.Error:
        return "", 0


def _adopted(starters: list[int]) -> bool:
    """Return whether dvc has ended already. dvc may itself be the first process of all, as in a container."""
    if not starters:
        return False
    name = _name_and_parent(starters[-1])[0]
    return name in ADOPTERS or (starters[-1] == 1 and not _runs_python(1))


def _runs_python(process: int) -> bool:
    try:
        command = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return True
    return any("python" in Path(word).name or Path(word).name == "dvc" for word in command[:3])


def _orphaned(starters: list[int]) -> bool:
    """Return whether one of the starters has ended, which gives its children another parent."""
    process = os.getpid()
    for starter in starters:
        parent = os.getppid() if process == os.getpid() else _name_and_parent(process)[1]
        if parent != starter:
            return True
        process = starter
    return bool(starters) and not _lives(starters[-1])


def _lives(process: int) -> bool:
    """A system without adoption, Windows, goes on to tell the id of a parent that has ended."""
    return os.name != "nt" or _name_and_parent(process) != ("", 0)


def _signals() -> int | None:
    """A pipe that gets a byte for each signal, also while Python runs nothing: within a library, or an import."""
    if not hasattr(os, "fork"):
        return None
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget_signals)
    return reading


def _forget_signals() -> None:
    """A fork has the pipe too, and a signal to it is none to this process."""
    signal.set_wakeup_fd(-1)
    for number in (*SIGNALS, signal.SIGINT):
        if signal.getsignal(number) in (_exit, _interrupt):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _watch(starters: list[int], signals: int | None) -> None:
    """End this process in good order once it is an orphan, and for good where a signal did not end it in time."""
    while True:
        time.sleep(GLANCE)
        if _orphaned(starters):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(GRACE_OF_ORPHAN)
            os._exit(128 + signal.SIGTERM)
        for number in _received(signals):
            if signal.getsignal(number) in (_exit, _interrupt):  # another command may have put its own in their place
                _end_after(GRACE, starters)
                os._exit(128 + number)


def _received(signals: int | None) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return b"" if signals is None else os.read(signals, 64)
    return b""


def _end_after(seconds: float, starters: list[int]) -> None:
    """Wait so long, but shorter for an orphan."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(GLANCE)
        if _orphaned(starters):
            end = min(end, time.monotonic() + GRACE_OF_ORPHAN)
            starters = []


def _exit(number: int, frame: FrameType | None) -> None:
    _alarm()
    sys.exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _alarm()
    signal.default_int_handler(number, frame)


def _alarm() -> None:
    alarm = getattr(signal, "alarm", None)  # Windows has none
    if alarm is not None:
        alarm(GRACE)  # an exit raised within a destructor is swallowed: then the kernel ends us


@dataclass(frozen=True)
class Owner:
    """A process, such that it can be told dead on its own machine: a later one may have its id, not its start."""

    host: str
    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Owner":
        return cls(_host(), pid, _start(pid) or 0)

    @property
    def tag(self) -> str:
        """The owner as part of a file's name."""
        return f"{self.host}-{self.pid:x}-{self.started:x}"

    @classmethod
    def parse(cls, tag: str) -> "Owner | None":
        """The owner that a tag names; None where it names none."""
        try:
            host, pid, started = tag.split("-")
            return cls(host, int(pid, 16), int(started, 16))
        except ValueError:
            return None

    @property
    def is_here(self) -> bool:
        """Return whether it is of this machine, and of this container."""
        return self.host == _host()

    @property
    def is_dead(self) -> bool:
        """Only of this machine is it known."""
        return self.is_here and _start(self.pid) != self.started


def me() -> Owner:
    """This process; a fork is another one."""
    return _owner(os.getpid())


@cache
def _owner(pid: int) -> Owner:
    return Owner.of(pid)


@cache
def _host() -> str:
    """A short hash of the machine and, on Linux, of its processes' name space: a container counts anew."""
    space = ""
    with contextlib.suppress(OSError):
        space = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        space += str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


@cache
def _boot() -> int:
    """A number that differs from one start of the machine to the next; processes then have the same ids again."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return int(hashlib.sha256(boot.encode()).hexdigest()[:6], 16)
    return 0


def _start(pid: int) -> int | None:
    """A number for the start of a process, which no change of the clock changes; None where there is no process."""
    if sys.platform == "linux":
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return (
            None if state == "Z" else int(fields[18]) << 24 | _boot()
        )  # it has ended, and its parent has not waited for it
    import psutil  # noqa: PLC0415

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
