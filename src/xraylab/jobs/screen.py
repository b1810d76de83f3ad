"""All jobs on one screen: a line each on a terminal, prefixed lines elsewhere."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xraylab.jobs.pipeline import Job


class Screen:
    """What every running job does now, how long for, and how many are done."""

    def __init__(self, total: int, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.console, self.clock = total, console, clock
        self.done = 0
        self.begin = clock()
        self.since: dict[Job, float] = {}
        self.now: dict[Job, tuple[str, str]] = {}

    def shown(self) -> AbstractContextManager[Any]:
        """Keeps the screen up to date on a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.picture, console=self.console, transient=True)

    def started(self, job: Job) -> None:
        self.since[job] = self.clock()
        self.now[job] = (job[0], "")

    def line(self, job: Job, stage: str, text: str) -> None:
        self.now[job] = (stage, text)
        if not self.console.is_terminal:
            self._print(f"[{stage}] {text}")

    def ended(self, job: Job, code: int) -> None:
        stage, _ = self.now.pop(job)
        seconds = self.clock() - self.since.pop(job)
        self.done += code == 0
        what = f"done: {', '.join(job)}" if code == 0 else f"failed: {stage}"
        self._print(f"{self.done}/{self.total} {what} ({_spell(seconds)})")

    def picture(self) -> Group:
        """The running jobs, one line each, and the sum of it."""
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for job, (stage, text) in self.now.items():
            table.add_row(Text(stage), _spell(self.clock() - self.since[job]), Text(text))
        return Group(table, Text(f"{self.done}/{self.total} done, {_spell(self.clock() - self.begin)}"))

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _spell(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
