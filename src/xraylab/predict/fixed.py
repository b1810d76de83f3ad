"""What `evaluate` fixed for a run on its validation images: thresholds, and the temperature of its probabilities."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from xraylab import files, tables

POINTS, TEMPERATURES = "operating_points.csv", "calibration.json"


@dataclass(frozen=True)
class Point:
    """An image counts as the class `of` where its probability of it is at least `threshold`."""

    of: str
    name: str
    threshold: float


@dataclass(frozen=True)
class Fixed:
    """Nothing, and None, where there were no validation images to fix it on."""

    points: list[Point] = field(default_factory=list)
    temperature: float | None = None


def read(folder: Path, experiment: str, repeat: int) -> Fixed:
    """What operating_points.csv and calibration.json in `folder` say of a run.

    The first has the columns experiment, repeat, of, point and threshold, the second is a list of mappings with the
    keys experiment, repeat and temperature. A file, run or number that is not there is not available, and no error.
    """
    return Fixed(_points(folder / POINTS, experiment, repeat), _temperature(folder / TEMPERATURES, experiment, repeat))


def _points(path: Path, experiment: str, repeat: int) -> list[Point]:
    if not path.is_file():
        return []
    table = tables.read(path, ("experiment", "of", "point"))
    thresholds = pd.to_numeric(table["threshold"], errors="coerce")
    ours = table.assign(threshold=thresholds)[
        (table["experiment"] == experiment) & (table["repeat"] == repeat) & thresholds.notna()
    ]
    rows = zip(ours["of"], ours["point"], ours["threshold"], strict=True)
    return [Point(of, name, float(threshold)) for of, name, threshold in rows]


def _temperature(path: Path, experiment: str, repeat: int) -> float | None:
    runs = files.read_json(path) if path.is_file() else []
    found = [run.get("temperature") for run in runs if (run["experiment"], run["repeat"]) == (experiment, repeat)]
    return found[0] if found else None
