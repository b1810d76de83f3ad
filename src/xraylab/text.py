"""Text that comes from outside: what would steer a terminal, or reorder what it shows, is shown as an escape."""

import struct
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import IO, Any, cast

LONGEST = 10_000  # characters of one message: more hides what is said before and after
JOINERS = "\u200c\u200d"  # of Persian and of emoji; all other formatting characters reorder or hide text
LINES = "\n\t"
CUT = " [...] "


def printable(text: str, longest: int | None = LONGEST) -> str:
    r"""The text with control characters, overrides of its direction and lone surrogates escaped as `\u001b`.

    Ends of lines, tabs and all that one can read stay, so that applying this twice changes nothing; JSON stays JSON of
    the same value. Of more than `longest` characters the middle is left out.
    """
    text = text if longest is None else _shortened(text, longest)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _harmless(char) else _escape(char) for char in text)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - len(CUT)) // 2
    return f"{text[:half]}{CUT}{text[-half:]}"


def _harmless(char: str) -> bool:
    return char.isprintable() or char in LINES or char in JOINERS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    units = struct.iter_unpack(">H", char.encode("utf-16-be", "surrogatepass"))
    return "".join(f"\\u{unit:04x}" for (unit,) in units)


class PrintableStream:
    """A stream that writes printable text; rich's own writing, with its colours and cursor, goes to `stream` itself."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = self.rich_proxied_file = stream  # the second name is the one that rich looks for

    def write(self, text: str) -> int:
        """Write `text`; a bar of tqdm's (of a download) begins with the carriage return that lets it move."""
        bar = text.startswith("\r")
        self.stream.write("\r" * bar + printable(text[bar:], None))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Make what `print`, warnings and tracebacks write to the standard streams printable."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(cast(IO[str], PrintableStream(sys.stdout))))
        stack.enter_context(redirect_stderr(cast(IO[str], PrintableStream(sys.stderr))))
        yield


def exact(stream: IO[str]) -> IO[str]:
    """The stream that another program reads a table from, byte for byte; a terminal's stays printable."""
    return stream.stream if isinstance(stream, PrintableStream) and not stream.isatty() else stream
