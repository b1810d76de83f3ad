"""Findings as lines for a terminal, or as JSON."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from xraylab.doctor.finding import Finding

MARKS = {"ok": "ok", "warning": "warning", "error": "ERROR"}
WIDTH = 80
COLUMN = max(map(len, MARKS.values())) + 2


def lines(findings: Iterable[Finding], width: int | None = WIDTH) -> Iterator[str]:
    """A heading per check; then each finding behind its level, and below it what to do.

    `width` None is for other programs: each finding in one line, however long its names are.
    """
    heading = ""
    for finding in findings:
        if finding.check != heading:
            heading = finding.check
            yield heading
        mark = f"  {MARKS[finding.level]:{COLUMN}}"
        yield from _wrapped(finding.text, mark, width)
        if finding.advice:
            yield from _wrapped(finding.advice, f"  {'':{COLUMN}}-> ", width)


def _wrapped(text: str, first: str, width: int | None) -> list[str]:
    """Lines that are no longer than `width`, but for words that are; commands stay in one piece where they fit."""
    if width is None:
        return [first + " ".join(text.splitlines())]
    rest = " " * len(first)
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def summary(findings: Sequence[Finding]) -> str:
    """How many need the user."""
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    if not errors and not warnings:
        return "all is well"
    return ", ".join(
        f"{number} {word}{'s' if number > 1 else ''}"
        for number, word in ((errors, "error"), (warnings, "warning"))
        if number
    )


def as_json(findings: Iterable[Finding]) -> str:
    """In ASCII, which every pipe takes."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)
