"""The board of a session: one live table of its jobs on a terminal, plain lines where there is none."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xraylab.jobs.engines.engine import FINAL, State
from xraylab.jobs.node import Report
from xraylab.jobs.session import Session, Submitted
from xraylab.progress import duration

HEADS = ("experiment", "state", "node", "device", "epoch", "metric", "left")


class Board:
    """`monitors`: the metric that chooses a job's best epoch, where it is known."""

    def __init__(self, session: Session, console: Console, monitors: Callable[[str], str | None]) -> None:
        self.session, self.console, self.monitors = session, console, monitors
        self.reports: dict[str, Report] = {}
        self.said: dict[str, tuple[str, ...]] = {}

    def shown(self) -> AbstractContextManager[Any]:
        """Keep the table up to date on a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.picture, console=self.console, transient=True, refresh_per_second=1)

    def update(self) -> None:
        """Without a terminal, print a line for each job whose state, node or epoch is another."""
        if self.console.is_terminal:
            return
        for name, job in self.session.jobs.items():
            cells = self.cells(name, job)
            if self.said.get(name) != cells[:5]:
                self.said[name] = cells[:5]
                self.print(f"[{name}] " + ", ".join(cell for cell in cells[1:] if cell))

    def cells(self, name: str, job: Submitted) -> tuple[str, ...]:
        """What the table shows of a job."""
        report = self.reports.get(name)
        node = job.node or (report.node if report else "")
        if report is None or job.state == State.PENDING:
            return (name, _state(job), node if job.state != State.PENDING else "", "", epoch_text(job.epoch, 0), "", "")
        doing = report.doing if job.state == State.RUNNING else _state(job)
        left = report.seconds_left if job.state == State.RUNNING else None
        return (
            name, doing, node, report.device, epoch_text(report.epoch, report.epochs),
            metric_text(report.metrics, self.monitors(name)), "" if left is None else f"{duration(left)} left",
        )  # fmt: skip

    def picture(self) -> Group:
        """Those that run or wait, and the sum of it."""
        table = Table(*HEADS, box=None)
        for name, job in self.session.live.items():
            table.add_row(*map(Text, self.cells(name, job)))
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        states = [job.state for job in self.session.jobs.values()]
        others = [f"{states.count(state)} {state}" for state in FINAL - {State.DONE} if state in states]
        return ", ".join([f"{states.count(State.DONE)}/{len(states)} done", *sorted(others)])

    def print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _state(job: Submitted) -> str:
    waits = job.state == State.PENDING and job.reason
    again = f", attempt {job.attempts}" if job.attempts > 1 else ""
    return f"{job.state}{f' ({job.reason})' if waits else ''}{again}"


def epoch_text(epoch: int, epochs: int) -> str:
    """`epoch 2/5`: finished ones; empty where nothing is known."""
    if not epochs:
        return f"epoch {epoch}" if epoch else ""
    return f"epoch {epoch}/{epochs}"


def metric_text(metrics: dict[str, float], monitor: str | None) -> str:
    """The monitored metric, or else the last one; empty where there is none."""
    name = monitor if monitor in metrics else next(reversed(metrics), None)
    return "" if name is None else f"{name} {metrics[name]:.4f}"
