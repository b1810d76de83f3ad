"""Thresholds and temperature that the stage evaluate chose for a run on its validation images."""

from pathlib import Path

import pandas as pd

from xraylab import files, tables
from xraylab.inference.thresholds import OperatingPoint, Thresholds

POINTS, TEMPERATURES = "operating_points.csv", "calibration.json"


def read(folder: Path, experiment: str, repeat: int) -> Thresholds:
    """Read a run's operating points and temperature from operating_points.csv and calibration.json in `folder`.

    The first has the columns experiment, repeat, class, point and threshold, the second is a list of mappings with the
    keys experiment, repeat and temperature, and class with several findings per image. A file, run or number that is
    not there is not available, and no error. Errors: DataError where a file is not as `evaluate` wrote it.
    """
    path = folder / TEMPERATURES
    runs = files.read_json(path) if path.is_file() else []
    with files.parsing(path):
        matching = [run for run in runs if (run["experiment"], run["repeat"]) == (experiment, repeat)]
        numbers = [(run.get("class"), float(run["temperature"])) for run in matching if run.get("temperature")]
    of_findings = {class_: number for class_, number in numbers if class_ is not None}
    temperature = next((number for class_, number in numbers if class_ is None), None)
    return Thresholds(_points(folder / POINTS, experiment, repeat), temperature, of_findings)


def _points(path: Path, experiment: str, repeat: int) -> list[OperatingPoint]:
    if not path.is_file():
        return []
    table = tables.read(path, ("experiment", "class", "point"))
    table["threshold"] = pd.to_numeric(table["threshold"], errors="coerce")
    matching = table[(table["experiment"] == experiment) & (table["repeat"] == repeat)].dropna(subset="threshold")
    rows = zip(matching["class"], matching["point"], matching["threshold"], strict=True)
    return [OperatingPoint(class_, point, float(threshold)) for class_, point, threshold in rows]
