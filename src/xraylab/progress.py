"""Progress: a bar on a terminal, a line every half minute elsewhere; and maps over threads."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from xraylab.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 256
EVERY = 30.0  # seconds between two lines


class Pace:
    """Progress of some work, and the time of its next line where no bar shows it.

    `completed` of `total` are done already, and say nothing about the speed. `total` may not be known: None.
    """

    def __init__(self, total: int | None, completed: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.completed, self.initial, self.clock = total, completed, completed, clock
        self.started = self.last_line = clock()

    def advance(self) -> None:
        self.completed += 1

    def due(self) -> bool:
        """Return whether the last line is half a minute old, and restart the wait if so."""
        now = self.clock()
        late = now - self.last_line >= EVERY
        self.last_line = now if late else self.last_line
        return late

    def restart(self) -> None:
        """Wait for another half minute, since another line was printed."""
        self.last_line = self.clock()

    def per_second(self) -> float:
        return (self.completed - self.initial) / max(self.clock() - self.started, 1e-9)

    def seconds_left(self) -> float | None:
        """How long the rest takes at the speed so far; None where there is none yet, or no known end."""
        if self.total is None or self.completed == self.initial:
            return None
        return (self.total - self.completed) / self.per_second()

    def remaining(self) -> str:
        """The same as text, such as 1:40."""
        seconds = self.seconds_left()
        return "?" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(printable(line), file=sys.stderr, flush=True)  # noqa: T201 - one of the two places that print while work goes on


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that work goes on whose end nobody knows: a spinner and the time on a terminal, a line elsewhere."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as in `bar`

    from xraylab.terminal import Console  # noqa: PLC0415 - as in `bar`

    console = Console(stderr=True)
    if not console.is_terminal:
        say(text)
        yield
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(text, total=None)
        yield


def bar(items: Iterable[T], total: int | None, text: str, clock: Callable[[], float] = time.monotonic) -> Iterable[T]:
    """Yield `items` under a bar with the time left; without a terminal, a line every half minute."""
    from rich.progress import track  # noqa: PLC0415 - a stage that has nothing to wait for does not wait for this

    from xraylab.terminal import Console  # noqa: PLC0415 - as above

    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, text, total, console=console, transient=True)
    return _with_lines(items, Pace(total, clock=clock), text)


def _with_lines(items: Iterable[T], pace: Pace, text: str) -> Iterator[T]:
    for item in items:
        yield item
        tick(pace, text)


def tick(pace: Pace, text: str) -> None:
    """Count one more, and print a line if it is due."""
    pace.advance()
    if pace.due():
        say(f"{text}  {pace.completed}/{pace.total or '?'}  {pace.remaining()} left")


def thread_map(work: Callable[[T], R], items: Sequence[T], text: str) -> Iterator[R]:
    """`work` of every item, in order, done in threads under a bar; only a few hundred results wait at a time."""
    yield from bar(_in_threads(work, items), len(items), text)


def _in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    with ThreadPoolExecutor() as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def display() -> "Progress":
    """A bar that the caller moves: what, how far, time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from xraylab.terminal import Console  # noqa: PLC0415

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
