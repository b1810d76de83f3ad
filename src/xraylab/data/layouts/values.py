"""Sides, sexes, ages and views, as data sets write them, in one spelling."""

import re

SIDES = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
AGE = re.compile(r"(\d+)(?:\.\d*)?\s*([a-z]*)\.?")
PARTS_OF_A_YEAR = {"": 1, "y": 1, "m": 12, "w": 52, "d": 365}
OLDEST = 120


def side(text: str) -> str:
    """train, valid or test; '' for anything else."""
    return SIDES.get(text.strip().lower(), "")


def sex(text: str) -> str:
    """M or F; '' for anything else."""
    return SEXES.get(text.strip().lower(), "")


def age(text: str) -> str:
    """Whole years: 058Y and 58yrs are 58, 6M is 0; '' for what is no age of a human being, such as 411."""
    match = AGE.fullmatch(text.strip().lower())
    if not match or match[2][:1] not in PARTS_OF_A_YEAR:
        return ""
    years = int(match[1]) // PARTS_OF_A_YEAR[match[2][:1]]
    return str(years) if years <= OLDEST else ""


def view(text: str) -> str:
    """PA, AP, LL and so on."""
    return text.strip().upper()
