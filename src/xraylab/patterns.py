"""Regular expressions that users write: one that would search for ever is an error that says so."""

from functools import cache
from typing import TYPE_CHECKING

from xraylab.errors import DataError
from xraylab.text import printable

if TYPE_CHECKING:
    import regex

LONGEST = 1000  # characters of a pattern
SECONDS = 1.0  # to search one name, which takes microseconds


@cache
def compiled(pattern: str) -> "regex.Pattern[str]":
    """Compile a pattern. Errors: ValueError."""
    import regex  # noqa: PLC0415 - most studies have no pattern

    if len(pattern) > LONGEST:
        raise ValueError(f"has {len(pattern)} characters, and may have {LONGEST}")
    try:
        return regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None


def search(pattern: str, name: str) -> "regex.Match[str] | None":
    """Search a name. Errors: DataError where that takes longer than a second; ValueError as above."""
    try:
        return compiled(pattern).search(name, timeout=SECONDS)
    except TimeoutError:
        raise DataError(
            f"{pattern!r} is still searching {printable(name, 100)!r} after {SECONDS:g} s: a repetition stands within "
            "a repetition, as in (a+)+; write one of them alone"
        ) from None
