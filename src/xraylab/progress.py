"""Progress on a terminal, silence in a log."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

T = TypeVar("T")


def bar(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """Yield `items` under a bar with the time left."""
    console = Console(stderr=True)
    return track(items, text, total, console=console, transient=True, disable=not console.is_terminal)


def display() -> Progress:
    """A bar that the caller moves: what, how far, time left, and a text of its own."""
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
