"""What `evaluate` fixed for a run on its validation images: thresholds, and the temperature of its probabilities."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xraylab import files
from xraylab.evaluate.counts import Floats

FILE = "operating_points.json"


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
    """What `folder`/operating_points.json says of a run.

    It holds {"runs": [{experiment, repeat, temperature, points: [{of, point, threshold}, ...]}, ...]}. A file, run or
    threshold that is not there is not available, and no error.
    """
    if not (folder / FILE).is_file():
        return Fixed()
    whole = files.read_json(folder / FILE)
    runs = whole.get("runs", []) if isinstance(whole, dict) else []
    ours = [run for run in runs if (run.get("experiment"), run.get("repeat")) == (experiment, repeat)]
    return _fixed(ours[0]) if ours else Fixed()


def _fixed(run: dict[str, Any]) -> Fixed:
    known = [row for row in run.get("points", []) if row.get("threshold") is not None]
    return Fixed([Point(row["of"], row["point"], row["threshold"]) for row in known], run.get("temperature"))


def cooled(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log p / T), row by row (Guo et al., "On calibration of modern neural networks", ICML 2017)."""
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
