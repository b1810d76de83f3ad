"""What a search shows: a line per finished trial, and on a terminal the running ones, the best, and the time left."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from xraylab.params.search import Values

Best = tuple[float, int]  # figure and number of a trial


class Screen:
    """The state of a search; `done` and `best` are those of an earlier session that goes on."""

    def __init__(
        self,
        figure: str,
        total: int,
        done: int,
        best: Best | None,
        workers: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figure, self.total, self.done, self.best = figure, total, done, best
        self.workers, self.console, self.clock = workers, console, clock
        self.sign = 1 if figure.endswith("_loss") else -1
        self.since: dict[int, float] = {}
        self.running: dict[int, tuple[str, str]] = {}  # what it tries, how far it is
        self.seconds: list[float] = []

    def shown(self) -> AbstractContextManager[Any]:
        """Keeps the screen up to date on a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(get_renderable=self.picture, console=self.console, transient=True)

    def started(self, number: int, values: Values) -> None:
        self.since[number] = self.clock()
        self.running[number] = f"trial {number}  {spelled(values)}", ""

    def epoch(self, number: int, epoch: int, epochs: int, figure: float) -> None:
        progress = f"  epoch {epoch}/{epochs} {self.figure} {figure:.4f}"
        self.running[number] = self.running[number][0], progress

    def finished(self, number: int, values: Values, figure: float) -> None:
        if self.best is None or self.sign * figure < self.sign * self.best[0]:
            self.best = figure, number
        self.ended(number, values, f"{self.figure} {figure:.4f}")

    def ended(self, number: int, values: Values, outcome: str) -> None:
        """Print the trial's line."""
        del self.running[number]
        self.seconds.append(self.clock() - self.since.pop(number))
        self.done += 1
        text = f"{self.done}/{self.total} trial {number}: {outcome}  {spelled(values)}  {self.summary()}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self) -> str:
        """The best so far, and the time left."""
        best = f"best: trial {self.best[1]}, {self.best[0]:.4f}" if self.best else "no trial is finished yet"
        return f"({best}{self._time_left()})"

    def picture(self) -> Group:
        running = (Text("".join(parts)) for parts in self.running.values())
        return Group(*running, Text(f"{self.done}/{self.total} done {self.summary()}"))

    def _time_left(self) -> str:
        """From the mean time of this session's trials."""
        if not self.seconds or self.done >= self.total:
            return ""
        left = sum(self.seconds) / len(self.seconds) * (self.total - self.done) / self.workers
        minutes, rest = divmod(round(left), 60)
        return f"; about {minutes // 60}:{minutes % 60:02}:{rest:02} left"


def spelled(values: Values) -> str:
    """`train.lr=0.00123 train.optimizer=adam`: short, for people."""
    parts = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in values.items()}
    return " ".join(f"{key}={value}" for key, value in parts.items())
