"""rich's console, with text that comes from outside made printable; rich takes time to import, and text.py does not."""

import sys
from collections.abc import Iterable

from rich import console
from rich.segment import Segment

from xraylab.text import PrintableStream, printable


class Console(console.Console):
    """A console whose tables, bars and lines show control characters as escapes."""

    def __init__(self, stderr: bool = False) -> None:
        """Open the standard output, or the standard error; rich's own looks one proxy deep where bars are shown."""
        stream = sys.stderr if stderr else sys.stdout
        super().__init__(stderr=stderr, file=stream.stream if isinstance(stream, PrintableStream) else stream)

    def render(
        self, renderable: console.RenderableType, options: console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does; what moves the cursor is marked as control and stays."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, None), segment.style)
