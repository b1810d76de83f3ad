"""Numbers as people read them."""

import re

NOT_AVAILABLE = "not available"


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 in per cent, without the sign: 0.98913 is 98.91."""
    return NOT_AVAILABLE if share is None else f"{100 * share:.{digits}f}"


def decimal(value: float | None, digits: int = 4) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.{digits}f}"


def grouped(count: int) -> str:
    """Thousands apart by a thin space that does not break: 23 512 130."""
    return f"{count:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """In the two largest units: 1 h 4 min, 3 min 12 s, 41 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: list[str], last: str = "and") -> str:
    """a, b and c."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plural(count: float, noun: str) -> str:
    """1 image, 2 images, 2.5 images."""
    rounded = round(count, 1)
    return f"{rounded:g} {noun}{'' if rounded == 1 else 's'}"


def p_value(p: float | None, at_most: bool = False) -> str:
    """Three digits below 0.1, two above; `at_most` where a test of drawn swaps found none as extreme."""
    if p is None:
        return "not tested"
    if at_most:
        return f"≤ {p:.1g}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def minus(sentence: str) -> str:
    """With a minus sign where a hyphen stands before a number."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", sentence)
