"""Names of images: in an order that people expect, and few enough to print."""

import re


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that reads digits as numbers: h2 before h10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def some(names: list[str], most: int = 5) -> str:
    """The first `most` names in a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
