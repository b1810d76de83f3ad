"""Progress on a terminal, silence in a log; and work in threads under such a bar."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 256


def bar(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """Yield `items` under a bar with the time left."""
    from rich.console import Console  # noqa: PLC0415 - a stage that has nothing to wait for does not wait for this
    from rich.progress import track  # noqa: PLC0415

    console = Console(stderr=True)
    return track(items, text, total, console=console, transient=True, disable=not console.is_terminal)


def mapped(work: Callable[[T], R], items: Sequence[T], text: str) -> Iterator[R]:
    """`work` of every item, in order, done in threads under a bar; only a few hundred results wait at a time."""
    with ThreadPoolExecutor() as pool:
        waiting: deque[Future[R]] = deque()
        for item in bar(items, len(items), text):
            waiting.append(pool.submit(work, item))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def display() -> "Progress":
    """A bar that the caller moves: what, how far, time left, and a text of its own."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
