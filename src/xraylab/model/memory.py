"""Memory: the allocator told to keep what a step frees, and batches made smaller where it runs out."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from xraylab.errors import TrainingError

T = TypeVar("T")

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's malloc.h
GROUPS, GROUP_FILES = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
GROUP_FACTS = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
LARGEST, ROOM = 2**31 - 1, 256 * 2**20
# what torch says besides OutOfMemoryError: on a CPU, on Apple's GPU, and where cuDNN or cuBLAS finds no room
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "MPS backend out of memory", "_STATUS_ALLOC_FAILED")


def keep_freed() -> None:
    """Configure glibc's allocator: never return memory, grow in large pieces, and map no single block.

    Without it, every large tensor on the CPU is mapped, zeroed page by page and unmapped again in each step. Other C
    libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, ROOM)):
            mallopt(option, value)


def ran_out(error: BaseException) -> bool:
    """Return whether an error means out of memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def halving(work: Callable[[int], T], batch_size: int, phase: str) -> tuple[T, int]:
    """`work(size)` for the first size that fits of `batch_size`, its half, ..., 1; and that size.

    `phase` is what the memory is wanted for, such as "scoring the validation images". Errors: TrainingError naming it
    where not even a single image fits.
    """
    size = batch_size
    while True:
        try:
            return work(size), size
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            if size == 1:
                raise TrainingError(
                    f"memory ran out while {phase}, with one image at a time: "
                    "set model.img_size lower, or take a smaller model.arch"
                ) from error
        # outside of the except clause, whose error holds the tensors that were in the way
        size //= 2
        free_unused()


def batches(work: Callable[[int, int], T], images: int, batch_size: int, phase: str) -> Iterator[tuple[T, int]]:
    """`work(start, stop)` for one batch of so many images after another; and the batch size by then.

    Where memory runs out, that batch and all that follow are half as large: nothing is computed again that is there.
    Errors: as `halving`.
    """
    start = 0

    def batch(size: int) -> T:
        return work(start, min(start + size, images))

    while start < images:
        size = min(batch_size, images - start)
        result, fitted = halving(batch, size, phase)
        batch_size = batch_size if fitted == size else fitted
        yield result, batch_size
        start += fitted


def note_smaller_batches(size: int, usual: int) -> list[str]:
    """Note that memory was too small for the usual batch; empty if it was not."""
    return [f"in batches of {size}, since memory ran out with larger ones"] if size < usual else []


def free_unused() -> None:
    """Give the accelerator's memory that no tensor needs back to it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def available() -> int:
    """Bytes that the machine has left, or the container or job that this process is part of, where that is less."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """What each control group of this process may still take; its files in memory can be dropped."""
    groups = GROUPS.read_text().splitlines() if GROUPS.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in groups):
        version = 1 if controllers else 2
        if version == 2 or controllers == "memory":
            top = GROUP_FILES / controllers
            group = top / path.lstrip("/")
            folders = [group, *group.parents]
            for folder in folders[: folders.index(top) + 1]:
                yield from _left(folder, version)


def _left(group: Path, version: int) -> Iterator[int]:
    """Nothing where the group has no limit."""
    limit, usage, dropped = GROUP_FACTS[version]
    if not (group / limit).is_file() or not (most := (group / limit).read_text().strip()).isdigit():
        return
    facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    yield max(int(most) - int((group / usage).read_text()) + int(facts[dropped]), 0)
