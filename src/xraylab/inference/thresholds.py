"""Operating points and temperature of a classifier, and what they make of its probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xraylab.errors import DataError
from xraylab.evaluate.temperature import scale

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class OperatingPoint:
    """An image counts as the class `class_` where its probability of it is at least `threshold`.

    The probability is the network's own, before temperature scaling.
    """

    class_: str
    point: str
    threshold: float


@dataclass(frozen=True)
class Thresholds:
    """Operating points and temperature; empty and None without validation images.

    With several findings per image each has its own of both.
    """

    points: list[OperatingPoint] = field(default_factory=list)
    temperature: float | None = None
    temperatures: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the operating points, each once."""
        return list(dict.fromkeys(each.point for each in self.points))

    @property
    def youden(self) -> str | None:
        """The operating point of the highest Youden index; None where it was not fixed."""
        return next((name for name in self.names if "Youden" in name), None)

    def find(self, text: str) -> str:
        """The operating point of this name, or the only one whose name contains the text, in any case.

        Errors: DataError that lists the points.
        """
        matching = [name for name in self.names if text.lower() in name.lower()]
        if text in self.names or len(matching) == 1:
            return text if text in self.names else matching[0]
        problem = "fits several operating points" if matching else "is no operating point"
        raise DataError(f"{text!r} {problem}; there are:", self.names)

    def named(self, point: str) -> dict[str, float]:
        """Class -> threshold at the operating point of this name."""
        return {each.class_: each.threshold for each in self.points if each.point == point}


def calibrate(p: Floats, classes: list[str], thresholds: Thresholds, multi_label: bool) -> Floats | None:
    """Probabilities (n, classes) scaled by the temperature, or each finding's by its own; None where one has none."""
    if not multi_label:
        return None if thresholds.temperature is None else scale(p, thresholds.temperature)
    if any(name not in thresholds.temperatures for name in classes):
        return None
    columns = [
        scale(np.column_stack([1 - p[:, number], p[:, number]]), thresholds.temperatures[name])[:, 1]
        for number, name in enumerate(classes)
    ]
    return np.column_stack(columns)


def to_json(thresholds: Thresholds) -> dict[str, Any]:
    """As `from_json` reads it."""
    points = [{"class": each.class_, "point": each.point, "threshold": each.threshold} for each in thresholds.points]
    return {
        "operating_points": points,
        "temperature": thresholds.temperature,
        "temperatures": thresholds.temperatures,
    }


def from_json(record: Mapping[str, Any]) -> Thresholds:
    """From the keys of `to_json`, whatever else is there."""
    points = [OperatingPoint(each["class"], each["point"], each["threshold"]) for each in record["operating_points"]]
    return Thresholds(points, record["temperature"], dict(record["temperatures"]))
