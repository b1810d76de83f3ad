"""Failures of the system in a sentence: a full disk, a file that may not be written, no memory left."""

import errno
import os

ADVICE = {
    errno.EACCES: "change its permissions or its owner",
    errno.EPERM: "change its permissions or its owner",
    errno.EROFS: "it lies on a file system that is mounted read-only",
    errno.EMFILE: "raise the limit of open files, such as by `ulimit -n 4096`",
    errno.ENFILE: "raise the machine's limit of open files",
    errno.EIO: "the disk fails: check it, and keep a copy of what is on it",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOTDIR: "a file stands where a folder is needed: move it",
    errno.EISDIR: "a folder stands where a file is needed: move it",
}
FULL = (errno.ENOSPC, errno.EDQUOT)
TRACEBACK = "XRAYLAB_TRACEBACK"


def describe(error: BaseException) -> str | None:
    """Describe what failed, where, and what to do; None for other errors, and where XRAYLAB_TRACEBACK is set."""
    if os.environ.get(TRACEBACK) or isinstance(error, BrokenPipeError):  # the latter is click's: `xraylab show | head`
        return None
    if isinstance(error, OSError):
        return f"{_of_the_system(error)} ({TRACEBACK}=1 shows where)"
    if isinstance(error, MemoryError):
        reason = f": {error}" if str(error) else ""
        advice = f"close other programs, or make batches or images smaller ({TRACEBACK}=1 shows where)"
        return f"memory ran out{reason}: {advice}"
    if isinstance(error, EOFError):
        return f"a file ends early: it was not written or copied whole ({TRACEBACK}=1 shows which)"
    if isinstance(error, RecursionError):
        return f"a file is nested too deeply to be read ({TRACEBACK}=1 shows which)"
    return None


def _of_the_system(error: OSError) -> str:
    path = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in FULL:
        return f"{path}{reason}: free some room there and run this again"
    advice = ADVICE.get(error.errno or 0)
    return f"{path}{reason}" + (f": {advice}" if advice else "")
