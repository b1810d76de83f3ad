"""What a search shows: a line per finished trial, and on a terminal the running ones, the best, and the time left."""

import time
from collections.abc import Callable

from rich.console import Console

from xraylab.jobs import pool
from xraylab.params.search import Values
from xraylab.progress import duration

Best = tuple[float, int]  # metric and number of a trial


class Screen(pool.Screen):
    """The trials of a search; `done` and `best` are those of an earlier session that goes on."""

    def __init__(
        self,
        metric: str,
        total: int,
        done: int,
        best: Best | None,
        workers: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(total, console, clock, done)
        self.metric, self.best, self.workers, self.before = metric, best, workers, done
        self.sign = 1 if metric.endswith("_loss") else -1
        self.seconds = 0.0  # that all trials of this session took

    def epoch(self, number: int, epoch: int, epochs: int, metric: float) -> None:
        self.running[number] = (self.running[number][0], f"epoch {epoch}/{epochs} {self.metric} {metric:.4f}")

    def trial_ended(self, number: int, outcome: str, metric: float | None = None) -> None:
        """Print the trial's line; `metric`: of a finished one."""
        name, _ = self.running.pop(number)
        self.seconds += self.clock() - self.started_at.pop(number)
        self.done += 1
        if metric is not None and (self.best is None or self.sign * metric < self.sign * self.best[0]):
            self.best = (metric, number)
        trial, _, values = name.partition("  ")
        self.print(f"{self.done}/{self.total} {trial}: {outcome}  {values} {self.summary()}")

    def summary(self) -> str:
        """The best so far, and the time left by the mean of this session's trials."""
        best = f"best: trial {self.best[1]}, {self.best[0]:.4f}" if self.best else "no trial is finished yet"
        ended = self.done - self.before
        if not ended or self.done >= self.total:
            return f" ({best})"
        seconds_left = self.seconds / ended * (self.total - self.done) / self.workers
        return f" ({best}; about {duration(seconds_left)} left)"


def label(number: int, values: Values) -> str:
    """`trial 3  train.lr=0.00123 train.optimizer=adam`: short, for people."""
    parts = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in values.items()}
    return f"trial {number}  {' '.join(f'{key}={value}' for key, value in parts.items())}"
