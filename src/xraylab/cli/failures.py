"""Failures of the system in a sentence: a full disk, a file that may not be written, no memory left, a lost GPU."""

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
    match error:
        case OSError():
            text = _of_the_system(error)
        case MemoryError():
            reason = f": {error}" if str(error) else ""
            text = f"memory ran out{reason}: close other programs, or make batches or images smaller"
        case EOFError():
            text = "a file ends early: it was not written or copied whole"
        case RecursionError():
            text = "a file is nested too deeply to be read"
        case RuntimeError() if _is_of_a_device(error):
            text = _of_the_device(error)
        case _:
            return None
    return f"{text} ({TRACEBACK}=1 shows where)"


def _is_of_a_device(error: RuntimeError) -> bool:
    """Return whether torch says that a GPU is gone or cannot go on, as far as it can be told without torch."""
    text = str(error)
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in text or "No CUDA GPUs are available" in text


def _of_the_device(error: RuntimeError) -> str:
    first = str(error).strip().partition("\n")[0]
    advice = "see `nvidia-smi`, restart what uses it, and run this again: a training goes on after its last epoch"
    return f"the GPU failed: {first}: {advice}"


def _of_the_system(error: OSError) -> str:
    path = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in FULL:
        return f"{path}{reason}: free some room there and run this again"
    advice = ADVICE.get(error.errno or 0)
    return f"{path}{reason}" + (f": {advice}" if advice else "")
