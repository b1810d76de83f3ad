"""The C library's allocator, told to keep what a training step frees: the next step wants the same again."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's malloc.h
LARGEST, ROOM = 2**31 - 1, 256 * 2**20


def keep_freed() -> None:
    """On glibc: never give memory back, grow in large pieces, and take no block by a system call of its own.

    Without it, every large tensor on the CPU is mapped, zeroed page by page and unmapped again in each step. Other C
    libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, LARGEST), (TOP_PAD, ROOM)):
            mallopt(option, value)
