"""Jobs side by side: each is one dvc that makes the stages of one experiment, with its share of the machine."""

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xraylab.errors import DataError, XraylabError
from xraylab.jobs.dvc import Dvc, Log, retried
from xraylab.jobs.engines.engine import Resources
from xraylab.jobs.job import Job
from xraylab.progress import duration


class Screen:
    """The running jobs, what each does and for how long, and how many of all are done."""

    def __init__(
        self, total: int, console: Console, clock: Callable[[], float] = time.monotonic, done: int = 0
    ) -> None:
        self.total, self.console, self.clock, self.done = total, console, clock, done
        self.start = clock()
        self.started_at: dict[Hashable, float] = {}
        self.running: dict[Hashable, tuple[str, str]] = {}  # job -> its name, and what it does

    def shown(self) -> AbstractContextManager[Any]:
        """Keep the screen up to date on a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.picture, console=self.console, transient=True)

    def started(self, job: Hashable, name: str) -> None:
        self.started_at[job] = self.clock()
        self.running[job] = (name, "")

    def line(self, job: Hashable, name: str, text: str) -> None:
        """Show what a job does; without a terminal, print it after its name."""
        self.running[job] = (name, text)
        if not self.console.is_terminal:
            self.print(f"[{name}] {text}")

    def ended(self, job: Hashable, outcome: str, success: bool) -> None:
        del self.running[job]
        seconds = self.clock() - self.started_at.pop(job)
        self.done += success
        self.print(f"{self.done}/{self.total} {outcome} ({duration(seconds)})")

    def picture(self) -> Group:
        """The running jobs, one line each, and the sum of it."""
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for job, (name, text) in self.running.items():
            table.add_row(Text(name), duration(self.clock() - self.started_at[job]), Text(text))
        return Group(table, Text(f"{self.done}/{self.total} done{self.summary()}"))

    def summary(self) -> str:
        return f", {duration(self.clock() - self.start)}"

    def print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


async def run(dvc: Dvc, jobs: Sequence[Job], shares: list[dict[str, str]], screen: Screen, logs: Path) -> list[Log]:
    """Work through `jobs`, as many at once as there are shares, and return the logs of the failed ones.

    After a failure those that run go on to their end, and no further one starts.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, failed = deque(jobs), list[Log]()

    async def work(share: dict[str, str]) -> None:
        while waiting and not failed:
            job = waiting.popleft()
            screen.started(job.run, job.stages[0])
            code, log = await retried(partial(_repro, dvc, job, share, screen, logs))
            screen.ended(job.run, f"failed: {log.stage}" if code else f"done: {', '.join(job.stages)}", code == 0)
            failed.extend([log] if code else [])

    async with asyncio.TaskGroup() as group:
        for share in shares:
            group.create_task(work(share))
    return failed


async def _repro(dvc: Dvc, job: Job, share: dict[str, str], screen: Screen, logs: Path) -> tuple[int, Log]:
    log = Log(logs, job.stages[0])
    return await dvc.logged(job.repro(), share, log, lambda line: screen.line(job.run, log.stage, line)), log


def failure(failed: list[Log], total: int, root: Path) -> XraylabError:
    """The error that says which jobs failed, with the end of each log."""
    headline = f"{len(failed)} of {total} jobs failed, and no further one was started; finished ones are kept"
    return XraylabError(headline, [log.tail(log.stage, root) for log in failed])


def gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; slices where a GPU is sliced (MIG)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1", "NoDevFiles"}]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listing = subprocess.run([program, "-L"], capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - found on the path
    return devices(listing.stdout) if listing.returncode == 0 else []


def devices(listing: str) -> list[str]:
    """The identifiers in what `nvidia-smi -L` prints: numbers would mean other GPUs to CUDA than to nvidia-smi."""
    names: list[str] = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listing)
    return [name for name in names if name.startswith("MIG-")] or names


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def shares(jobs: int | None, devices: list[str], resources: Resources) -> list[dict[str, str]]:
    """The environment of each of `jobs` jobs that run at once; None: as many as the GPUs are for, or one.

    One job alone has all cores, as under `dvc repro`; an OMP_NUM_THREADS of the user's own stays, unless `resources`
    names cores. Errors: DataError where there are not so many GPUs.
    """
    each, sharing = resources.gpus or 1, resources.jobs_per_gpu
    if max(resources.gpus, sharing > 1) > len(devices):
        wanted = f"--gpus-per-job {each}, --jobs-per-gpu {sharing}"
        raise DataError(f"{wanted}: this machine has {len(devices)} GPUs that may be used")
    if sharing > 1 and each > 1:
        raise DataError("--jobs-per-gpu shares one GPU between jobs: give --gpus-per-job 1")
    if sharing > 1 and jobs:
        raise DataError("--jobs-per-gpu says how many jobs run at once here: leave out --jobs")
    number = jobs or len(devices) // each * sharing or 1
    equal = replace(resources, cpus=max(1, cores() // number))
    threads = {} if number == 1 or "OMP_NUM_THREADS" in os.environ else equal.threads
    common = threads if resources.cpus is None else resources.threads
    return [common | _devices(range(job * each, (job + 1) * each), devices) for job in range(number)]


def _devices(numbers: range, devices: list[str]) -> dict[str, str]:
    """Some of the devices, in turn."""
    names = [devices[number % len(devices)] for number in numbers if devices]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names)} if names else {}
