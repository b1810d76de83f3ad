"""Jobs side by side: each is one dvc that makes the stages of one experiment, one after another."""

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from xraylab.errors import XraylabError
from xraylab.jobs.dvc import Dvc, lines
from xraylab.jobs.pipeline import Job
from xraylab.jobs.screen import Screen

LAST = 12  # lines of a failed stage to show
TRIES = 5
PAUSE = 2.0
LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by")


@dataclass
class Output:
    """What a job printed: all of it in one log per stage, its last lines here."""

    folder: Path
    stage: str
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LAST))
    log: TextIO | None = None

    def add(self, line: str) -> None:
        if new := re.fullmatch(r"Running stage '(.+)':", line):
            self._turn_to(new[1])
        self.last.append(line)
        if self.log is None:
            self.log = self.path.open("w", encoding="utf-8")
        print(line, file=self.log, flush=True)

    def close(self) -> None:
        if self.log:
            self.log.close()

    def locked(self) -> bool:
        return any(sign in line for line in self.last for sign in LOCKED)

    @property
    def path(self) -> Path:
        return self.folder / f"{re.sub('[/:]', '_', self.stage)}.log"

    def _turn_to(self, stage: str) -> None:
        if stage != self.stage:
            self.close()
            self.stage, self.log = stage, None
            self.last.clear()


async def run(dvc: Dvc, jobs: Sequence[Job], shares: list[dict[str, str]], screen: Screen, logs: Path) -> list[Output]:
    """Work through `jobs`, as many at once as there are shares, and return what the failed ones printed.

    After a failure those that run go on to their end, and no further one starts.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, failed = deque(jobs), list[Output]()

    async def work(share: dict[str, str]) -> None:
        while waiting and not failed:
            job = waiting.popleft()
            screen.started(job)
            code, output = await _patiently(dvc, job, share, screen, logs)
            screen.ended(job, code)
            failed.extend([output] if code else [])

    async with asyncio.TaskGroup() as group:
        for share in shares:
            group.create_task(work(share))
    return failed


def failure(failed: list[Output], total: int, root: Path) -> XraylabError:
    """What went wrong, with the end of each log."""
    problems = [
        "\n      ".join([f"{output.stage}, whose log {_below(output.path, root)} ends with", *output.last])
        for output in failed
    ]
    headline = f"{len(failed)} of {total} jobs failed, and no further one was started; finished ones are kept"
    return XraylabError(headline, problems)


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


async def _patiently(dvc: Dvc, job: Job, share: dict[str, str], screen: Screen, logs: Path) -> tuple[int, Output]:
    """Again where another dvc held a lock for too long."""
    for _ in range(TRIES - 1):
        code, output = await _once(dvc, job, share, screen, logs)
        if code == 0 or not output.locked():
            return code, output
        await asyncio.sleep(PAUSE)
    return await _once(dvc, job, share, screen, logs)


async def _once(dvc: Dvc, job: Job, share: dict[str, str], screen: Screen, logs: Path) -> tuple[int, Output]:
    output = Output(logs, job[0])
    environment = {"PYTHONUNBUFFERED": "1", **share}
    try:
        async with dvc.started(["repro", "--single-item", *job], environment, PIPE, STDOUT) as process:
            if process.stdout is None:
                raise RuntimeError("a pipe was asked for")
            async for line in lines(process.stdout):
                output.add(line)
                screen.line(job, output.stage, line)
            return await process.wait(), output
    finally:
        output.close()
