"""What each of several jobs gets of this machine: a GPU, and its share of the cores."""

import os
import re
import shutil
import subprocess


def gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; slices where a GPU is sliced (MIG)."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in {"", "-1", "NoDevFiles"}]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - found on the path
    return devices(listed.stdout) if listed.returncode == 0 else []


def devices(listing: str) -> list[str]:
    """The identifiers in what `nvidia-smi -L` prints: numbers would mean other GPUs to CUDA than to nvidia-smi."""
    found: list[str] = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listing)
    return [name for name in found if name.startswith("MIG-")] or found


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def shares(jobs: int, devices: list[str]) -> list[dict[str, str]]:
    """The environment of each of `jobs` jobs that run at once.

    One job alone has all cores, as under `dvc repro`; an OMP_NUM_THREADS of the user's own stays.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    common = threads if jobs > 1 and "OMP_NUM_THREADS" not in os.environ else {}
    return [common | ({"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} if devices else {}) for job in range(jobs)]
