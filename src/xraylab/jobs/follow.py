"""`xraylab watch`: follow a study that runs, from another terminal, without a hand in it."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from xraylab import running
from xraylab.errors import XraylabError
from xraylab.jobs.board import epoch_text, metric_text
from xraylab.jobs.stages import Study
from xraylab.paths import Paths
from xraylab.progress import duration
from xraylab.running import Running

PAUSE = 1.0  # seconds between two looks
HEADS = ("stage", "for", "epoch", "loss", "monitor", "left")
SHOWN = 8  # names of pending stages
RUNS = {"repro", "run", "search", "queue"}  # words of the commands of dvc and xraylab that run stages


@dataclass(frozen=True)
class View:
    """How a study stands: names of stages, and the records of those that run or have failed."""

    total: int
    finished: list[str]
    pending: list[str]
    at_work: list[Running]
    failed: dict[str, str]

    @property
    def over(self) -> bool:
        return not self.at_work and not self.pending and not self.failed


def run(paths: Paths, console: Console) -> None:
    """Follow the study until it is finished, or until nothing runs any more, or until Ctrl-C.

    Errors: XraylabError where a stage has failed, or where nothing runs and stages are left.
    """
    follower = Follower(paths, console)
    with suppress(KeyboardInterrupt), follower.shown():
        while follower.look():
            time.sleep(PAUSE)
    if not follower.ended:
        follower.print("no longer watched; the study goes on")
    elif problem := follower.problem():
        raise problem
    else:
        follower.print(f"the study is finished: {follower.view.total} stages are up to date")


class Follower:
    """Looks at a study again and again."""

    def __init__(self, paths: Paths, console: Console, clock: Callable[[], float] = time.time) -> None:
        self.paths, self.console, self.clock = paths, console, clock
        self.study, self.view = Study(paths), View(0, [], [], [], {})
        self.said: dict[str, str] = {}
        self.seen_running = self.ended = False

    def shown(self) -> AbstractContextManager[Any]:
        """Keep the table up to date on a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.picture, console=self.console, transient=True, refresh_per_second=2)

    def look(self) -> bool:
        """Look once; returns whether there is anything left to wait for."""
        self.view = self._view()
        goes_on = bool(self.view.at_work) or (not self.view.over and commands_in(self.paths.home))
        self.seen_running |= goes_on
        if not self.console.is_terminal:
            self._print_news()
        self.ended = not goes_on
        return goes_on

    def _view(self) -> View:
        records = running.read(self.paths.running)
        at_work = {record.stage: record for record in records if record.alive and not record.problem}
        finished = [name for name in self.study.finished() if name not in at_work]
        ended = {each.stage: each.problem or "its process was killed" for each in records if each.stage not in at_work}
        failed = {name: problem for name, problem in ended.items() if name not in finished}
        names = [stage.name for stage in self.study.stages]
        pending = [name for name in names if not (name in finished or name in at_work or name in failed)]
        return View(len(names), finished, pending, list(at_work.values()), failed)

    def _print_news(self) -> None:
        """A line for each stage that stands otherwise than at the last look."""
        lines = {each.stage: ", ".join(filter(None, self.cells(each)[2:5])) or "runs" for each in self.view.at_work}
        lines |= {name: f"failed: {problem}" for name, problem in self.view.failed.items()}
        lines |= {name: "finished" for name in self.view.finished if name in self.said}
        for name, line in lines.items():
            if self.said.get(name) != line:
                self.said[name] = line
                self.print(f"[{name}] {line}")

    def cells(self, record: Running) -> tuple[str, ...]:
        """The table's cells for a stage that runs."""
        loss = record.metrics.get("train_loss")
        left = "" if record.seconds_left is None else f"{duration(record.seconds_left)} left"
        return (
            record.stage, duration(max(self.clock() - record.started, 0)), epoch_text(record.epoch, record.epochs),
            "" if loss is None else f"train_loss {loss:.4f}", metric_text(record.metrics, record.monitor), left,
        )  # fmt: skip

    def picture(self) -> Group:
        """A line for each stage that runs; then those that failed, and a summary."""
        table = Table(*HEADS, box=None)
        for record in self.view.at_work:
            table.add_row(*map(Text, self.cells(record)))
        failed = [Text(f"failed: {name}: {problem}", style="red") for name, problem in self.view.failed.items()]
        return Group(table, *failed, Text(self.summary()))

    def summary(self) -> str:
        """`12/20 stages finished; pending: train@l2-0, evaluate and 3 more`."""
        pending = self.view.pending
        more = f" and {len(pending) - SHOWN} more" if len(pending) > SHOWN else ""
        left = f"; pending: {', '.join(pending[:SHOWN])}{more}" if pending else ""
        return f"{len(self.view.finished)}/{self.view.total} stages finished{left}"

    def problem(self) -> XraylabError | None:
        """Why the study is not finished though nothing runs; None where it is."""
        if self.view.failed:
            lines = [f"{name}: {problem}" for name, problem in self.view.failed.items()]
            return XraylabError(f"{self.summary()}; nothing runs any more, since these failed:", lines)
        if not self.view.pending:
            return None
        what = "nothing runs any more" if self.seen_running else "nothing runs here"
        return XraylabError(f"{what}: {self.summary()}. `dvc repro` runs them")

    def print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def commands_in(root: Path) -> bool:
    """Return whether a dvc or xraylab of this user runs a study's stages in that folder, other than this process."""
    return any(_runs_stages(process, root.resolve()) for process in psutil.process_iter() if process.pid != os.getpid())


def _runs_stages(process: psutil.Process, root: Path) -> bool:
    try:
        words = process.cmdline()
        names = {Path(word).name for word in words[:3]}
        return bool(names & {"dvc", "xraylab"} and RUNS.intersection(words)) and Path(process.cwd()) == root
    except (psutil.Error, OSError):
        return False
