"""Disk space, inodes, and limits of the machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from xraylab.doctor.finding import Finding, Level, Subject

SPACE, LIMITS = "disk space", "limits"
LITTLE, NONE = 5e9, 5e8  # bytes: a small study takes gigabytes; with less than the latter nothing can be done
FEW_INODES = 10_000
FEW_FILES = 1024  # open at once
FEW_SHARED = 64 * 2**20  # bytes of /dev/shm, of which Docker gives 64 MiB
SHARED = Path("/dev/shm")  # noqa: S108 - looked at, not written to


def check_space(subject: Subject) -> Iterator[Finding]:
    """Room for the study, DVC's cache and temporary files; each disk once."""
    places = {"the study": subject.folder, "temporary files": Path(tempfile.gettempdir())}
    if subject.paths is not None:
        from xraylab.integrity.cache import Cache  # noqa: PLC0415 - outside of a study there is none

        places["DVC's cache"] = Cache.of(subject.paths).folder
        places["xraylab's state"] = subject.paths.state
    disks: dict[int, list[str]] = {}
    folders: dict[int, Path] = {}
    for what, folder in places.items():
        existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        device = existing.stat().st_dev
        disks.setdefault(device, []).append(what)
        folders.setdefault(device, existing)
    for device, whats in disks.items():
        yield from _room(folders[device], ", ".join(whats))


def _room(folder: Path, what: str) -> Iterator[Finding]:
    usage = shutil.disk_usage(folder)
    text = f"{what}: {usage.free / 1e9:,.1f} GB of {usage.total / 1e9:,.1f} GB are free ({folder})"
    level: Level = "error" if usage.free < NONE else "warning" if usage.free < LITTLE else "ok"
    yield Finding(SPACE, level, text, "" if level == "ok" else "free some; `dvc gc --workspace` removes old outputs")
    if hasattr(os, "statvfs"):
        inodes = os.statvfs(folder)
        if inodes.f_files and inodes.f_favail < FEW_INODES:
            yield Finding(
                SPACE,
                "warning" if inodes.f_favail else "error",
                f"{what}: {inodes.f_favail:,} more files fit on the disk ({folder})",
                "remove folders of many small files; `df --inodes` shows the disks",
            )


def check_limits(subject: Subject) -> Iterator[Finding]:
    """Open files and shared memory, which processes that train together need."""
    try:
        import resource  # noqa: PLC0415 - Windows has none

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except ImportError:
        return
    few = 0 <= soft < FEW_FILES
    can = "" if not few else f"ulimit -n {FEW_FILES}" if hard < 0 or hard >= FEW_FILES else "ask who runs the machine"
    yield Finding(
        LIMITS, "warning" if few else "ok", f"{soft if soft >= 0 else 'any number of'} files open at once", can
    )
    if SHARED.is_dir():
        free = shutil.disk_usage(SHARED).free
        little = free < FEW_SHARED
        yield Finding(
            LIMITS,
            "warning" if little else "ok",
            f"{free / 2**20:,.0f} MiB of shared memory are free ({SHARED})",
            "in a container: docker run --shm-size=1g, or remove old files there" if little else "",
        )
