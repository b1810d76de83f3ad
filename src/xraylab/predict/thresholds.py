"""Thresholds and temperature that the stage evaluate chose for a run on its validation images."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from xraylab import files, tables

POINTS, TEMPERATURES = "operating_points.csv", "calibration.json"


@dataclass(frozen=True)
class OperatingPoint:
    """An image counts as the class `class_` where its probability of it is at least `threshold`."""

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


def read(folder: Path, experiment: str, repeat: int) -> Thresholds:
    """Read a run's operating points and temperature from operating_points.csv and calibration.json in `folder`.

    The first has the columns experiment, repeat, class, point and threshold, the second is a list of mappings with the
    keys experiment, repeat and temperature, and class with several findings per image. A file, run or number that is
    not there is not available, and no error.
    """
    runs = files.read_json(folder / TEMPERATURES) if (folder / TEMPERATURES).is_file() else []
    matching = [run for run in runs if (run["experiment"], run["repeat"]) == (experiment, repeat)]
    of_findings = {run["class"]: run["temperature"] for run in matching if "class" in run and run.get("temperature")}
    temperature = next((run.get("temperature") for run in matching if "class" not in run), None)
    return Thresholds(_points(folder / POINTS, experiment, repeat), temperature, of_findings)


def _points(path: Path, experiment: str, repeat: int) -> list[OperatingPoint]:
    if not path.is_file():
        return []
    table = tables.read(path, ("experiment", "class", "point"))
    table["threshold"] = pd.to_numeric(table["threshold"], errors="coerce")
    matching = table[(table["experiment"] == experiment) & (table["repeat"] == repeat)].dropna(subset="threshold")
    rows = zip(matching["class"], matching["point"], matching["threshold"], strict=True)
    return [OperatingPoint(class_, point, float(threshold)) for class_, point, threshold in rows]
